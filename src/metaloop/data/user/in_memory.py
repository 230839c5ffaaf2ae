"""A user's examples in memory, written to a temporary file so that they are prepared in the same way as files."""

import csv
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError


@contextmanager
def as_file(examples: Sequence[object] | np.ndarray, columns: Columns, features: Sequence[str]) -> Iterator[Path]:
    """Write examples to a temporary file, or a folder of images, which is deleted at the end of the block.

    Args:
        examples: texts; or images, each uint8 (height, width) or (height, width, 3); or a table, cells (rows, columns).
        columns: names of the columns, of which the one for texts is used.
        features: names of the feature columns of a table, in order; empty for other data.

    Raises:
        UserError: the examples have none of these forms.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if features:
            yield _table(examples, features, folder)
        elif len(examples) and all(isinstance(example, str) for example in examples):
            yield _texts(examples, columns, folder)
        else:
            yield _images(examples, folder)


def _texts(examples: Sequence[object] | np.ndarray, columns: Columns, folder: Path) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({columns.text: str(text)}) + "\n" for text in examples), encoding="utf-8")
    return path


def _table(examples: Sequence[object] | np.ndarray, features: Sequence[str], folder: Path) -> Path:
    rows = np.asarray(examples)
    if rows.ndim != 2 or rows.shape[1] != len(features) or rows.dtype.kind not in "iufbUO":
        raise UserError(
            f"examples of shape {rows.shape} and type {rows.dtype} must be numbers (rows, {len(features)}), with the columns "
            f"{', '.join(features)} of the support set"
        )
    path = folder / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(features)
        writer.writerows(["" if value is None or value != value else value for value in row] for row in rows.tolist())
    return path


def _images(examples: Sequence[object] | np.ndarray, folder: Path) -> Path:
    for number, example in enumerate(examples):
        pixels = np.asarray(example)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            raise UserError(
                f"example {number} of shape {pixels.shape} and type {pixels.dtype} must be a text, or uint8 pixels "
                f"(height, width) or (height, width, 3)"
            )
        Image.fromarray(pixels).save(folder / f"{number:08}.png")
    return folder
