"""metaloop as its users run it: composed from conf/, tasks run by the choice of `auto`, with a tuned allocator."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from harness.cases import Batch, Case
from harness.models import Encoder
from harness.peers import Contestant
from metaloop.config.build import build_learner, make
from metaloop.config.folder import conf_dir
from metaloop.data.episodes import Episodes
from metaloop.data.functions.sinusoid import Sinusoids
from metaloop.data.philox import Stream
from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import Vmap
from metaloop.learners.learner import Learner
from metaloop.models.norm import with_own_layer_norms
from metaloop.problems.classification import Classification
from metaloop.problems.problem import Problem
from metaloop.problems.regression import Regression
from metaloop.records.environment import versions
from metaloop.system.allocator import tune
from metaloop.training.stretches.captured import CapturedStep, Clipping, StepFunction, leaves_of, meta_batches, run_steps
from metaloop.training.stretches.capturing import (
    NotCapturedError,
    arguments,
    capture,
    check_captured,
    check_pays,
    optimizer_state,
    parameters_of,
)
from metaloop.types import EpisodeSpec, Examples, Tasks

EXPECTED_STEPS = 60_000  # of a long run: Finn et al.'s on Omniglot


@dataclass(frozen=True)
class Shapes:
    """The part of a task distribution that `build_learner` needs."""

    case: Case
    num_classes: ClassVar[None] = None
    inputs: ClassVar[None] = None
    fields: ClassVar[tuple[()]] = ()

    def labelled(self) -> None:
        """Nothing to look at before training."""

    @property
    def problem(self) -> Problem:
        """Classification or regression."""
        return Classification() if self.case.ways else Regression()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.case.input_shape

    def outputs(self, spec: EpisodeSpec) -> int:
        """Number of the head's outputs."""
        return self.case.outputs


def encoder(input_shape: tuple[int, ...], outputs: int, width: int) -> nn.Module:
    """Build the plain encoder with metaloop's layer norms, as users do with models of their own."""
    return with_own_layer_norms(Encoder(input_shape, outputs, width))


def config(case: Case, overrides: list[str]) -> dict[str, Any]:
    """Compose the config groups that a learner is built from."""
    model = {"conv4": "conv4", "perceptron": "mlp", "encoder": "mlp"}[case.model]
    words = ["algorithm=maml", f"model={model}", f"algorithm.steps={case.steps}", f"algorithm.rule.lr={case.lr}"]
    words += [f"trainer.max_steps={EXPECTED_STEPS}", f"outer.meta_batch={case.meta_batch}"]
    if case.model == "conv4":
        words += [f"model.filters={case.width}", f"model.downsample={case.downsample}"]
    elif case.model == "perceptron":
        words += [f"model.hidden=[{case.width},{case.width}]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("train", words + overrides)
    result = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("algorithm", "model", "evaluation", "outer")}
    if case.model == "encoder":
        result["model"] = {"_target_": "harness.ours.encoder", "width": case.width}
    return result | {"seed": 0}


def stacked(case: Case, tasks: Batch, first: int = 0) -> Tasks:
    """Convert a batch to metaloop's tasks, numbered from ``first``."""
    support = Examples(tasks["support_x"], tasks["support_y"], ways=case.ways)
    query = Examples(tasks["query_x"], tasks["query_y"], ways=case.ways)
    return Tasks(support, query, torch.arange(first, first + len(support.y), device=support.y.device))


class Stretch:
    """Outer steps by one compiled function, as `metaloop train` takes them between two rows of metrics.

    Args:
        learner: a learner.
        optimizer: its optimizer, which has taken a step.
        tasks: a meta-batch.
        episodes: the meta-batches that are drawn.
    """

    def __init__(self, learner: Learner, optimizer: torch.optim.Optimizer, tasks: Tasks, episodes: Episodes) -> None:
        parameters = parameters_of(learner)
        check_captured(learner, "always")
        check_pays(learner, parameters, tasks, EXPECTED_STEPS)
        self.state, self.episodes, self.size, self.step = optimizer_state(optimizer, parameters), episodes, len(tasks), 0
        (first, _), (second, _) = meta_batches(episodes, self.size, 0, 2)
        tree = leaves_of(episodes.tasks(torch.arange(self.size)))[1]
        function = StepFunction(learner, self.state.layout, self.state.update, Clipping(None, by_norm=True), tree)
        self.captured: CapturedStep
        self.captured, self.report = capture(function, arguments(self.state, first), arguments(self.state, second))

    def take(self, count: int) -> None:
        """Draw the next meta-batches and take their outer steps."""
        batches = meta_batches(self.episodes, self.size, self.step, self.step + count)
        run_steps(self.captured, self.state, [self.state.rate] * count, batches)
        self.step += count


class Metaloop(Contestant):
    """metaloop's MAML learner.

    Args:
        case: the setting.
        weights: initial weights, named as in the plain model.
        device: "cpu" or "cuda".
        overrides: further overrides of the config, such as ``algorithm/over_tasks=loop``.
        tuned: tune the allocator as `metaloop train` does; effective only before the first large tensor.
    """

    def __init__(
        self, case: Case, weights: dict[str, Tensor], device: str, overrides: list[str] | None = None, *, tuned: bool = True
    ) -> None:
        if tuned:
            tune()
        self.case, self.overrides = case, overrides or []
        composed = config(case, self.overrides)
        self.eval_batch = composed["evaluation"]["batch"]
        spec = EpisodeSpec(max(case.ways, 1), case.shots, case.queries)
        self.learner = build_learner(composed, Shapes(case), spec).to(device)
        self.learner.model.load_state_dict(weights)
        self.model = self.learner.model
        self.stretch: Stretch | None = None
        self.warm = False  # a first outer step makes the choice of how tasks are run, and is no measurement
        self.report = "" if device == "cpu" and isinstance(self.learner.over_tasks, Auto | Vmap) else "one by one"
        if self.report == "" and case.model == "perceptron" and isinstance(self.learner.over_tasks, Auto):
            self.learner.over_tasks.allow_compiling(False)  # as Stretches.begin does
        self._make_optimizer = make(composed["outer"]["optimizer"], "outer.optimizer")

    def optimizer(self) -> torch.optim.Optimizer:
        """Make Adam as conf/outer/adam.yaml does."""
        return self._make_optimizer(list(self.parameters()))

    def meta_gradient(self, tasks: Batch) -> None:
        """See `Contestant.meta_gradient`."""
        self.learner.meta_loss(stacked(self.case, tasks)).loss.backward()

    def outer_steps(self, optimizer: torch.optim.Optimizer, tasks: Batch, count: int) -> None:
        """See `Contestant.outer_steps`; as in a long run, in a stretch where that pays, with episodes drawn in it."""
        if self.stretch is None:
            super().outer_steps(optimizer, tasks, count)
            if self.report == "" and self.warm:
                self._try_stretches(optimizer, stacked(self.case, tasks))
            self.warm = True
        else:
            self.stretch.take(count)

    def _try_stretches(self, optimizer: torch.optim.Optimizer, tasks: Tasks) -> None:
        try:
            self.stretch = Stretch(self.learner, optimizer, tasks, self.episodes)
            self.report = self.stretch.report
        except NotCapturedError as reason:
            self.report = f"one by one, because {reason}"
            if isinstance(self.learner.over_tasks, Auto):
                self.learner.over_tasks.allow_compiling(True)

    @property
    def episodes(self) -> Episodes:
        """What users' runs draw in this setting; sinusoids, which are all that is small enough for stretches."""
        if self.case.model != "perceptron":
            raise NotCapturedError("the setting is not drawn here")
        distribution = Sinusoids((0.1, 5.0), (0.0, math.pi), (-5.0, 5.0))
        return Episodes(distribution, EpisodeSpec(1, self.case.shots, self.case.queries), Stream(0, "train"))

    def answers(self, tasks: Batch) -> Tensor:
        """See `Contestant.answers`; in batches of the config's ``evaluation.batch``."""
        everything, outputs = stacked(self.case, tasks), []
        for start in range(0, len(everything), self.eval_batch):
            few = everything[start : start + self.eval_batch]
            outputs.append(self.learner.adapt(few.support)(few.query.x))
        return torch.cat(outputs)

    def to(self, dtype: torch.dtype) -> None:
        """See `Contestant.to`."""
        self.learner.to(dtype)

    def about(self) -> dict[str, str]:
        """See `Contestant.about`; the choices of `auto` are made at the first call."""
        packages = versions()
        choices = self.learner.over_tasks.choices() or {"gradient": self.learner.over_tasks.name}
        report = getattr(self.learner.over_tasks, "report", "")
        return {
            "torch": packages["torch"],
            "metaloop": packages["metaloop"],
            **choices,
            "report": report,
            "outer steps": self.report,
        }

    def looped(self) -> "Metaloop":
        """Build the same learner with tasks run in a loop in this process, which a profiler can follow."""
        loop = [*self.overrides, "algorithm/over_tasks=loop"]
        return Metaloop(self.case, self.model.state_dict(), str(self.parameters()[0].device), loop)
