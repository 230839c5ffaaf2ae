"""Small synthetic pictures, and files of image data sets in their official formats."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(mark: int, size: tuple[int, int] = (12, 12), kind: str = "PNG") -> bytes:
    """A picture of one grey that says ``mark`` (modulo 256)."""
    packed = io.BytesIO()
    Image.new("RGB", size, (mark % 256,) * 3).save(packed, kind)
    return packed.getvalue()


def entries(classes: int = 6, each: int = 4, root: str = "pictures/") -> dict[str, bytes]:
    """Write pictures; picture e of class c has the mark 10 c + e."""
    return {f"{root}class{c}/{e}.png": picture(10 * c + e) for c in range(classes) for e in range(each)}


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def cifar_tables(names: list[str], each: dict[str, int]) -> dict[str, dict[bytes, Any]]:
    """What the three official pickles hold; images of class c are full of c, test images of c + 100."""
    tables: dict[str, dict[bytes, Any]] = {"meta": {b"fine_label_names": [name.encode() for name in names]}}
    for part, count in each.items():
        labels = [c for _ in range(count) for c in range(len(names))]  # classes mixed, as in the official files
        data = np.array([np.full(3072, c + 100 * (part == "test"), np.uint8) for c in labels])
        tables[part] = {b"data": data, b"fine_labels": labels, b"batch_label": part.encode()}
    return tables


def write_cifar(folder: Path, tables: dict[str, dict[bytes, Any]], protocol: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        (folder / name).write_bytes(pickle.dumps(table, protocol=protocol))
    return folder
