"""Runs a command and prints, as JSON, the seconds that it took and the processor seconds of it and all it started.

    python benchmarks/harness/timed.py COMMAND ...

A process of its own, because it adopts what the command leaves behind (a server, a pool), whose processor time would be lost.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress

_ADOPT = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl; elsewhere what is left behind is not counted


def main(command: list[str]) -> int:
    """The command's exit status; its own output goes to the standard error stream."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0)
    start = time.perf_counter()
    status = subprocess.run(command, stdout=2, check=False).returncode
    seconds = time.perf_counter() - start
    with suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"seconds": seconds, "processor": used.ru_utime + used.ru_stime}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
