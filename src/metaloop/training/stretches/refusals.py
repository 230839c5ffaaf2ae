"""Why a run's outer steps cannot be taken in stretches."""

from pytorch_lightning import Callback, Trainer

from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import OverTasks, Vmap
from metaloop.learners.learner import Learner, PureOuterStep
from metaloop.training.stretches.updates import update_of

_EACH_STEP = (
    "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip
_MODULE = "torch.optim.lr_scheduler"


def refusal(trainer: Trainer, learner: Learner, callbacks: tuple[Callback, ...], workers: int) -> str | None:
    """Say in words why outer steps cannot be taken in stretches; None if they can, as far as is known before the first.

    Args:
        trainer: The trainer, whose optimisers are made.
        learner: The learner.
        callbacks: Callbacks of the user.
        workers: Number of processes that prepare episodes.
    """
    if not isinstance(learner, PureOuterStep):
        return f"{type(learner).__name__} is not a PureOuterStep"
    return (
        _of_trainer(trainer)
        or _of_optimizer(trainer)
        or _of_callbacks(callbacks)
        or ("workers draw the episodes" if workers else None)
        or _of_tasks(learner.over_tasks)
    )


def _of_trainer(trainer: Trainer) -> str | None:
    if trainer.world_size > 1:
        return f"{trainer.world_size} ranks share each meta-batch"
    if trainer.strategy.root_device.type != "cpu":
        return "it is made for the CPU"
    if trainer.precision not in ("32-true", "64-true"):
        return f"trainer.precision={trainer.precision}"
    return None


def _of_optimizer(trainer: Trainer) -> str | None:
    update = update_of(trainer.optimizers[0])
    if isinstance(update, str):
        return update
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        if config.reduce_on_plateau or type(scheduler).__module__ != _MODULE or getattr(scheduler, "cycle_momentum", False):
            return f"outer.schedule is {type(scheduler).__name__}, which may change more than the rate"
    return None


def _of_callbacks(callbacks: tuple[Callback, ...]) -> str | None:
    for callback in callbacks:
        for name in _EACH_STEP:
            if getattr(type(callback), name) is not getattr(Callback, name):
                return f"the callback {type(callback).__name__} has {name}, which needs each step"
    return None


def _of_tasks(over_tasks: OverTasks) -> str | None:
    """Stretches run all tasks at once, which is chosen elsewhere: by hand, or by the timing of the first outer step."""
    fits = isinstance(over_tasks, Auto) or (isinstance(over_tasks, Vmap) and over_tasks.chunk is None)
    return None if fits else f"algorithm/over_tasks is {over_tasks.name}; vmap, compiled and auto can be captured"
