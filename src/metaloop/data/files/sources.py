"""What can be downloaded: where it lies, how it is fetched and how a copy is checked."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from metaloop.data.files.source_files import Source, SourceFile
from metaloop.data.images.cifar100_files import ARCHIVE, CIFAR100, URL, check_archive
from metaloop.data.images.omniglot_archives import OMNIGLOT, ORIGINAL_SIDE, archive_name, read_characters, read_runs
from metaloop.data.texts.text_sources import TEXT_SOURCES
from metaloop.errors import UserError

_TIMEOUT = 10.0  # seconds without an answer
_CHUNK = 2**16  # bytes

Progress = Callable[[str, int, int | None], None]  # file name, bytes so far, bytes in all where known


@dataclass(frozen=True)
class FileState:
    """A file of a source on this machine.

    Attributes:
        source: its name.
        path: where it lies or should.
        licence: of the source.
        size: in bytes; None where there is no such file.
        sound: whether its contents are right; None where nobody looked.
        message: what it holds or what is wrong.
    """

    source: str
    path: Path
    licence: str
    size: int | None
    sound: bool | None
    message: str


def _check_part(part: str) -> Callable[[Path], str]:
    def check(path: Path) -> str:
        # Contents are compared, not archives: the same images are about in archives with other checksums.
        images = read_characters(path, part, ORIGINAL_SIDE, "nearest")
        return f"{len(images):,} characters, {images.shape[1]} drawings each"

    return check


def _check_runs(path: Path) -> str:
    training, test = read_runs(path, ORIGINAL_SIDE, "nearest")
    return f"{len(training)} runs, {training.shape[1]} training and {test.shape[1]} test drawings each"


_LAKE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
SOURCES = {
    "omniglot": Source(
        OMNIGLOT,
        "Omniglot and its one-shot classification task (Lake et al. 2015)",
        (
            SourceFile(archive_name("background"), f"{_LAKE}/images_background.zip", 9.5, _check_part("background")),
            SourceFile(archive_name("evaluation"), f"{_LAKE}/images_evaluation.zip", 6.5, _check_part("evaluation")),
            SourceFile("all_runs.zip", f"{_LAKE}/one-shot-classification/all_runs.zip", 0.4, _check_runs),
        ),
    ),
    **TEXT_SOURCES,
    "cifar100": Source(
        CIFAR100,
        "CIFAR-100 (Krizhevsky 2009), of CIFAR-FS and FC100",
        (SourceFile(ARCHIVE, URL, 169.0, check_archive),),
        instead="cifar100/cifar-100-python",
    ),
}


def find(name: str) -> Source:
    """The source of this name.

    Raises:
        UserError: there is none.
    """
    if name not in SOURCES:
        raise UserError(f"{name!r} is not a data set that can be downloaded; these are: {', '.join(SOURCES)}")
    return SOURCES[name]


def status(data_dir: str | Path) -> list[FileState]:
    """Which files of which sources are there; their contents are not read."""
    states = []
    for source in SOURCES.values():
        other = Path(data_dir).expanduser() / source.instead
        for file in source.files:
            path = _place(source, file, data_dir)
            if source.instead and other.exists() and not path.is_file():
                found = FileState(
                    source.origin.name, other, source.origin.licence, _bytes(other), None, f"instead of {file.name}"
                )
                states.append(found)
                continue
            size = path.stat().st_size if path.is_file() else None
            message = "present" if size is not None else _offer(file)
            states.append(FileState(source.origin.name, path, source.origin.licence, size, None, message))
    return states


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def verify(name: str, data_dir: str | Path) -> list[FileState]:
    """Read every file of a source to the end and say for each what it holds or what is wrong.

    Raises:
        UserError: there is no such source.
    """
    source = find(name)
    return [_verified(source, file, _place(source, file, data_dir)) for file in source.files]


def get(name: str, data_dir: str | Path, progress: Progress | None = None) -> list[FileState]:
    """Download the files of a source that are missing or broken; the others are left as they are.

    Raises:
        UserError: there is no such source, it cannot be reached, what came is not what was expected, or the folder
            cannot be written.
    """
    source = find(name)
    states = []
    for file in source.files:
        path = _place(source, file, data_dir)
        state = _verified(source, file, path)
        if not state.sound:
            fetch(file, path, progress)
            state = _verified(source, file, path)
        states.append(state)
    return states


def fetch(file: SourceFile, path: Path, progress: Progress | None = None) -> None:
    """Download one file beside ``path``, check its contents and only then give it its name.

    Raises:
        UserError: as for :func:`get`.
    """
    by_hand = f"Without a network put that file into {path.parent} by hand"
    partial = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # it could be a link
        with partial.open("wb") as target:
            _download(file, target.write, progress)
        file.check(partial)
        partial.replace(path)
    except UserError as error:
        raise UserError(f"{file.url} did not give the expected file: {error}. {by_hand}") from error
    except HTTPError as error:
        raise UserError(f"{file.url} answered {error.code} {error.reason}. {by_hand}") from error
    except (
        OSError,
        HTTPException,
    ) as error:  # no route, no name, time-out, broken off; or a folder that cannot be written
        raise UserError(f"{file.url} could not be saved as {path} ({error}). {by_hand}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _download(file: SourceFile, write: Callable[[bytes], int], progress: Progress | None) -> None:
    request = Request(file.url, headers={"User-Agent": "metaloop"})
    with urlopen(request, timeout=_TIMEOUT) as answer:
        length = answer.headers.get("Content-Length")
        total, done = int(length) if length else None, 0
        while chunk := answer.read(_CHUNK):
            write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(file.name, done, total)


def _offer(file: SourceFile) -> str:
    return file.url if file.megabytes is None else f"about {file.megabytes} MB, {file.url}"


def _place(source: Source, file: SourceFile, data_dir: str | Path) -> Path:
    return Path(data_dir).expanduser() / source.folder / file.name


def _verified(source: Source, file: SourceFile, path: Path) -> FileState:
    size = path.stat().st_size if path.is_file() else None
    try:
        message, sound = file.check(path), True
    except UserError as error:
        message, sound = str(error), False
    return FileState(source.origin.name, path, source.origin.licence, size, sound, message)
