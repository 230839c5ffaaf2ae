"""Reading of CIFAR-100's official files (Krizhevsky 2009), without trusting them."""

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
PARTS = {"train": 500, "test": 100}  # number of images of every class
CLASSES = 100
SIDE = 32  # pixels
_MAX_BYTES = 2**28  # of one file in the archive; the largest has 155 MB


def locate(data_dir: Path) -> Path:
    """Find the folder ``cifar-100-python`` or the archive in ``data_dir``, which may also be that folder itself.

    Raises:
        UserError: there is neither.
    """
    for folder in (data_dir / FOLDER, data_dir):
        if (folder / "meta").is_file():
            return folder
    archive = data_dir / ARCHIVE
    if archive.is_file():
        return archive
    raise CIFAR100.problem(data_dir, f"holds neither a folder {FOLDER} with its files train, test and meta, nor {ARCHIVE}")


def read_images(path: Path) -> dict[str, np.ndarray]:
    """Read the 600 images of each class, (600, 3, 32, 32) uint8, training images first, in the order of the files.

    Args:
        path: path from :func:`locate`. An archive must be the official one; a folder is checked by its contents.

    Raises:
        UserError: a file is missing or broken, has unexpected contents, or holds objects that are not data.
    """
    contents = _unpack(path) if path.is_file() else {name: _read_file(path, name) for name in ("meta", *PARTS)}
    names = _class_names(path, _unpickle(path, "meta", contents["meta"]))
    parts = [_by_class(path, part, _unpickle(path, part, contents[part]), names) for part in PARTS]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def check_archive(path: Path) -> str:
    """Describe the archive's content; raise a UserError if it is not the official archive."""
    classes = read_images(path)
    return f"{len(classes)} classes of {sum(PARTS.values())} images"


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CIFAR100.problem(folder / name, f"cannot be read ({error.strerror})") from error


def _unpack(path: Path) -> dict[str, bytes]:
    """Read the archive's three files into memory."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != ARCHIVE_MD5:
            raise CIFAR100.problem(path, f"is truncated or not the official archive: its MD5 is {digest}, not {ARCHIVE_MD5}")
        with tarfile.open(path, "r:gz") as archive:
            return {name: _member(path, archive, f"{FOLDER}/{name}") for name in ("meta", *PARTS)}
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise CIFAR100.problem(path, f"is not a complete archive ({error})") from error


def _member(path: Path, archive: tarfile.TarFile, name: str) -> bytes:
    entry = archive.getmember(name)
    file = archive.extractfile(entry) if entry.isfile() and entry.size <= _MAX_BYTES else None
    if file is None:
        raise CIFAR100.problem(path, f"{name} is not a plain file of a plausible size")
    return file.read()


def _unpickle(path: Path, name: str, content: bytes) -> Mapping[str, Any]:
    """Load a pickled dict, with its keys as text."""
    try:
        table = _DataUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise CIFAR100.problem(path / name, f"not a readable pickle of data ({error})") from error
    if not isinstance(table, dict):
        raise CIFAR100.problem(path / name, f"holds a {type(table).__name__}, not a dict")
    return {_text(key): value for key, value in table.items()}


def _class_names(path: Path, meta: Mapping[str, Any]) -> list[str]:
    names = meta.get("fine_label_names")
    if not isinstance(names, list) or len(set(map(str, names))) != CLASSES:
        raise CIFAR100.problem(path / "meta", f"does not name {CLASSES} classes under fine_label_names")
    return [_text(name) for name in names]


def _by_class(path: Path, part: str, table: Mapping[str, Any], names: list[str]) -> dict[str, np.ndarray]:
    """The images (images, 3, 32, 32) of each class in one of the two files."""
    data, labels = table.get("data"), table.get("fine_labels")
    images = data.numbers() if isinstance(data, _PickledArray) else None
    if images is None or images.shape[1] != 3 * SIDE**2:
        raise CIFAR100.problem(path / part, f"data is not an array of uint8 with {3 * SIDE**2} numbers an image")
    if not isinstance(labels, list) or len(labels) != len(images) or not all(isinstance(label, int) for label in labels):
        raise CIFAR100.problem(path / part, f"fine_labels is not a list of {len(images)} numbers")
    classes = {name: images[np.equal(labels, number)].reshape(-1, 3, SIDE, SIDE) for number, name in enumerate(names)}
    for name, members in classes.items():
        if len(members) != PARTS[part]:
            raise CIFAR100.problem(path / part, f"class {name!r} has {len(members)} images, not {PARTS[part]}")
    return classes


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _PickledDtype:
    """Stands for a pickled ``numpy.dtype``, so that no code of numpy handles untrusted data."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = _text(name)

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and the like, which mean nothing for uint8, the only type that is read."""


class _PickledArray:
    """Stands for a pickled ``numpy.ndarray``."""

    def __init__(self) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def numbers(self) -> np.ndarray | None:
        """The array (rows, columns) of uint8; None if the pickle is of another type or inconsistent."""
        match self.state:
            case (_, (int(rows), int(columns)), _PickledDtype(name="u1" | "uint8"), by_columns, bytes(raw)):
                if min(rows, columns) < 0 or rows * columns != len(raw):
                    return None
                flat = np.frombuffer(raw, np.uint8)
                return flat.reshape(columns, rows).T if by_columns else flat.reshape(rows, columns)
        return None


def _reconstruct(array_type: object, *_: object) -> _PickledArray:
    if array_type is not _PickledArray:
        raise pickle.UnpicklingError("an array of another type")
    return _PickledArray()


def _encode(text: object, encoding: object) -> bytes:
    """Decode the form in which Python 3 pickles bytes in old protocols."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _encode,
}


class _DataUnpickler(pickle.Unpickler):
    """Unpickles dicts, lists, tuples, numbers, text, bytes and arrays. It refuses every other object before creating it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"refused: it needs {module}.{name}, which is not data")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("refused: it needs objects from outside the file")
