"""Run a command and print, as JSON, its seconds and the processor seconds of the command and all its descendants.

    python benchmarks/harness/timed.py COMMAND ...

This is a separate process because it adopts processes that outlive the command (a server, a pool) to count their time too.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress

_ADOPT = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl; on other systems, processes that outlive the command are not counted


def main(command: list[str]) -> int:
    """Run the command and return its exit status; its output goes to the standard error stream."""
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
