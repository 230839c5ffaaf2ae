"""How an episode of anomaly detection is laid out: sizes, and rows that become tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.data.tables.standardization import inputs, standardized
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Examples, Tasks, highest, lowest

MOST_LABELLED = 1_000


@dataclass(frozen=True)
class Supervision:
    """What the support sets of a split are made of beside inliers.

    Attributes:
        labelled: fewest and most labelled anomalies of an episode; their number is uniform between them.
        contamination: share of the support rows that are anomalies without a label, in [0, 0.5]; None for each data set's own.
        share: share of anomalies among the queries, in (0, 1); None for each data set's own.
    """

    labelled: tuple[int, int]
    contamination: float | None
    share: float | None

    @classmethod
    def of(cls, split: str, labelled: object, contamination: object, share: float | None) -> "Supervision":
        """Check the values of ``dataset.labelled``, ``dataset.contamination`` and ``dataset.train_share`` for a split.

        Raises:
            UserError: a value is of another type or out of range.
        """
        span = _range_of(labelled)
        if span is None:
            raise UserError(
                f"dataset.labelled.{split}={labelled!r}: a whole number of at least 0, or a range [low, high] of such"
            )
        number = None if contamination == "own" else contamination
        if number is not None and not (isinstance(number, int | float) and 0 <= number <= 0.5):
            raise UserError(f'dataset.contamination.{split}={contamination!r}: a share in [0, 0.5], or "own"')
        if share is not None and not 0 < share < 1:
            raise UserError(f"dataset.train_share={share!r}: a share above 0 and below 1, or null")
        return cls(span, number, share)

    def labels(self, stream: Stream, numbers: Tensor) -> Tensor:
        """Draw the number of labelled anomalies (tasks, 1)."""
        low, high = self.labelled
        return low + stream.integers(numbers, 1, "labelled anomalies", high - low + 1)

    def contaminating(self, rows: int, own: float) -> int:
        """Number of anomalies without a label among so many support rows, for a data set with the share ``own``."""
        return round((own if self.contamination is None else self.contamination) * rows)

    def anomalous(self, inliers: int, own: float) -> int:
        """Number of anomalies beside so many inliers among the queries, at least 1."""
        share = own if self.share is None else self.share
        return max(1, round(inliers * share / (1 - share)))


def _range_of(value: object) -> tuple[int, int] | None:
    """The range of a whole number, or of a pair of such; None if it is neither, or beyond what is allowed."""
    pair = (value, value) if type(value) is int else value
    if isinstance(pair, Sequence) and len(pair) == 2:
        low, high = pair
        if type(low) is int and type(high) is int and 0 <= low <= high <= MOST_LABELLED:
            return low, high
    return None


def shots(stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tensor:
    """Draw the number of support rows (tasks, 1) that are taken for inliers."""
    return lowest(spec.shots) + stream.integers(numbers, 1, "inliers", highest(spec.shots) - lowest(spec.shots) + 1)


def detection_tasks(support: Tensor, shown: Tensor, query: Tensor, asked: Tensor, numbers: Tensor) -> Tasks:
    """Tasks from rows of tables, in standard deviations of the support rows that are no labelled anomalies.

    Args:
        support: (tasks, rows, 1 + columns), target first, with nan for missing values and columns.
        shown: (tasks, rows) bool, which support rows are real.
        query: (tasks, queries, 1 + columns).
        asked: (tasks, queries) bool, which queries are real.
        numbers: (tasks,) numbers of the episodes.
    """
    (_, support_x), (_, query_x) = standardized(support, query, shown & (support[..., 0] < 0.5))
    examples = [
        Examples(inputs(x), rows[..., :1].float(), mask)
        for x, rows, mask in ((support_x, support, shown), (query_x, query, asked))
    ]
    return Tasks(examples[0], examples[1], numbers)


def check_size(spec: EpisodeSpec) -> None:
    """Raise a UserError unless there is one way, and shots and queries make a task."""
    if spec.ways != 1:
        raise UserError(f"{spec.said('ways')}: anomaly detection has no classes; take episode=anomalies, or ways=1")
    if lowest(spec.shots) < 2:
        raise UserError(f"{spec.said('shots')}: at least 2 inliers, whose spread is the unit of a column")
    if spec.queries < 2:
        raise UserError(f"{spec.said('queries')}: at least 2, an inlier and an anomaly")


def placed(parts: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows (n, columns) of each part padded to its size and joined, and which are real."""
    rows = [torch.nn.functional.pad(part, (0, 0, 0, size - len(part))) for part, size in zip(parts, sizes, strict=True)]
    real = [torch.arange(size, device=part.device) < len(part) for part, size in zip(parts, sizes, strict=True)]
    return torch.cat(rows), torch.cat(real)
