"""``metaloop evaluate run=DIR``: meta-test a finished run, as it was or otherwise."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaloop.configuration import conf_dir
from metaloop.errors import UserError
from metaloop.overrides import check_overrides

GROUPS = ("dataset", "episode", "trainer")  # what an evaluation may replace as a whole
KEYS = ("dataset.", "episode.", "evaluation.", "trainer.", "algorithm.eval_steps", "algorithm.over_tasks", "model.norm")


def changed(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A run's config with what this evaluation wants otherwise.

    Raises:
        UserError: an override is unknown, mistyped, or would change what was trained.
    """
    for override in overrides:
        name = override.partition("=")[0]
        if name not in GROUPS and not name.startswith(KEYS):
            raise UserError(
                f"{override!r}: an evaluation can change the groups {', '.join(GROUPS)}, their keys, evaluation.*, "
                f"algorithm.eval_steps, algorithm.over_tasks and model.norm; for anything else train a new run"
            )
    check_overrides("train", overrides, [])
    node = OmegaConf.create(config)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for override in overrides:
            name = override.partition("=")[0]
            if name in GROUPS:
                node[name] = compose("train", overrides=[override])[name]
    OmegaConf.set_struct(node, True)
    dotted = [override for override in overrides if override.partition("=")[0] not in GROUPS]
    try:
        node = OmegaConf.merge(node, OmegaConf.from_dotlist(dotted))
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(dotted)}: {str(error).splitlines()[0]}") from error


def evaluate(directory: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Path]:
    """Score the run's best checkpoint; writes and returns the record of the evaluation and where it lies."""
    from metaloop.build import build_dataset, build_learner, build_plan, make
    from metaloop.outer.checkpoints import BEST
    from metaloop.outer.directory import description
    from metaloop.outer.meta_test import meta_test_checkpoint
    from metaloop.outer.run import RunIdentity, make_record
    from metaloop.outer.silence import quieten
    from metaloop.types import highest

    quieten()
    told = description(directory)
    config = changed(told["config"], overrides)
    target = directory / "evaluations" / hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    dataset, plan = build_dataset(config), build_plan(config)
    test_split = dataset.split("test")
    if test_split.spec is not None and not any(override.startswith("episode") for override in overrides):
        plan = replace(plan, spec=test_split.spec)
    test_split.check(plan.spec)
    learner = build_learner(config, build_dataset(told["config"]).split("train"), build_plan(told["config"]).train_spec)
    learner.check(highest(plan.spec.ways))
    trainer = make(config["trainer"], "trainer")
    test = meta_test_checkpoint(
        learner, dataset, plan, trainer, told["fingerprint"], directory / "checkpoints" / BEST, target
    )
    choices = {**told["choices"], **{n: v for n, _, v in (o.partition("=") for o in overrides) if n in GROUPS}}
    more = {"config": config, "choices": choices, "overrides": list(overrides), "command": ["metaloop", "evaluate", f"run={directory}", *overrides]}
    identity = RunIdentity(directory=directory, **{**told, **more})
    return make_record(identity, None, test, 1), target


def main(argv: list[str]) -> int:
    """``run=DIR`` and overrides; prints the score."""
    from metaloop.outer.record import write_record
    from metaloop.report.run_report import write_run_report
    from metaloop.summary import print_summary

    runs = [word.removeprefix("run=") for word in argv if word.startswith("run=")]
    if len(runs) != 1:
        raise UserError("name one run to evaluate: metaloop evaluate run=outputs/... [overrides]")
    record, target = evaluate(Path(runs[0]), [word for word in argv if not word.startswith("run=")])
    write_record(target / "record.json", record)
    write_run_report(target)
    print_summary(record, target)
    return 0


if __name__ == "__main__":
    from metaloop.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
