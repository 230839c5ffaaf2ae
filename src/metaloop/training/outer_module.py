"""The outer loop: one Lightning module for every learner."""

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
from metaloop.learners.network_check import check_network
from metaloop.learners.padding_check import check_padding
from metaloop.metrics.interval import mean_interval
from metaloop.problems.problem import Problem, Scores
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.training.progress import ShowsProgress
from metaloop.training.scores import gather, score
from metaloop.training.stretches.stretches import Stretches
from metaloop.types import OuterLoss, Tasks


class OuterModule(LightningModule, ShowsProgress):
    """Lightning module that takes one optimiser step for each meta-batch and scores episodes.

    Args:
        learner: Learner whose parameters are optimised.
        problem: Problem that scores predictions.
        optimizer: Makes the outer optimiser from the parameters; None for a module that only tests.
        schedule: Makes a learning rate schedule from the optimiser, stepped every outer step; None for a constant rate.
        log_every: Outer steps between two rows of metrics.
        low_precision_meta_gradient: Whether the trainer's autocast applies to meta-training. Off by default, because bf16
            meta-gradients were measured to be 14 to 38 % wrong. Evaluation uses the trainer's precision either way.
        log: Function of a row of metrics and the outer step, called on rank zero; None to discard the rows.
        last_good: Function that names the last good checkpoint, for error messages; None for a module that only tests.
        stretches: Takes outer steps between those of Lightning; None to take them all one by one.

    Raises:
        UserError: ``log_every`` is below 1.
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
        stretches: Stretches | None = None,
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
        self.stretches = stretches
        self.progress: dict[str, float] = {}
        self.scores: Scores = {}
        self.seconds, self.cpu_seconds, self.tasks_done = 0.0, 0.0, 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._parts: list[Scores] = []
        self._last: OuterLoss | None = None
        self._checked = False
        self._since, self._cpu_since, self._tasks_since = 0.0, 0.0, 0

    def configure_optimizers(self) -> Any:
        """Make the outer optimiser and its schedule; for a learner that learns nothing, one that changes nothing.

        Raises:
            UserError: there are no parameters, or torch refuses the arguments.
        """
        assert self.make_optimizer is not None
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        if not parameters:
            raise UserError(
                "neither model nor algorithm has a parameter, so nothing can be meta-trained: use "
                "algorithm=nearest_centroid, which needs no training, or another model (with model.frozen=true set "
                "model.projection=WIDTH)"
            )
        try:
            optimizer = self.make_optimizer(parameters)
            if optimizer.defaults.get("fused") and any(parameter.is_complex() for parameter in parameters):
                raise UserError("a complex parameter needs outer.optimizer.fused=false")
            if self.learner.whole_step and self.learner.learns:
                self._check_whole_step(optimizer)
            if not self.learner.learns:  # gradients are zero, but weight decay is not
                return torch.optim.SGD(parameters, lr=0.0)
            if self.make_schedule is None:
                return optimizer
            schedule = self.make_schedule(optimizer)
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise UserError(f"outer.optimizer or outer.schedule cannot be made: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _check_whole_step(self, optimizer: Optimizer) -> None:
        """Raise a UserError if anything would change the outer step that the learner takes by itself."""
        group = optimizer.param_groups[0]
        changed = any(group.get(key) for key in ("momentum", "weight_decay", "maximize", "nesterov", "dampening"))
        plain = type(optimizer) is torch.optim.SGD and group["lr"] == 1 and not changed and self.make_schedule is None
        if not plain:
            raise UserError(
                f"outer.optimizer={type(optimizer).__name__}: this learner's outer update (algorithm.outer_update) is the "
                f"whole outer step, which an optimizer or a schedule would change; take outer=whole_step, or another "
                f"algorithm/outer_update"
            )
        clip = self.trainer.gradient_clip_val
        if clip:
            raise UserError(
                f"trainer.gradient_clip_val={clip}: this learner's outer update (algorithm.outer_update) is the whole outer "
                f"step and bounds its length itself; set it to null"
            )

    def on_train_start(self) -> None:
        """Prepare the stretches of outer steps.

        Raises:
            UserError: the config asks for stretches, which are impossible here.
        """
        data = getattr(self.trainer, "datamodule", None)
        if self.stretches is not None and isinstance(data, EpisodeDataModule):
            self.stretches.begin(self.trainer, data.episodes("train", "cpu" if data.plan.workers else self.device))

    def _take_stretch(self, tasks: Tasks) -> None:
        """Take the outer steps between the trainer's and that of ``tasks``, which the training loader has left out."""
        if self.stretches is None or not self.stretches.taken:
            return
        stop = int(tasks.index[0]) // self.stretches.meta_batch
        steps = self.stretches.take(self.trainer, stop)
        self._pending += steps
        self._tasks_since += len(steps) * len(tasks)

    def training_step(self, tasks: Tasks, batch_idx: int) -> Tensor:
        """The outer loss of one meta-batch; a stretch of outer steps before it is taken first."""
        self._take_stretch(tasks)
        self.learner.outer_step = self.trainer.global_step
        if not self._checked:
            check_network(self.learner, tasks)
            check_padding(self.learner, tasks)
            self._checked = True
        if self.trainer.precision == "32-true" or self.low_precision_meta_gradient:
            result = self.learner.meta_loss(tasks)
        else:
            with torch.autocast(self.device.type, enabled=False):
                result = self.learner.meta_loss(tasks)
        self._last = result
        self._pending.append((result.loss.detach(), tasks.index))
        # On a GPU, reading every loss would synchronize the device; the next row of metrics checks the losses there.
        if self.device.type == "cpu" and not math.isfinite(result.loss.item()):
            self._check_finite(self.trainer.global_step)
        return result.loss

    def on_after_backward(self) -> None:
        """Drop the gradients of resting parameters; not earlier, because distributed ranks wait for all gradients."""
        assert self._last is not None
        for name in self._last.resting:
            self.learner.get_parameter(name).grad = None

    def on_train_epoch_start(self) -> None:
        """Start the clocks of an epoch, which lasts from one checkpoint to the next."""
        self._start_clocks()

    def _start_clocks(self) -> None:
        self._since, self._cpu_since, self._tasks_since = time.perf_counter(), time.process_time(), 0

    def on_train_batch_end(self, outputs: Any, batch: Tasks, batch_idx: int) -> None:
        """Log a row every ``log_every`` outer steps, and at the end of every epoch."""
        step = self.trainer.global_step
        self._tasks_since += len(batch) * self.trainer.world_size
        if self.stretches is not None:
            self.stretches.after_step(self.trainer, batch)
        if step % self.log_every == 0 or self.trainer.is_last_batch:
            self._log_training(batch, step)

    def _log_training(self, batch: Tasks, step: int) -> None:
        self._check_finite(step - 1)
        loss = torch.stack([value for value, _ in self._pending]).mean().item()
        self._pending.clear()
        assert self._last is not None
        with torch.no_grad():
            scores = self.problem.scores(self._last.query_logits, batch.query)
            mean_score = scores["score"].mean().item()
        elapsed = time.perf_counter() - self._since
        self.seconds, self.tasks_done = self.seconds + elapsed, self.tasks_done + self._tasks_since
        self.cpu_seconds += time.process_time() - self._cpu_since
        rate = self._tasks_since / elapsed
        self._start_clocks()
        self.progress |= {"loss": loss, "score": mean_score, "tasks_per_second": rate}
        lr = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        row = {"train/loss": loss, "train/score": mean_score, "train/learning_rate": lr, "train/tasks_per_second": rate}
        self._write(row, step)

    def _check_finite(self, last_step: int) -> None:
        """Raise a UserError for the first loss that is not finite, before a checkpoint is written."""
        losses = torch.stack([loss for loss, _ in self._pending])
        if torch.isfinite(losses).all():
            return
        first = int((~torch.isfinite(losses)).nonzero()[0])
        step = last_step - (len(losses) - 1 - first)
        numbers = self._pending[first][1].tolist()
        checkpoint = f"; {self.last_good()}" if self.last_good else ""
        raise UserError(
            f"the outer loss became {losses[first].item()} at outer step {step}, in the tasks numbered "
            f"{numbers[0]} to {numbers[-1]} of the training stream{checkpoint}. Lower algorithm.rule.lr or "
            f"outer.optimizer.lr, or clip with trainer.gradient_clip_val=10"
        )

    def _write(self, row: dict[str, float], step: int) -> None:
        if self.trainer.is_global_zero and self.log_row is not None:
            self.log_row(row, step)

    def on_validation_epoch_start(self) -> None:
        """Discard the scores of the last evaluation."""
        self._parts = []

    def validation_step(self, tasks: Tasks, batch_idx: int) -> None:
        """Score a batch of validation episodes."""
        self._parts.append(score(self.learner, tasks, self.problem))

    def on_validation_epoch_end(self) -> None:
        """Log the mean scores before and after adaptation."""
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
        """Discard the scores of the last evaluation."""
        self._parts = []

    def test_step(self, tasks: Tasks, batch_idx: int) -> None:
        """Score a batch of test episodes."""
        self._parts.append(score(self.learner, tasks, self.problem))

    def on_test_epoch_end(self) -> None:
        """Gather the scores of all episodes in ``scores``."""
        self.scores = gather(self._parts)
