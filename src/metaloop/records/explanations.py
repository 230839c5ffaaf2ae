"""explanation.json of a run directory: which features matter to the learner, and its decision tree."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from metaloop.records.typed_json import decode, read_object
from metaloop.records.writing import write_json

EXPLANATION = "explanation.json"


@dataclass(frozen=True)
class KeptExplanation:
    """What a learner says about itself.

    Attributes:
        examples: number of examples that it was fitted to.
        importances: how much each feature matters, as shares, most important first; empty if unknown.
        tree: lines of a printed decision tree; empty for a learner without one.
    """

    examples: int
    importances: Mapping[str, float]
    tree: tuple[str, ...]


def write_explanation(directory: Path, explanation: KeptExplanation) -> None:
    """Write explanation.json."""
    write_json(directory / EXPLANATION, asdict(explanation))


def read_explanation(directory: Path) -> KeptExplanation | None:
    """Read explanation.json; None if the run has none.

    Raises:
        UserError: the file is broken.
    """
    path = directory / EXPLANATION
    if not path.exists():
        return None
    return decode(KeptExplanation, read_object(path, "explanation"), str(path))
