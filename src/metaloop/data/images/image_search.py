"""Search for images in folders and zip archives. What is skipped is named and counted, and pipes are never opened."""

import logging
import os
import re
import stat
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from metaloop.data.files.archives import Origin, open_archive
from metaloop.data.images.image_files import Entry, FileEntry, ZipEntry

log = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
_NO_IMAGES = (".txt", ".xml", ".json", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".py")  # not opened: there may be many
_USUAL_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,4}")  # names the kind of a file, unlike that of IMG_0.5
_STARTS = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP", re.DOTALL)
_VAGUE_STARTS = re.compile(rb"II\*\0|MM\0\*|P[1-6]\s|BM....\0\0\0\0", re.DOTALL)  # TIFF also begins the raw files of cameras
_LONGEST_START = 16  # bytes
_NAMED = 5  # skipped files that a message names
_TWICE = "lead to what is read already, or to a folder around this one"
_NOWHERE = "lead nowhere"
_SPECIAL = "are no files, but pipes, devices or sockets"

Identity = tuple[int, int]  # device and number of a file


@dataclass
class _Search:
    """What was found; all names are paths relative to the searched folder or archive.

    Attributes:
        images: the images.
        folders: all folders.
        others: files that are no images.
        skipped: what was not read, by the reason.
    """

    images: dict[str, Entry] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, entry: Entry, start: Callable[[], bytes]) -> None:
        """Add a file; ``start`` reads its first bytes."""
        if _is_image(name, start):
            self.images[name] = entry
        else:
            self.others.append(name)

    def skip(self, name: str, reason: str) -> None:
        """Note what is not read."""
        self.skipped.setdefault(reason, []).append(name)


def find_images(path: Path, origin: Origin) -> dict[str, Entry]:
    """Find all images of a folder or zip archive, by their relative paths (``/`` between folders), sorted.

    A file with a suffix of its own is an image if its first bytes say so. Links are followed after all else, each file and
    folder is read once, and hidden files are ignored. Warnings name what is skipped, and folders that hold no image.

    Raises:
        UserError: the folder or archive is missing, broken, or holds no image.
    """
    search = _FolderSearch(path, origin).found if path.is_dir() else _in_archive(path, origin)
    _tell(path, search)
    if not search.images:
        raise origin.problem(path, f"holds no images ({', '.join(SUFFIXES)})")
    return dict(sorted(search.images.items()))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str, start: Callable[[], bytes]) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 -- a path object for each of many images takes seconds
    if suffix in SUFFIXES or suffix in _NO_IMAGES:
        return suffix in SUFFIXES
    begin = start()
    return bool(_STARTS.match(begin) or (not _USUAL_SUFFIX.fullmatch(suffix) and _VAGUE_STARTS.match(begin)))


class _FolderSearch:
    """Search of a folder: first all that lies in it, then what links lead to, so that of two places the real one counts.

    Attributes:
        found: the result.
    """

    def __init__(self, root: Path, origin: Origin) -> None:
        self.found = _Search()
        self._root, self._origin = root, origin
        self._read = {_identity(folder.stat()) for folder in root.resolve().parents}  # folders and files
        self._linked: set[Identity] = set()  # files to which a link led
        self._links: deque[tuple[str, str]] = deque()
        self._search(str(root), "")
        while self._links:
            self._follow(*self._links.popleft())

    def _search(self, place: str, name: str) -> None:
        """Search the folder ``place``, which lies at or is linked from ``name``, without following links."""
        waiting = [(place, name)]
        while waiting:
            place, name = waiting.pop()
            device, number = _identity(Path(place).stat())
            if (device, number) in self._read:
                self.found.skip(name, _TWICE)
                continue
            self._read.add((device, number))
            self.found.folders.append(name)
            for entry, child in self._children(place, name):
                if entry.is_symlink():
                    self._links.append((entry.path, child))
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, child))
                elif entry.is_file(follow_symlinks=False):
                    self._add(entry.path, child, (device, entry.inode()))
                else:
                    self.found.skip(child, _SPECIAL)

    def _children(self, place: str, name: str) -> Iterator[tuple["os.DirEntry[str]", str]]:
        """What lies in a folder, with its relative path."""
        try:
            with os.scandir(place) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise self._origin.problem(self._root, f"folder {name or '.'} cannot be read ({error.strerror})") from error
        for entry in entries:
            child = f"{name}/{entry.name}" if name else entry.name
            if not child.isprintable() and _is_broken(child):
                raise self._origin.problem(self._root, f"the name {child!a} is not UTF-8; rename it")
            if not _is_hidden(entry.name):
                yield entry, child

    def _add(self, place: str, name: str, identity: Identity) -> None:
        if identity in self._linked:
            self.found.skip(name, _TWICE)
            return
        self._read.add(identity)
        self.found.add(name, FileEntry(place), lambda: _start(place))

    def _follow(self, place: str, name: str) -> None:
        try:
            state = Path(place).stat()
        except (OSError, RuntimeError):  # dangling, or a circle of links
            self.found.skip(name, _NOWHERE)
            return
        identity = _identity(state)
        if identity in self._read:
            self.found.skip(name, _TWICE)
        elif stat.S_ISDIR(state.st_mode):
            self._search(place, name)
        elif stat.S_ISREG(state.st_mode):
            self._add(place, name, identity)
            self._linked.add(identity)
        else:
            self.found.skip(name, _SPECIAL)


def _identity(state: os.stat_result) -> Identity:
    return state.st_dev, state.st_ino


def _is_broken(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _start(place: str) -> bytes:
    try:
        with Path(place).open("rb") as file:
            return file.read(_LONGEST_START)
    except OSError:
        return b""


def _in_archive(path: Path, origin: Origin) -> _Search:
    found = _Search()
    with open_archive(path, origin) as archive:
        for info in archive.infolist():
            name = info.filename.replace("\\", "/").rstrip("/")
            if any(map(_is_hidden, PurePosixPath(name).parts)):
                continue
            if info.is_dir():
                found.folders.append(name)
            elif name in found.images:
                raise origin.problem(path, f"holds two files of the name {name!r}")
            else:
                found.add(name, _zip_entry(path, info), partial(_zip_start, archive, info))
    found.folders += {str(PurePosixPath(name).parent) for name in found.others} - {"."}
    return found


def _zip_entry(path: Path, info: zipfile.ZipInfo) -> ZipEntry:
    sizes = (info.header_offset, info.compress_size, info.file_size)
    return ZipEntry(str(path), *sizes, info.compress_type, info.flag_bits, info.CRC)


def _zip_start(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        return file.read(_LONGEST_START)


def _tell(path: Path, search: _Search) -> None:
    """Log what is no part of the result."""
    for reason, names in search.skipped.items():
        log.warning("%s: %s skipped that %s: %s", path, len(names), reason, _first(sorted(names)))
    folders = {name.rpartition("/")[0] for name in search.images}
    with_images = folders | {str(parent) for name in folders for parent in PurePosixPath(name).parents}
    without = {name for name in search.folders if name and name not in with_images}
    outermost = sorted(name for name in without if not without & {str(parent) for parent in PurePosixPath(name).parents})
    if outermost and search.images:
        log.warning("%s: %s folders hold no image that can be read: %s", path, len(outermost), _first(outermost))
    if search.others:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in search.others).most_common(_NAMED)
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds)
        log.info("%s: %s other files are ignored (%s): %s", path, len(search.others), counts, _first(sorted(search.others)))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
