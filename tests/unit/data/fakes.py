"""Small archives in the official layouts, made for a test."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def png(mark: int, side: int = 105) -> bytes:
    """A black and white drawing that differs for every ``mark``: a bar as wide as its number, with its bits above."""
    pixels = np.ones((side, side), bool)
    pixels[60:90, 10 : 15 + mark % 80] = False
    for bit in range(12):
        pixels[10:20, 5 + 8 * bit : 10 + 8 * bit] = not mark >> bit & 1
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


def write_zip(path: Path, entries: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def characters(part: str, names: tuple[str, ...], drawings: int = 20) -> dict[str, bytes]:
    """Entries of images_<part>.zip; drawing d of character c bears the mark 20 c + d."""
    return {
        f"images_{part}/{name}/{c:04d}_{d + 1:02d}.png": png(20 * c + d)
        for c, name in enumerate(names)
        for d in range(drawings)
    }


def runs(shift: int = 7) -> dict[str, bytes]:
    """Entries of all_runs.zip: class k of a run bears mark 20 run + k, test item k shows class k + shift."""
    entries: dict[str, bytes] = {}
    for run in range(20):
        folder, lines = f"run{run + 1:02d}", []
        for k in range(20):
            answer = (k + shift) % 20
            entries[f"{folder}/training/class{k + 1:02d}.png"] = png(20 * run + k)
            entries[f"{folder}/test/item{k + 1:02d}.png"] = png(20 * run + answer)
            lines.append(f"{folder}/test/item{k + 1:02d}.png {folder}/training/class{answer + 1:02d}.png\n")
        entries[f"{folder}/class_labels.txt"] = "".join(lines).encode()
    return entries
