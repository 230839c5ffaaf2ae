"""Lightning's counters, moved on by outer steps that Lightning did not take."""

from typing import Any

from pytorch_lightning import Trainer


def count_steps(trainer: Trainer, steps: int) -> None:
    """Count ``steps`` outer steps as if Lightning had taken them, so that its state equals that of a run step by step."""
    loop = trainer.fit_loop.epoch_loop
    optimization = loop.automatic_optimization.optim_progress.optimizer
    counters: list[Any] = [loop.batch_progress, optimization.step, optimization.zero_grad]
    if trainer.lr_scheduler_configs:
        counters.append(loop.scheduler_progress)
    for counter in counters:
        for part in (counter.total, counter.current):
            for name in vars(part):  # ready, started, processed, completed: whichever it has
                setattr(part, name, getattr(part, name) + steps)
    loop._batches_that_stepped += steps
