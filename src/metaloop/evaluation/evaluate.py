"""``metaloop evaluate run=DIR``: meta-test a finished run, as it was or otherwise."""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from metaloop.config.composition import composer
from metaloop.config.override_values import check_value, flatten
from metaloop.config.overrides import check_overrides, parse
from metaloop.errors import UserError

GROUPS = ("dataset", "episode", "trainer")  # what an evaluation may replace as a whole
KEYS = ("tf32", "dataset.", "episode.", "evaluation.", "trainer.", "algorithm.eval_steps", "algorithm.over_tasks", "model.norm")


def changed(config: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> dict[str, Any]:
    """A run's config with what this evaluation wants otherwise.

    Args:
        config: of the run.
        overrides: whole groups, or keys, which are those of the run's own choices.
        config_dirs: further folders of configuration groups.

    Raises:
        UserError: an override is unknown, mistyped, or would change what was trained.
    """
    for override in overrides:
        name = override.partition("=")[0]
        if name not in GROUPS and not name.startswith(KEYS):
            raise UserError(
                f"{override!r}: an evaluation can change the groups {', '.join(GROUPS)}, their keys, evaluation.*, "
                f"algorithm.eval_steps, algorithm.over_tasks, model.norm and tf32; for anything else train a new run"
            )
    from metaloop.config.build import plain

    groups = [override for override in overrides if override.partition("=")[0] in GROUPS]
    check_overrides("train", groups, config_dirs, multirun=False)
    node = OmegaConf.create(dict(config))
    with composer("train", config_dirs, []) as hydra:
        for override in groups:
            name = override.partition("=")[0]
            node[name] = hydra.compose([override])[name]
    for override in overrides:
        if override not in groups:
            _change(node, override)
    return plain(node)


def _change(node: DictConfig, line: str) -> None:
    """Set one key, which must exist and take such a value."""
    override = parse(line)
    if override.is_sweep_override():
        raise UserError(f"{line}: one value at a time; evaluate once for each")
    check_value(node, flatten(node), GROUPS, override)
    OmegaConf.update(node, override.key_or_group, override.value(), merge=False)


def evaluate(directory: Path, overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> tuple[dict[str, Any], Path]:
    """Score the run's best checkpoint, on one device; returns the record of the evaluation and where it shall lie."""
    from metaloop.records.directory import description

    told = description(directory)  # first: a folder that is no run is answered before torch is imported
    from metaloop.config.build import make
    from metaloop.data.encoded import check_encoder
    from metaloop.evaluation.rebuild import rebuild
    from metaloop.records.directory import BEST
    from metaloop.system.devices import ranks_of
    from metaloop.system.tf32 import allow_tf32
    from metaloop.training.meta_test import meta_test_checkpoint
    from metaloop.training.run import RunIdentity, make_record
    from metaloop.training.silence import quieten

    quieten()
    config = changed(told["config"], overrides, config_dirs)
    allow_tf32(config.get("tf32", False))  # older runs have no such key
    config["trainer"] |= {"devices": 1, "strategy": "auto"}  # several ranks would give the same scores
    ranks_of(config)  # refuses a GPU where there is none
    target = directory / "evaluations" / hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    own_episodes = not any(override.startswith("episode") for override in overrides)
    test_of = rebuild(told["config"], config, own_episodes=own_episodes)
    if config["model"] == told["config"]["model"]:  # another encoder may be asked for on purpose
        check_encoder(test_of.dataset, _encoder_of(directory), f"the run {directory}")
    trainer = make(config["trainer"], "trainer")
    learner, best = test_of.learner, directory / "checkpoints" / BEST
    test = meta_test_checkpoint(learner, test_of.dataset, test_of.plan, trainer, told["fingerprint"], best, target)
    choices = {**told["choices"], **{n: v for n, _, v in (o.partition("=") for o in overrides) if n in GROUPS}}
    command = ["metaloop", "evaluate", f"run={directory}", *overrides]
    more = {"config": config, "choices": choices, "overrides": list(overrides), "command": command}
    identity = RunIdentity(directory=directory, **{**told, **more})
    return make_record(identity, None, test, 1), target


def _encoder_of(run: Path) -> Mapping[str, Any] | None:
    """What the record says of the frozen encoder; None where the run is not finished, or has none."""
    try:
        record = json.loads((run / "record.json").read_text())
    except (OSError, ValueError):
        return None
    return (record.get("training") or {}).get("encoder")


def main(argv: list[str]) -> int:
    """``run=DIR``, overrides and ``--config-dir``; prints the score."""
    parser = argparse.ArgumentParser(prog="metaloop evaluate", allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args(argv)
    runs = [word.removeprefix("run=") for word in given.words if word.startswith("run=")]
    if len(runs) != 1:
        raise UserError("name one run to evaluate: metaloop evaluate run=outputs/... [overrides]")
    overrides = [word for word in given.words if not word.startswith("run=")]
    record, target = evaluate(Path(runs[0]), overrides, given.config_dir)
    from metaloop.records.writing import write_json
    from metaloop.report.pages.run_report import write_run_report
    from metaloop.report.summary import print_summary

    write_json(target / "record.json", record)
    write_run_report(target)
    print_summary(record, target)
    return 0


if __name__ == "__main__":
    from metaloop.config.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
