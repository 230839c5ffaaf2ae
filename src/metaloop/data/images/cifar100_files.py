"""CIFAR-100's official files (Krizhevsky 2009), read without trusting them."""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from metaloop.data.files.archives import Origin

CIFAR100 = Origin("cifar100", "none stated; made by Krizhevsky, Nair and Hinton, who ask for a citation")
FOLDER = "cifar-100-python"
ARCHIVE = "cifar-100-python.tar.gz"
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
PARTS = {"train": 500, "test": 100}  # images of every class
CLASSES = 100
SIDE = 32  # pixels
_LARGEST = 2**28  # bytes of one of its files; the largest has 155 MB


def locate(data_dir: Path) -> Path:
    """The folder ``cifar-100-python`` or the archive in ``data_dir``, which may also be that folder itself.

    Raises:
        UserError: there is neither.
    """
    for place in (data_dir / FOLDER, data_dir):
        if (place / "meta").is_file():
            return place
    archive = data_dir / ARCHIVE
    if archive.is_file():
        return archive
    raise CIFAR100.problem(data_dir, f"holds neither a folder {FOLDER} with its files train, test and meta, nor {ARCHIVE}")


def read_images(place: Path) -> dict[str, np.ndarray]:
    """The 600 images of each class, (600, 3, 32, 32) uint8, training images first, each in the order of the file.

    Args:
        place: as :func:`locate` gives it. An archive must be the official one; of a folder the contents are checked.

    Raises:
        UserError: a file is missing, broken, not what it should be, or holds objects that are not data.
    """
    contents = _unpacked(place) if place.is_file() else {name: _file(place, name) for name in ("meta", *PARTS)}
    names = _names(place, _table(place, "meta", contents["meta"]))
    parts = [_by_class(place, part, _table(place, part, contents[part]), names) for part in PARTS]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def check_archive(path: Path) -> str:
    """Says what the archive holds; raises a UserError where it is not the official one."""
    classes = read_images(path)
    return f"{len(classes)} classes of {sum(PARTS.values())} images"


def _file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CIFAR100.problem(folder / name, f"cannot be read ({error.strerror})") from error


def _unpacked(path: Path) -> dict[str, bytes]:
    """The archive's three files, in memory."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != ARCHIVE_MD5:
            raise CIFAR100.problem(path, f"is cut short or not the official archive: its MD5 is {digest}, not {ARCHIVE_MD5}")
        with tarfile.open(path, "r:gz") as archive:
            return {name: _member(path, archive, f"{FOLDER}/{name}") for name in ("meta", *PARTS)}
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise CIFAR100.problem(path, f"not a whole archive ({error})") from error


def _member(path: Path, archive: tarfile.TarFile, name: str) -> bytes:
    entry = archive.getmember(name)
    file = archive.extractfile(entry) if entry.isfile() and entry.size <= _LARGEST else None
    if file is None:
        raise CIFAR100.problem(path, f"{name} is no plain file of a credible size")
    return file.read()


def _table(place: Path, name: str, content: bytes) -> Mapping[str, Any]:
    """A pickled dict, its keys as text."""
    try:
        found = _DataOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise CIFAR100.problem(place / name, f"not a readable pickle of data ({error})") from error
    if not isinstance(found, dict):
        raise CIFAR100.problem(place / name, f"holds a {type(found).__name__}, not a dict")
    return {_text(key): value for key, value in found.items()}


def _names(place: Path, meta: Mapping[str, Any]) -> list[str]:
    names = meta.get("fine_label_names")
    if not isinstance(names, list) or len(set(map(str, names))) != CLASSES:
        raise CIFAR100.problem(place / "meta", f"does not name {CLASSES} classes under fine_label_names")
    return [_text(name) for name in names]


def _by_class(place: Path, part: str, table: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
    """The images of each class in one of the two files, (images, 3, 32, 32)."""
    data, labels = table.get("data"), table.get("fine_labels")
    images = data.numbers() if isinstance(data, _Array) else None
    if images is None or images.shape[1] != 3 * SIDE**2:
        raise CIFAR100.problem(place / part, f"data is no array of uint8 with {3 * SIDE**2} numbers an image")
    if not isinstance(labels, list) or len(labels) != len(images) or not all(isinstance(label, int) for label in labels):
        raise CIFAR100.problem(place / part, f"fine_labels is no list of {len(images)} numbers")
    found = {name: images[np.equal(labels, number)].reshape(-1, 3, SIDE, SIDE) for number, name in enumerate(names)}
    for name, own in found.items():
        if len(own) != PARTS[part]:
            raise CIFAR100.problem(place / part, f"class {name!r} has {len(own)} images, not {PARTS[part]}")
    return found


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Dtype:
    """What a pickled ``numpy.dtype`` says of itself; numpy's own code does not see it."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = _text(name)

    def __setstate__(self, state: object) -> None:
        """Byte order and the like; nothing for single bytes, which are all that is read."""


class _Array:
    """What a pickled ``numpy.ndarray`` says of itself."""

    def __init__(self) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def numbers(self) -> np.ndarray | None:
        """The array of uint8; None where it is something else or does not fit together."""
        match self.state:
            case (_, (int(rows), int(columns)), _Dtype(name="u1" | "uint8"), by_columns, bytes(raw)):
                if min(rows, columns) < 0 or rows * columns != len(raw):
                    return None
                flat = np.frombuffer(raw, np.uint8)
                return flat.reshape(columns, rows).T if by_columns else flat.reshape(rows, columns)
        return None


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("an array of another kind")
    return _Array()


def _encode(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes in the old protocols."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_ADMITTED = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _DataOnly(pickle.Unpickler):
    """Reads dicts, lists, tuples, numbers, text, bytes and arrays; every other object is refused before it is made."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}, which is not data")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("refused: it asks for objects from elsewhere")
