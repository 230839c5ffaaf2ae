"""Bars on a terminal, below the lines of the log."""

import logging
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bars:
    """Bars with a name, a number of a total, the time left and a text. They are drawn while at least one is open.

    Args:
        console: Terminal to draw on.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: Progress | None = None
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._open: dict[str, TaskID] = {}

    def open(self, name: str, completed: int, total: int | None, text: str = "") -> None:
        """Draw a bar; it replaces an open one of that name."""
        self.close(name)
        if self._drawn is None:
            self._drawn = _progress(self._console)
            self._drawn.start()
            self._handlers = _through_the_bars()
        self._open[name] = self._drawn.add_task(name, completed=completed, total=total, text=text)

    def update(self, name: str, completed: int, text: str = "") -> None:
        """Move an open bar."""
        if self._drawn is not None and name in self._open:
            self._drawn.update(self._open[name], completed=completed, text=text)

    def close(self, name: str) -> None:
        """Remove a bar while others are open; the last one stays on the screen, and the terminal is released."""
        if self._drawn is None or name not in self._open:
            return
        task = self._open.pop(name)
        if self._open:
            self._drawn.remove_task(task)
        else:
            self.release()

    def release(self) -> None:
        """Leave the bars as they are, and give the terminal and the log's handlers back."""
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers, self._open = [], {}
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),  # piped output must not go to the terminal
    )


def _through_the_bars() -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Redirect log handlers that were made before the bars, so that their lines appear above them.

    Returns:
        The handlers that were changed, each with its former stream.
    """
    changed = []
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stdout__, sys.__stderr__):
            redirected = sys.stdout if handler.stream is sys.__stdout__ else sys.stderr
            changed.append((handler, handler.setStream(redirected)))
    return [(handler, stream) for handler, stream in changed if stream is not None]
