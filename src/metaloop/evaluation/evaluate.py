"""``metaloop evaluate run=DIR``: meta-test a finished run again, optionally with changed settings."""

import argparse
import json
import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from metaloop.config.composition import composer
from metaloop.config.data_paths import with_absolute_paths
from metaloop.config.identity import plain
from metaloop.config.overrides import check_overrides, parse, quoted
from metaloop.config.targets.allowed import check_targets
from metaloop.config.trust import remember_derived
from metaloop.config.values import check_values
from metaloop.config.words.override_values import check_value, flatten, is_true
from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.records.code import configuration_of
from metaloop.records.schema import RECORD, Record

log = logging.getLogger(__name__)
_SELECTION = "metaloop.inner.selection.adapted"

GROUPS = ("dataset", "episode", "trainer")  # groups that an evaluation may replace
_STEPS = ("algorithm.eval_steps", "algorithm.eval_passes", "algorithm.eval_inner_batch", "algorithm.eval_episodes")
ADAPTED, PARTS = "algorithm/adapted", ("all", "head", "body")  # a group of which an evaluation may take these members
_GROUPS = (*GROUPS, ADAPTED)
_MORE = ("algorithm.over_tasks", "algorithm.reader.members", "algorithm.reader.temperature", "model.norm")
_RATES = ("algorithm.rule.lr", "algorithm.rule.rates")  # of rules that learn nothing
_FIXED_RULES = tuple(f"metaloop.inner.rules.{module}." for module in ("rule", "optimizers", "scheduled"))
KEYS = ("tf32", "dataset.", "episode.", "evaluation.", "trainer.", *_STEPS, *_RATES, *_MORE)


def changed(config: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> dict[str, Any]:
    """Apply an evaluation's overrides to a run's config.

    Args:
        config: Config of the run.
        overrides: Choices of whole groups, or values of keys.
        config_dirs: Further folders of configuration groups.

    Raises:
        UserError: an override is unknown or mistyped, or would change what was trained.
    """
    for override in overrides:
        name, _, value = override.partition("=")
        if name not in GROUPS and not name.startswith(KEYS) and (name != ADAPTED or value not in PARTS):
            raise UserError(
                f"{override!r}: an evaluation can change the groups {', '.join(GROUPS)}, their keys, evaluation.*, "
                f"{', '.join((*_STEPS, *_RATES, *_MORE))}, {ADAPTED} ({', '.join(PARTS)}) and tf32; for anything else train "
                "a new run"
            )
        if name in _RATES:
            _check_rate(config, override)
    overrides, adapted = [quoted(each) for each in overrides], [each for each in overrides if each.startswith(ADAPTED)]
    overrides = [override for override in overrides if override not in adapted]
    groups = [override for override in overrides if override.partition("=")[0] in GROUPS]
    node = OmegaConf.create(dict(config))
    if groups or config_dirs:
        check_overrides("train", groups, config_dirs, multirun=False)
        with composer("train", config_dirs, []) as hydra:
            for override in groups:
                name = override.partition("=")[0]
                node[name] = hydra.compose([override])[name]
    for override in overrides:
        if override not in groups:
            _change(node, override)
    result = plain(node)
    if adapted:
        result["algorithm"] = _with_adapted(result["algorithm"], adapted[-1], config_dirs)
    check_values(result)
    return result


def _check_rate(config: Mapping[str, Any], override: str) -> None:
    """Refuse another inner learning rate where the checkpoint has a learned one, which would stay as it is."""
    rule = config["algorithm"].get("rule") or {}
    if not str(rule.get("_target_")).startswith(_FIXED_RULES):
        raise UserError(f"{override}: the run's rule has no fixed rate that a test could replace; train a new run")


def _with_adapted(algorithm: Mapping[str, Any], override: str, config_dirs: Sequence[str]) -> dict[str, Any]:
    """The algorithm with another choice of what adapts at test, among parameters that it has anyway."""
    known = [algorithm.get("adapted", {}).get("_target_") == f"{_SELECTION}.{each.title()}" for each in PARTS]
    if not any(known):
        raise UserError(f"{override}: for runs that were trained with {ADAPTED} one of {', '.join(PARTS)}")
    with composer("train", config_dirs, []) as hydra:
        chosen = plain(hydra.compose(["algorithm=maml", override]).algorithm.adapted)
    return {**algorithm, "adapted": chosen}


def _change(node: DictConfig, line: str) -> None:
    """Set one key, which must exist and have a default of the same type."""
    override = parse(line)
    if override.is_sweep_override():
        raise UserError(f"{line}: an evaluation takes one value of a key; evaluate once for each value")
    check_value(node, flatten(node), GROUPS, override)
    OmegaConf.update(node, override.key_or_group, override.value(), merge=False)


def _adapt_side(config: dict[str, Any], run: FinishedRun, overrides: Sequence[str]) -> None:
    """Give another data set of images the size of the run's own, unless the user chooses one."""
    keys = {override.partition("=")[0] for override in overrides}
    if "dataset" not in keys or "dataset.side" in keys or "side" not in config["dataset"]:
        return
    from metaloop.config.build import build_dataset
    from metaloop.data.user.images import UserImageDataset

    dataset = build_dataset(run.config)
    side = dataset.image_form().side if isinstance(dataset, UserImageDataset) else config["dataset"]["side"]
    if side != config["dataset"]["side"]:
        log.warning("dataset.side=%s, as the run was trained, and not %s", side, config["dataset"]["side"])
        config["dataset"]["side"] = side


def evaluate(
    directory: str | Path,
    overrides: Sequence[str] = (),
    config_dirs: Sequence[str] = (),
    *,
    unfinished: bool = False,
    trust: Collection[str] = (),
    checkpoint: str | None = None,
    split: str = "test",
) -> tuple[Record, Path]:
    """Score a checkpoint of a finished run, on one device.

    Args:
        directory: Run directory.
        overrides: Changes of the run's config.
        config_dirs: Further folders of configuration groups.
        unfinished: Whether to accept a run whose training was stopped; the record's status then says so.
        trust: Packages that the run's config may name besides metaloop, if the run comes from elsewhere.
        checkpoint: File in the run's folder of checkpoints; None for the best by meta-validation.
        split: "validation" scores the episodes of meta-validation, for choices that must not see the test.

    Returns:
        The record of the evaluation and the folder to write it to.

    Raises:
        UserError: the run is not finished or not trusted, an override is refused, or the learner cannot be tested with this
            config.
    """
    if split not in ("test", "validation"):
        raise UserError(f"split={split}: test or validation")
    run = FinishedRun.open(
        directory, unfinished=unfinished, trust=trust
    )  # before torch is imported, so that a wrong folder fails fast
    run = run if checkpoint is None else run.at(checkpoint)
    config = dict(with_absolute_paths(changed(run.config, overrides, config_dirs), str(Path.cwd())))
    _adapt_side(config, run, overrides)
    config["trainer"] |= {"devices": 1, "strategy": "auto"}  # several ranks would give the same scores
    check_targets(config, run.config)
    remember_derived(config, run.identity.config)
    from metaloop.config.build import make
    from metaloop.config.identity import fingerprint
    from metaloop.system.devices import ranks_of
    from metaloop.training.ensembles import ensemble
    from metaloop.training.meta_test import meta_test, quiet_trainer
    from metaloop.training.progress import Progress
    from metaloop.training.run import make_record

    ranks_of(config)  # refuses a GPU if the machine has none
    own_episodes = not any(override.startswith("episode") for override in overrides)
    test = run.test(config, own_episodes=own_episodes, split=split)
    of_checkpoint = "" if checkpoint is None else f"_{Path(checkpoint).stem}"
    of_split = "" if split == "test" else f"_{split}"
    target = run.directory / "evaluations" / f"{fingerprint(config)[:12]}{of_checkpoint}{of_split}"
    target.mkdir(parents=True, exist_ok=True)
    trainer = quiet_trainer(make(config["trainer"], "trainer"), [Progress(test.module.problem.metric, scored=f"meta-{split}")])
    count = config["evaluation"].get("ensemble", 1)
    if count > 1:
        test.module.learner = ensemble(test.learner, run.checkpoint.parent, count, run.identity.fingerprint).eval()
    result = meta_test(trainer, test.module, test.data, target)
    words = (
        *overrides,
        *([] if checkpoint is None else [f"checkpoint={checkpoint}"]),
        *([f"split={split}"] if of_split else []),
    )
    identity = replace(
        run.identity,
        config=config,
        configuration=tuple(dict.fromkeys((*run.identity.configuration, *configuration_of(config_dirs)))),
        choices={**run.identity.choices, **{n: v for n, _, v in (o.partition("=") for o in overrides) if n in _GROUPS}},
        overrides=words,
        command=("metaloop", "evaluate", f"run={directory}", *words),
    )
    record = make_record(identity, None, result, 1, test.data.dataset.counts())
    if of_split:  # a published number is of a test
        record = replace(record, paper=None)
    return (record if run.record is not None else replace(record, status="unfinished")), target


def evaluation_of(directory: Path, overrides: Sequence[str]) -> Path | None:
    """The folder of a run's evaluation with these overrides; None if it was not evaluated with them."""
    for path in sorted((directory / "evaluations").glob(f"*/{RECORD}")):
        if set(json.loads(path.read_text())["overrides"]) == set(overrides):
            return path.parent
    return None


def main(argv: list[str]) -> int:
    """Run the command and print the score; its words are in ``help_texts.EVALUATE``."""
    parser = argparse.ArgumentParser(prog="metaloop evaluate", allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("words", nargs="*")
    options, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        raise UserError(f"evaluate {unknown[0]}: no such option; keys are written without dashes, evaluation.episodes=50")
    runs = [word.removeprefix("run=") for word in options.words if word.startswith("run=")]
    for word in options.words:
        if "=" not in word:
            raise UserError(f"evaluate {word}: write {'run=' if Path(word).exists() else 'KEY='}{word}")
    if len(runs) != 1:
        raise UserError("name one run to evaluate: metaloop evaluate run=outputs/... [overrides]")
    unfinished = [word.removeprefix("unfinished=") for word in options.words if word.startswith("unfinished=")]
    checkpoints = [word.removeprefix("checkpoint=") for word in options.words if word.startswith("checkpoint=")]
    splits = [word.removeprefix("split=") for word in options.words if word.startswith("split=")]
    overrides = [word for word in options.words if not word.startswith(("run=", "unfinished=", "checkpoint=", "split="))]
    record, target = evaluate(
        runs[0],
        overrides,
        options.config_dir,
        unfinished=is_true("unfinished", unfinished),
        checkpoint=checkpoints[-1] if checkpoints else None,
        split=splits[-1] if splits else "test",
    )
    from metaloop.records.writing import write_record
    from metaloop.report.pages.run_report import write_run_report
    from metaloop.report.summary import print_summary

    write_record(target, record)
    write_run_report(target)
    print_summary(record, target)
    return 0


if __name__ == "__main__":
    from metaloop.config.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
