"""Records of studies: few trainings with many evaluations, kept as one small file of facts and one table of scores."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.schema import Hardware
from metaloop.records.tables import Array
from metaloop.records.typed_json import decode
from metaloop.system.files import write_atomically

FACTS, SCORES = "study.json", "scores.csv"
_INDEX = "index"


@dataclass(frozen=True)
class StudiedRun:
    """One training of a study.

    Attributes:
        settings: Overrides that tell the study's trainings apart, by key.
        overrides: All overrides of the training.
        seed: Its seed.
        steps: Outer steps taken.
        meta_batch: Tasks in each.
        wall_seconds, cpu_seconds: Times of the training; None if not measured.
        hardware: The machine.
        commit: Commit of the code; None outside a checkout.
        inspection: What ``metaloop inspect`` measured, as plain data; None if it was not inspected.
    """

    settings: Mapping[str, str]
    overrides: tuple[str, ...]
    seed: int
    steps: int
    meta_batch: int
    wall_seconds: float | None
    cpu_seconds: float | None
    hardware: Hardware
    commit: str | None
    inspection: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a training.

    Attributes:
        run: Number of the training in the study.
        settings: Overrides of the evaluation, by key.
        column: Its column in the table of scores.
        setting: Kind of episodes, such as ``5-way 1-shot``.
        queries: Queries a class.
        steps: Inner steps; None for learners that take none.
        norm_mode: Where norm layers take their statistics from.
        transductive: Whether queries of an episode see each other.
        start: Mean score before adaptation; None for learners that take no inner steps.
    """

    run: int
    settings: Mapping[str, str]
    column: str
    setting: str
    queries: int
    steps: int | None
    norm_mode: str
    transductive: bool
    start: float | None


@dataclass(frozen=True)
class Facts:
    """Everything about a study but its scores; the content of ``study.json``.

    Attributes:
        study: Name of the study.
        command: The command that made it.
        metric: Metric of the scores.
        runs: The trainings.
        evaluations: The evaluations of all trainings.
    """

    study: str
    command: tuple[str, ...]
    metric: Metric
    runs: tuple[StudiedRun, ...]
    evaluations: tuple[Evaluated, ...]


@dataclass(frozen=True)
class StudyRecord:
    """A study with its scores.

    Attributes:
        facts: What was trained and evaluated.
        scores: (episodes,) scores of each evaluation, by its column; the score at place i is that of episode number i.
    """

    facts: Facts
    scores: Mapping[str, Array]

    def settings(self, one: Evaluated) -> dict[str, str]:
        """All settings of an evaluation: those of its training, overridden by its own."""
        return {**self.facts.runs[one.run].settings, **one.settings}


def write_study(folder: Path, record: StudyRecord) -> None:
    """Write the two files of a study."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FACTS, json.dumps(asdict(record.facts), indent=1) + "\n")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_INDEX, *record.scores])
    length = max((len(scores) for scores in record.scores.values()), default=0)
    for index in range(length):
        cells = [f"{scores[index]:.6g}" if index < len(scores) else "" for scores in record.scores.values()]
        writer.writerow([index, *cells])
    write_atomically(folder / SCORES, buffer.getvalue())


def read_study(folder: Path) -> StudyRecord:
    """Read the two files of a study.

    Raises:
        UserError: a file is missing or broken, or the two disagree; names the file.
    """
    path, table = folder / FACTS, folder / SCORES
    try:
        content = json.loads(path.read_text())
        rows = list(csv.reader(table.read_text().splitlines()))
        scores = _columns(rows)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{folder}: no readable record of a study ({error})") from error
    facts = decode(Facts, content, str(path), "")
    unknown = {one.column for one in facts.evaluations} ^ set(scores)
    if unknown:
        raise UserError(f"{table} and {path} disagree about the column {min(unknown)!r}")
    return StudyRecord(facts, scores)


def _columns(rows: Sequence[Sequence[str]]) -> dict[str, Array]:
    header, *body = rows
    if header[0] != _INDEX or [row[0] for row in body] != [str(number) for number in range(len(body))]:
        raise ValueError(f"{SCORES} needs a first column {_INDEX} that counts from 0")
    return {name: np.array([float(row[n]) for row in body if row[n]]) for n, name in enumerate(header) if n}
