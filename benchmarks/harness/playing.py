"""What benchmarks of control have in common: their words, records and page, policies that play test tasks, and kept records."""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from knowledge import replaced
from torch import Tensor

from harness.machine import about
from metaloop.control.environments.environment import Environment, World
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.metrics.interval import mean_interval
from metaloop.records.reading import read_record
from metaloop.records.schema import Record
from metaloop.records.writing import write_json
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec

ROOT = Path(__file__).parents[2]
RECORDS, IMAGES = ROOT / "benchmarks" / "records", ROOT / "docs" / "images"
PAGE, IN_CONTEXT, GRADIENTS = (ROOT / "docs" / page for page in ("control.md", "control_in_context.md", "control_gradients.md"))
KEPT = ROOT / "docs" / "records" / "reproduction"


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the text of the module."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def record_of(path: Path, measure: Callable[[], Mapping[str, Any]] | None) -> dict[str, Any]:
    """Measure, and write the record with what the machine is; without a measure, take that of an earlier call."""
    if measure is not None:
        load = os.getloadavg()
        write_json(path, {**measure(), **about(load)})
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def fill(page: Path, parts: Mapping[str, Sequence[str]]) -> None:
    """Write lines between the markers of a page."""
    write_atomically(page, replaced(page.read_text(), parts))


def returns(policy: ControlPolicy, environment: Environment, episodes: int, tasks: int, at_once: int) -> Tensor:
    """Play the first test tasks of evaluation.seed=0: the return of each episode, (tasks, episodes)."""
    drawn, parts = Episodes(environment, EpisodeSpec(1, 1, episodes), Stream(0, "test")), []
    for some in drawn.batches(0, tasks, min(at_once, tasks), "cpu"):
        assert isinstance(some.support.world, World)
        assert some.support.number is not None
        parts.append(play(some.support.world, some.support.number, policy).returns)
    return torch.cat(parts)


def curve(values: Tensor) -> dict[str, list[float]]:
    """Mean and half-width over the tasks of each column (tasks, columns)."""
    intervals = [mean_interval(column.double().numpy()) for column in values.unbind(1)]
    return {"mean": [each.mean for each in intervals], "half_width": [each.half_width for each in intervals]}


def first_kept(experiment: str) -> Record | None:
    """The first kept record of an experiment; None if there is none."""
    found = sorted(KEPT.glob(f"{experiment}/*/record.json"))
    return read_record(found[0].parent) if found else None
