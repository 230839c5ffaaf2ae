"""The outer loop: one LightningModule for every learner."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.metrics.interval import mean_interval
from metaloop.problems.problem import Problem, Scores
from metaloop.training.scores import gather, score
from metaloop.types import OuterLoss, Tasks


class OuterModule(LightningModule):
    """Descends the outer loss, one meta-batch an outer step, and scores episodes; no learner needs more.

    Args:
        learner: its parameters are what is optimised.
        problem: how answers are scored.
        optimizer: makes the outer optimiser from the parameters; None for a module that only tests.
        schedule: makes a schedule from it, stepped every outer step; None for a constant rate.
        log_every: outer steps between two rows of metrics.
        low_precision_meta_gradient: let an autocast of the trainer reach meta-training. Off by default: bf16 meta-gradients
            were measured 14 to 38 % wrong. Evaluation uses the trainer's precision either way.
        log: takes a row of metrics and the outer step; called on rank zero; None to forget them.
        last_good: says which checkpoint is left where training fails; None where nothing is trained.
    """

    def __init__(
        self,
        learner: Learner,
        problem: Problem,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer] | None = None,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        log_every: int = 50,
        low_precision_meta_gradient: bool = False,
        log: Callable[[dict[str, float], int], None] | None = None,
        last_good: Callable[[], str] | None = None,
    ) -> None:
        super().__init__()
        if log_every < 1:
            raise UserError(f"log_every={log_every}: at least 1")
        self.learner = learner
        self.problem = problem
        self.make_optimizer = optimizer
        self.make_schedule = schedule
        self.log_every = log_every
        self.low_precision_meta_gradient = low_precision_meta_gradient
        self.log_row = log
        self.last_good = last_good
        self.progress: dict[str, float] = {}
        self.scores: Scores = {}
        self.seconds, self.cpu_seconds, self.tasks_done = 0.0, 0.0, 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._parts: list[Scores] = []
        self._last: OuterLoss | None = None
        self._since, self._cpu_since, self._tasks_since = 0.0, 0.0, 0

    def configure_optimizers(self) -> Any:
        """The outer optimiser, and its schedule by outer steps; where nothing is learned, one that moves nothing.

        Raises:
            UserError: torch refuses their arguments.
        """
        assert self.make_optimizer is not None
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        if not parameters:
            raise UserError(
                "model and algorithm have no parameter between them, so nothing can be meta-trained: take "
                "algorithm=nearest_centroid, which is not, or another model (model.projection=WIDTH where model.frozen=true)"
            )
        try:
            optimizer = self.make_optimizer(parameters)
            if not self.learner.learns:  # gradients are zero, but weight decay is not
                return torch.optim.SGD(parameters, lr=0.0)
            if self.make_schedule is None:
                return optimizer
            schedule = self.make_schedule(optimizer)
        except (TypeError, ValueError) as error:
            raise UserError(f"outer.optimizer or outer.schedule cannot be made: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, tasks: Tasks, batch_idx: int) -> Tensor:
        """The outer loss of one meta-batch."""
        self.learner.outer_step = self.trainer.global_step
        if self.trainer.precision == "32-true" or self.low_precision_meta_gradient:
            outcome = self.learner.meta_loss(tasks)
        else:
            with torch.autocast(self.device.type, enabled=False):
                outcome = self.learner.meta_loss(tasks)
        self._last = outcome
        self._pending.append((outcome.loss.detach(), tasks.index))
        # Elsewhere looking at every loss would make the device wait; there the next row of metrics finds it.
        if self.device.type == "cpu" and not math.isfinite(outcome.loss.item()):
            self._check_finite(self.trainer.global_step)
        return outcome.loss

    def on_after_backward(self) -> None:
        """Leave parameters that rest without a gradient; only now, for the ranks of a distributed run wait for all of them."""
        assert self._last is not None
        for name in self._last.resting:
            self.learner.get_parameter(name).grad = None

    def on_train_epoch_start(self) -> None:
        """An epoch is the stretch between two checkpoints."""
        self._start_clocks()

    def _start_clocks(self) -> None:
        self._since, self._cpu_since, self._tasks_since = time.perf_counter(), time.process_time(), 0

    def on_train_batch_end(self, outputs: Any, batch: Tasks, batch_idx: int) -> None:
        """Log now and then, and at the end of every stretch."""
        step = self.trainer.global_step
        self._tasks_since += len(batch) * self.trainer.world_size
        if step % self.log_every == 0 or self.trainer.is_last_batch:
            self._log_training(batch, step)

    def _log_training(self, batch: Tasks, step: int) -> None:
        self._check_finite(step - 1)
        loss = torch.stack([value for value, _ in self._pending]).mean().item()
        self._pending.clear()
        assert self._last is not None
        with torch.no_grad():
            scores = self.problem.scores(self._last.query_logits, batch.query)
            achieved = scores["score"].mean().item()
        elapsed = time.perf_counter() - self._since
        self.seconds, self.tasks_done = self.seconds + elapsed, self.tasks_done + self._tasks_since
        self.cpu_seconds += time.process_time() - self._cpu_since
        rate = self._tasks_since / elapsed
        self._start_clocks()
        self.progress |= {"loss": loss, "score": achieved, "tasks_per_second": rate}
        lr = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        row = {"train/loss": loss, "train/score": achieved, "train/learning_rate": lr, "train/tasks_per_second": rate}
        self._write(row, step)

    def _check_finite(self, last_step: int) -> None:
        """Stop at the first loss that is not a number, before it reaches a checkpoint."""
        losses = torch.stack([loss for loss, _ in self._pending])
        if torch.isfinite(losses).all():
            return
        first = int((~torch.isfinite(losses)).nonzero()[0])
        step = last_step - (len(losses) - 1 - first)
        numbers = self._pending[first][1].tolist()
        left = f"; {self.last_good()}" if self.last_good else ""
        raise UserError(
            f"the outer loss became {losses[first].item()} at outer step {step}, in the tasks numbered "
            f"{numbers[0]} to {numbers[-1]} of the training stream{left}. Lower algorithm.rule.lr or outer.optimizer.lr, "
            f"or clip with trainer.gradient_clip_val=10"
        )

    def _write(self, row: dict[str, float], step: int) -> None:
        if self.trainer.is_global_zero and self.log_row is not None:
            self.log_row(row, step)

    def on_validation_epoch_start(self) -> None:
        """Forget the last scores."""
        self._parts = []

    def validation_step(self, tasks: Tasks, batch_idx: int) -> None:
        """Score a batch of validation episodes."""
        self._parts.append(score(self.learner, tasks, self.problem))

    def on_validation_epoch_end(self) -> None:
        """Mean scores before and after adaptation."""
        self.scores = gather(self._parts)
        before, after = (self.scores["curve"][:, point].double().mean().item() for point in (0, -1))
        metric, values = self.problem.selection(self.scores)
        self.progress |= {"before": before, "after": after, "merit": metric.sign * values.double().mean().item()}
        loss = self.scores["loss"].double().mean().item()
        row = {"validation/score": after, "validation/score_before": before, "validation/loss": loss}
        half_width = mean_interval(self.scores["score"].double().numpy()).half_width
        if half_width is not None:
            row["validation/half_width"] = half_width
        self._write(row, self.trainer.global_step)
        self._start_clocks()

    def on_test_epoch_start(self) -> None:
        """Forget the last scores."""
        self._parts = []

    def test_step(self, tasks: Tasks, batch_idx: int) -> None:
        """Score a batch of test episodes."""
        self._parts.append(score(self.learner, tasks, self.problem))

    def on_test_epoch_end(self) -> None:
        """Keep all episodes' scores in ``scores``."""
        self.scores = gather(self._parts)
