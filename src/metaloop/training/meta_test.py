"""Meta-test: the only place that opens the test split for scoring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.profilers import Profiler

from metaloop.data.distribution import Oracle
from metaloop.data.episodes import Episodes
from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.models.norm import norm_mode
from metaloop.problems.problem import Baseline, Problem
from metaloop.records.writing import write_csv
from metaloop.training.checkpoints import AtomicCheckpointIO
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.training.explanations import save_explanation
from metaloop.training.outer_module import OuterModule
from metaloop.training.processes.process import KeptSigterm, stops_kept
from metaloop.training.restoring import load_parameters
from metaloop.training.samples import save_samples
from metaloop.training.scores import interval_of, statistics_of, summary, table
from metaloop.training.trajectories import save_trajectories

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_BASELINE_BATCH = 8


def meta_test(trainer: Trainer, module: OuterModule, data: EpisodeDataModule, directory: Path) -> dict[str, Any]:
    """Score the episodes of ``data.scored``; rank zero writes ``episodes.csv`` and what pictures need into ``directory``.

    Returns:
        The record's ``test`` as plain data.

    Raises:
        UserError: a loss is not finite.
    """
    with stops_kept():
        trainer.test(module, data, verbose=False)
    device = trainer.strategy.root_device
    module.to(device)  # testing may leave the module on another device
    episodes, scores, learner = data.episodes(data.scored, device), module.scores, module.learner
    spec = data.plan.spec
    broken = int((~torch.isfinite(scores["loss"])).sum())
    if broken:
        raise UserError(
            f"the adapted learner's loss is not finite in {broken} of the {len(scores['index'])} {data.scored} episodes; lower "
            f"algorithm.eval_steps or algorithm.rule.lr"
        )
    result = summary(scores, module.problem) | {
        "setting": module.problem.size(spec),
        "split": data.scored,
        "episodes": len(scores["index"]),
        "ways": spec.ways,
        "shots": spec.shots,
        "queries": spec.queries,
        "steps": int(scores["curve_step"].max()) or None,  # 0 for learners that take none
        "curve_over": learner.curve_over,
        "norm_mode": norm_mode(learner.model),
        "transductive": learner.transductive,
        "seed": data.plan.eval_seed,
    }
    if trainer.is_global_zero:
        write_csv(directory / "episodes.csv", table(scores))
        save_samples(directory / "samples.npz", learner, episodes, device)
        save_explanation(directory, learner, episodes.distribution)
        save_trajectories(directory, learner, episodes, device)
        baseline, count = episodes.distribution.baseline(), len(scores["index"])
        if baseline is not None:
            result["baseline"] = baseline_scores(baseline, module.problem, episodes, count, device)
        oracle = episodes.distribution.oracle()
        if oracle is not None:
            result["oracle"] = oracle_scores(oracle, module.problem, episodes, count, device)
    return result


def baseline_scores(
    baseline: Baseline, problem: Problem, episodes: Episodes, count: int, device: torch.device
) -> dict[str, Any]:
    """Score the baseline on the same episodes: its name, and the mean and half-width of its score."""
    parts = [
        problem.scores(baseline.answer(tasks.support, tasks.query.x), tasks.query)["score"]
        for tasks in episodes.batches(0, count, _BASELINE_BATCH, device)
    ]
    return {"name": baseline.name, **interval_of(torch.cat(parts))}


def oracle_scores(oracle: Oracle, problem: Problem, episodes: Episodes, count: int, device: torch.device) -> dict[str, Any]:
    """Score the oracle on the same episodes.

    Returns:
        Its name, its score and the other statistics, each with its half-width.
    """
    parts = [
        problem.scores(oracle.predict(episodes.stream, tasks), tasks.query)
        for tasks in episodes.batches(0, count, _BASELINE_BATCH, device)
    ]
    scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {
        "name": oracle.name,
        "score": interval_of(scores["score"]),
        "others": statistics_of(scores, problem),
    }


def restored(learner: Learner, problem: Problem, fingerprint: str, checkpoint: Path) -> OuterModule:
    """Load a checkpoint's parameters into a learner, as :func:`load_parameters` does, and make its module."""
    load_parameters(learner, fingerprint, checkpoint)
    return OuterModule(learner, problem)


def quiet_trainer(make_trainer: Callable[..., Trainer], callbacks: list[Callback], profiler: Profiler | None = None) -> Trainer:
    """Make a trainer without Lightning's own progress bar, checkpoints and loggers, which metaloop replaces.

    Args:
        make_trainer: Makes the trainer from further arguments.
        callbacks: Callbacks of the run.
        profiler: Lightning's profiler; None for none, whatever the config says.

    Raises:
        UserError: Lightning refuses the trainer's config, or the precision is not supported.
    """
    try:
        trainer = make_trainer(
            callbacks=[*callbacks, KeptSigterm()],
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,  # adaptation differentiates, also while evaluating
            use_distributed_sampler=False,
            profiler=profiler,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"Lightning refuses the keys of trainer: {error}") from error
    if trainer.precision not in PRECISIONS:
        raise UserError(f"trainer.precision={trainer.precision}: must be one of {', '.join(PRECISIONS)}")
    return trainer
