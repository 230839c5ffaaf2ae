"""A user's own table as a table of episodes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metaloop.data.labels import tell_alike
from metaloop.data.tables.standardization import column_statistics, inputs, standardized
from metaloop.data.tables.table_reading import DataTable
from metaloop.data.user.row_files import TABLES
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import USER_FILES, Columns, TargetScale, numbers
from metaloop.types import Inputs


def is_own(name: str) -> bool:
    """Whether the name of a table is that of a user's file."""
    return Path(name).suffix.lower() in TABLES


def read_own_table(name: str, columns: Columns, *, has_classes: bool) -> DataTable:
    """Read a user's file, whose columns are encoded by what it holds (:mod:`metaloop.data.user.encoding`).

    Args:
        name: path of the file.
        columns: names of its columns.
        has_classes: whether the labels are classes, numbered in alphabetical order. Else they are targets.

    Raises:
        UserError: the file is missing or broken, or a row has no label or a wrong one.
    """
    path = Path(name).expanduser()
    rows = read_user_table(path, columns, None, labelled=True)
    missing = next((caption for caption, label in zip(rows.captions, rows.labels, strict=True) if label is None), None)
    if missing is not None:
        raise USER_FILES.problem(path, f"{missing} has no label; every row needs one")
    assert isinstance(rows.inputs, Tensor)
    if not has_classes:
        return DataTable(name, rows.inputs.numpy(), np.array(numbers(rows)), None)
    labels = [str(label) for label in rows.labels]
    classes = sorted(set(labels))
    tell_alike(classes, path.name)
    numbered = {label: number for number, label in enumerate(classes)}
    return DataTable(name, rows.inputs.numpy(), np.array([numbered[label] for label in labels]), len(classes))


def own_inputs(
    support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
) -> tuple[Tensor, Tensor, TargetScale | None]:
    """See :meth:`metaloop.data.user.tasks.UserFileDataset.user_inputs`; columns get the support set's units."""
    assert isinstance(support, Tensor)
    assert isinstance(query, Tensor)
    y = support.new_zeros(support.shape[:2]) if targets is None else targets
    rows = torch.cat([y[..., None], support], -1)
    query_rows = torch.cat([query.new_zeros(*query.shape[:2], 1), query], -1)
    (_, support_x), (_, query_x) = standardized(rows, query_rows, mask)
    _, mean, unit, _ = column_statistics(rows, mask)
    scale = None if targets is None else TargetScale(mean[0, 0, 0].item(), unit[0, 0, 0].item())
    return inputs(support_x), inputs(query_x), scale
