"""A user's own rows as a support set of anomaly detection, and as queries."""

from dataclasses import replace

import torch
from torch import Tensor

from metaloop.data.tables.standardization import inputs, standardized
from metaloop.data.user.tasks import USER_FILES, UserRows
from metaloop.errors import UserError

LEAST_INLIERS = 5
_MEANING = "1 for an anomaly, 0 or nothing for a row that is taken for an inlier"


def checked_rows(rows: UserRows, *, labelled: bool) -> UserRows:
    """The rows with labels 0 and 1; in a support set a row without a label gets 0.

    Raises:
        UserError: a label is something else, or a support set has too few inliers.
    """
    labels = []
    for label, caption in zip(rows.labels, rows.captions, strict=True):
        number = None if label is None else {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}.get(label.lower())
        if label is not None and number is None:
            raise USER_FILES.problem(rows.path, f"{caption}: the label is {label[:40]!r}; write {_MEANING}")
        labels.append(str(number) if number is not None else "0" if labelled else None)
    inliers = labels.count("0")
    if labelled and inliers < LEAST_INLIERS:
        fault = "no inlier" if not inliers else f"{inliers} inliers"
        raise UserError(
            f"{rows.path} has {fault} among {len(rows)} rows; at least {LEAST_INLIERS} rows without an anomaly are needed, "
            f"since anomalies are told by their difference from them; label 1 is an anomaly, 0 or nothing an inlier"
        )
    return replace(rows, labels=tuple(labels))


def detection_inputs(support: Tensor, targets: Tensor | None, query: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs of support and query, (1, rows, 2, columns) each, in standard deviations of the inliers.

    Args:
        support: (1, rows, columns) float64 with nan for missing values.
        targets: (1, rows), 1 for labelled anomalies; None for none.
        query: (1, queries, columns).
    """
    y = support.new_zeros(support.shape[:2]) if targets is None else targets.to(support.dtype)
    rows = torch.cat([y[..., None], support], -1)
    asked = torch.cat([query.new_zeros(*query.shape[:2], 1), query], -1)
    (_, support_x), (_, query_x) = standardized(rows, asked, y < 0.5)
    return inputs(support_x), inputs(query_x)
