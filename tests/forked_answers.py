"""What the command line answers to each of several mistakes: a fresh process forks for each, so that imports are seen.

Reads a list of lists of words as JSON from standard input and writes a list of dicts with ``code``, ``error`` (standard error),
``left`` (files that were made) and ``imported`` (slow packages).
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import metaloop.cli.sweep
import metaloop.cli.train  # noqa: F401 -- imported once for all
from metaloop.cli.main import main

SLOW = ("torch", "pytorch_lightning", "matplotlib", "transformers")


def answer(words: list[str]) -> dict[str, object]:
    """Answer in this process, in an empty working folder but for a CSV file and an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("few.csv").write_text("text,label\n" + "".join(f"{word} {i},{word}\n" for word in "abc" for i in range(3)))
        Path("pictures").mkdir()
        before = set(Path().rglob("*"))
        error, screen = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(screen):
            code = main(words)
        left = sorted(map(str, set(Path().rglob("*")) - before))
        os.chdir("/")
    return {"code": code, "error": error.getvalue(), "left": left, "imported": [name for name in SLOW if name in sys.modules]}


def forked(words: list[str]) -> dict[str, object]:
    """Answer in a fork of this process."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        with os.fdopen(writer, "w") as file:
            json.dump(answer(words), file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        content = file.read()
    os.wait()
    return dict(json.loads(content))


if __name__ == "__main__":
    print(json.dumps([forked(words) for words in json.load(sys.stdin)]))
