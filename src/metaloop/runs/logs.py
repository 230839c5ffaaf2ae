"""Where a run's log goes: to the screen, to files, in this process and in the first of its ranks."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"  # Hydra's


@dataclass(frozen=True)
class Logs:
    """Places of the log, as plain data that another process can take over.

    Attributes:
        files: Files that lines are added to.
        screen: Whether lines go to standard output.
    """

    files: tuple[Path, ...]
    screen: bool

    @classmethod
    def of_this_process(cls) -> "Logs":
        """Where the root logger of this process writes now."""
        handlers = logging.getLogger().handlers
        files = tuple(Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler))
        return cls(files, any(type(handler) is logging.StreamHandler for handler in handlers))

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write the log to these places during the block."""
        root, before = logging.getLogger(), logging.getLogger().level
        handlers: list[logging.Handler] = [logging.FileHandler(path) for path in self.files]
        if self.screen:
            handlers.append(logging.StreamHandler(sys.stdout))
        for handler in handlers:
            handler.setFormatter(logging.Formatter(_FORMAT))
            root.addHandler(handler)
        if handlers:
            root.setLevel(logging.INFO)
        try:
            yield
        finally:
            root.setLevel(before)
            for handler in handlers:
                root.removeHandler(handler)
                handler.close()
