"""What a data set that can be downloaded is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaloop.data.files.archives import Origin


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: in the source's folder.
        url: the official address.
        megabytes: about; None where nobody knows.
        check: reads the whole file, says what it holds, raises a UserError where that is not what it should be.
    """

    name: str
    url: str
    megabytes: float | None
    check: Callable[[Path], str]


@dataclass(frozen=True)
class Source:
    """A data set that is downloaded file by file.

    Attributes:
        origin: says its name.
        title: and the paper.
        files: all of it.
        place: the folder below ``data_dir``; empty for one of the source's name.
        instead: a path below ``data_dir`` that is read where it lies there, such as the files packed or unpacked; may be empty.
    """

    origin: Origin
    title: str
    files: tuple[SourceFile, ...]
    place: str = ""
    instead: str = ""

    @property
    def folder(self) -> str:
        """Below ``data_dir``."""
        return self.place or self.origin.name
