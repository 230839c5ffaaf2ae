"""Meta-test: the one place that opens the test split for scoring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from metaloop.data.episodes import Episodes
from metaloop.errors import UserError
from metaloop.learners.learner import Learner, TakesSteps
from metaloop.models.norm import norm_mode
from metaloop.problems.problem import Baseline, Problem
from metaloop.records.writing import write_csv
from metaloop.training.checkpoints import AtomicCheckpointIO, checked, load_checkpoint
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.training.outer_module import OuterModule
from metaloop.training.samples import save_samples
from metaloop.training.scores import interval_of, statistics_of, summary, table

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_BASELINE_BATCH = 8


def meta_test(trainer: Trainer, module: OuterModule, data: EpisodeDataModule, directory: Path) -> dict[str, Any]:
    """Score the test episodes.

    Writes episodes.csv and samples.npz into ``directory`` (rank zero) and returns the record's ``test``.
    """
    trainer.test(module, data, verbose=False)
    device = trainer.strategy.root_device
    module.to(device)  # where testing leaves it elsewhere
    episodes, scores, learner = data.episodes("test", device), module.scores, module.learner
    spec = data.plan.spec
    broken = int((~torch.isfinite(scores["loss"])).sum())
    if broken:
        raise UserError(
            f"the adapted learner's answers are not finite in {broken} of the {len(scores['index'])} test episodes; lower "
            f"algorithm.eval_steps or algorithm.rule.lr"
        )
    found = summary(scores, module.problem) | {
        "setting": module.problem.setting(spec.ways, spec.shots),
        "split": "test",
        "episodes": len(scores["index"]),
        "ways": spec.ways,
        "shots": spec.shots,
        "queries": spec.queries,
        "steps": learner.eval_steps if isinstance(learner, TakesSteps) else None,
        "norm_mode": norm_mode(learner.model),
        "transductive": learner.transductive,
        "seed": data.plan.eval_seed,
    }
    if trainer.is_global_zero:
        write_csv(directory / "episodes.csv", table(scores))
        save_samples(directory / "samples.npz", learner, episodes, device)
        against, count = module.problem.baseline(episodes.distribution.input_shape), len(scores["index"])
        if against is not None:
            found["baseline"] = baseline(against, module.problem, episodes, count, device)
        if episodes.distribution.oracle_name:
            found["oracle"] = oracle(module.problem, episodes, count, device)
    return found


def baseline(against: Baseline, problem: Problem, episodes: Episodes, count: int, device: torch.device) -> dict[str, Any]:
    """Name of the baseline, and mean and half-width of its score on the same episodes."""
    parts = [
        problem.scores(against.answer(tasks.support, tasks.query.x), tasks.query)["score"]
        for tasks in episodes.batches(0, count, _BASELINE_BATCH, device)
    ]
    return {"name": against.name, **interval_of(torch.cat(parts))}


def oracle(problem: Problem, episodes: Episodes, count: int, device: torch.device) -> dict[str, Any]:
    """What the process that drew the same episodes would answer: its score and statistics with their half-widths."""
    distribution = episodes.distribution
    parts = [
        problem.scores(distribution.oracle(episodes.stream, tasks), tasks.query)
        for tasks in episodes.batches(0, count, _BASELINE_BATCH, device)
    ]
    scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {
        "name": distribution.oracle_name,
        "score": interval_of(scores["score"]),
        "others": statistics_of(scores, problem),
    }


def restored(learner: Learner, problem: Problem, fingerprint: str, checkpoint: Path) -> OuterModule:
    """The learner with a checkpoint's parameters.

    Args:
        learner: built as it was trained.
        problem: of its tasks.
        fingerprint: of the config that was trained.
        checkpoint: the file.

    Raises:
        UserError: the checkpoint is missing, corrupt, or of another config.
    """
    saved = load_checkpoint(checkpoint)
    checked(saved, fingerprint, checkpoint)
    module = OuterModule(learner, problem)
    try:
        module.load_state_dict(saved["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit the model: {' '.join(str(error).split())[:300]}") from error
    return module


def quiet_trainer(make_trainer: Callable[..., Trainer], callbacks: list[Callback]) -> Trainer:
    """A trainer whose progress, checkpoints and logs are ours.

    Raises:
        UserError: Lightning refuses what the trainer's config asks for.
    """
    try:
        trainer = make_trainer(
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,  # adaptation differentiates, also while evaluating
            use_distributed_sampler=False,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"the keys of trainer do not make a Lightning trainer: {error}") from error
    if trainer.precision not in PRECISIONS:
        raise UserError(f"trainer.precision={trainer.precision}: one of {', '.join(PRECISIONS)}")
    return trainer
