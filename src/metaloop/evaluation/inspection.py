"""``metaloop inspect DIR``: measure what adaptation does in a finished run."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.system.terminal import printable

FOLDER = "inspection"


def inspect_run(directory: str | Path, count: int = 50, steps: int | None = None, *, unfinished: bool = False) -> Path:
    """Measure how the best checkpoint of a finished run adapts to the first ``count`` meta-test episodes.

    Writes ``inspection.json``, ``inspection.npz`` (the embedding map, if the learner has one), pictures and ``index.html``.

    Args:
        directory: Run directory.
        count: Number of episodes, from the beginning of the meta-test.
        steps: Inner steps; None for those of the run's meta-test.
        unfinished: Whether to accept a run whose training was stopped.

    Returns:
        The folder that was written.

    Raises:
        UserError: the run is not finished or has no checkpoint, or a number is out of range.
    """
    run = FinishedRun.open(directory, unfinished=unfinished)  # before torch is imported, so that a wrong folder fails fast
    for option, value, least in (("--episodes", count, 2), ("--steps", steps, 1)):
        if value is not None and value < least:
            raise UserError(f"{option} {value}: must be at least {least}")
    from metaloop.evaluation.embedding_map import check_available

    check_available()
    measured, arrays = _measured(run, count, steps)
    about = {"run": run.directory.resolve().name, "choices": dict(run.identity.choices), "seed": run.identity.seed}
    from metaloop.report.pages.inspection_page import write_inspection_page
    from metaloop.system.files import write_atomically

    target = run.directory / FOLDER
    write_atomically(target / "inspection.json", json.dumps(about | measured, indent=1) + "\n")
    if arrays is not None:
        write_atomically(target / "inspection.npz", _npz(arrays))
    write_inspection_page(target)
    return target


def measured_with(directory: Path, count: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure how a finished run adapts to the first ``count`` meta-test episodes under an evaluation's overrides.

    Args:
        directory: Run directory.
        count: Number of episodes, at least 2.
        overrides: Those of ``metaloop evaluate``, such as ``algorithm/adapted=all``.

    Returns:
        The measurements, as in ``inspection.json``. Nothing is written.

    Raises:
        UserError: the run is not finished, or an override is refused.
    """
    from metaloop.evaluation.evaluate import changed
    from metaloop.evaluation.measures import inspect

    run = FinishedRun.open(directory)
    test = run.test(changed(run.config, overrides))
    return inspect(test.learner, test.episodes, count, test.data.plan.eval_batch, None, test.device)[0]


def _measured(run: FinishedRun, count: int, steps: int | None) -> tuple[dict[str, Any], Any]:
    from metaloop.evaluation.measures import inspect

    test = run.test()
    count = min(count, test.episodes.distribution.episodes or count)
    return inspect(test.learner, test.episodes, count, test.data.plan.eval_batch, steps, test.device)


def _npz(arrays: Mapping[str, Any]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def show(target: Path) -> None:
    """Print the conclusion and the path of the page."""
    import textwrap

    from metaloop.report.pages.inspection_page import conclusion, lines, read_inspection
    from metaloop.report.summary import page_lines, print_lines

    print()
    print(textwrap.fill(printable(conclusion(read_inspection(target))), 100))
    print_lines([*lines(target), *page_lines(target / "index.html")])
