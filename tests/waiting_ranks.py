"""A program of two ranks that wait for ever: ``python waiting_ranks.py FOLDER stuck|free``."""

import ctypes
import os
import signal
import sys
from pathlib import Path

from metaloop.config.exit_codes import run_and_exit_code
from metaloop.training.processes import ranks


def wait(folder: str, how: str) -> None:
    """Write the number of this process to ``rankN`` and wait; if "stuck", as a library does that hears no signals."""
    if how == "stuck":
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    part = Path(folder, f"part{os.environ['RANK']}")
    part.write_text(str(os.getpid()))
    part.rename(Path(folder, f"rank{os.environ['RANK']}"))
    while True:
        ctypes.CDLL(None).pause()


def main(argv: list[str]) -> int:
    ranks._GRACE = 10.0 if argv[1] == "free" else 0.1
    ranks.launch(wait, 2, *argv)
    return 0


if __name__ == "__main__":
    sys.exit(run_and_exit_code(main, sys.argv[1:]))
