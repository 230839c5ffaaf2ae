"""What inner steps do to one task's parameters, representations and losses, looked at step by step."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.inner.autodiff import Eager, detached
from metaloop.inner.problem import InnerProblem
from metaloop.inner.selection.adapted import HEAD
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.gradient_learner import GradientTask
from metaloop.learners.learner import Learner, TakesSteps
from metaloop.learners.representations import FEATURES, OUTPUT, by_layer, layers_of, recorded
from metaloop.metrics.similarity import linear_cka, mean_cosine
from metaloop.types import Examples, Inputs, Params

MOVEMENT = ("distance", "relative_distance", "cosine", "gradient_norm")
SIMILARITY = ("cka", "cosine")


@dataclass(frozen=True)
class Stepwise:
    """A learner that adapts in inner steps.

    Attributes:
        task: start, losses and answers.
        problem: how it adapts.
        meta: all meta-parameters, without a graph.
        steps: that it takes outside of meta-training.
    """

    task: GradientTask
    problem: InnerProblem
    meta: Params
    steps: int

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the adapted parameters that belong to the head."""
        return tuple(name for name in self.task.adapted if name.startswith(HEAD))

    @property
    def body(self) -> tuple[str, ...]:
        """Names of the other adapted parameters."""
        return tuple(name for name in self.task.adapted if not name.startswith(HEAD))


def stepwise(learner: Learner) -> Stepwise | None:
    """The learner's inner problem; None for one that does not adapt in inner steps."""
    if not isinstance(learner, TakesSteps):
        return None
    meta = detached({name: value for name, value in learner.named_parameters() if value.requires_grad})
    return Stepwise(learner.task, learner.problem, meta, learner.eval_steps)


def walk(of: Stepwise, support: Examples, steps: int, held: Collection[str] = ()) -> Iterator[Params]:
    """The iterates of one task, its start first; parameters named in ``held`` stay at their start.

    To hold a part during adaptation is how Raghu et al. 2020 (section 3.2, "freezing") ask what the part's adaptation is for.
    """
    start = of.problem.task.start(of.meta, support)
    params, state = start, of.problem.rule.init(start)
    yield params
    for step in range(steps):
        params, state = of.problem.step(of.meta, params, state, support, step, Eager(), second_order=False)
        params = {name: start[name] if name in held else value for name, value in params.items()}
        yield params


@dataclass(frozen=True)
class Trace:
    """One task's adaptation at some of its inner steps, the first of them 0.

    Attributes:
        answers: (points, queries, *output).
        inner_loss: (points,), what the next step descends.
        movement: each of ``MOVEMENT`` (points, layers with adapted parameters): the distance from the start, and over the
            start's norm (nan where that is zero), the cosine with the start, the norm of the inner loss's gradient.
        similarity: each of ``SIMILARITY`` (points, layers) between the real queries' representations at the start and now.
        start, end: the adapted parameters.
    """

    answers: Tensor
    inner_loss: Tensor
    movement: dict[str, Tensor]
    similarity: dict[str, Tensor]
    start: Params
    end: Params


def moving_layers(of: Stepwise) -> dict[str, list[str]]:
    """The layers of ``Trace.movement`` in order, each with its adapted parameters' names."""
    return by_layer(of.task.adapted, layers_of(of.task.model.module))


def trace(of: Stepwise, support: Examples, query: Examples, points: Sequence[int]) -> tuple[Trace, tuple[str, ...]]:
    """Follow one task (no tasks axis) through its inner steps.

    Returns:
        What happened, and the names of the layers of ``Trace.similarity``.
    """
    groups, eager = moving_layers(of), Eager()
    start: Params = {}
    before: dict[str, Tensor] = {}
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for step, params in enumerate(walk(of, support, points[-1])):
        if step not in points:
            continue
        gradients, loss = eager.gradient(
            lambda at, step=step: of.problem.inner_loss(of.meta, at, support, step),  # type: ignore[misc]
            params,
            second_order=False,
        )
        answers, seen = _represented(of, params, support, query)
        start, before = (start, before) if start else (params, seen)
        rows.append((answers, loss, _movement(params, start, gradients, groups), _similarity(before, seen)))
    answers, losses, moved, alike = (torch.stack(column) for column in zip(*rows, strict=True))
    movement = dict(zip(MOVEMENT, moved.unbind(1), strict=True))
    similarity = dict(zip(SIMILARITY, alike.unbind(1), strict=True))
    return Trace(answers, losses, movement, similarity, start, params), tuple(before)


def _represented(of: Stepwise, params: Params, support: Examples, query: Examples) -> tuple[Tensor, dict[str, Tensor]]:
    """The answers to a task's queries, and by layer its representations of those that are real."""
    with recorded(of.task.model.module) as seen:
        answers = of.task.answer(of.meta, params, support, query.x, query.mask)
    real = slice(None) if query.mask is None else query.mask
    # In norm mode "support" the support set comes first.
    return answers, {n: value[-len(answers) :][real] for n, value in seen.items() if n not in (FEATURES, OUTPUT)}


def _movement(params: Params, start: Params, gradients: Params, groups: dict[str, list[str]]) -> Tensor:
    """(movement, layers)"""

    def flat(values: Params, names: list[str]) -> Tensor:
        return torch.cat([values[name].flatten() for name in names]).double()

    columns = []
    for names in groups.values():
        first, now, gradient = (flat(values, names) for values in (start, params, gradients))
        distance, norm = (now - first).norm(), first.norm()
        relative = distance / norm if norm > 0 else torch.full_like(norm, torch.nan)
        columns.append(torch.stack([distance, relative, (first @ now) / (norm * now.norm()), gradient.norm()]))
    return torch.stack(columns, 1)


def _similarity(before: dict[str, Tensor], now: dict[str, Tensor]) -> Tensor:
    """(similarity, layers)"""
    pairs = [(before[name], now[name]) for name in before]
    if not pairs:
        return torch.zeros(len(SIMILARITY), 0)
    return torch.stack([torch.stack([measure(a, b) for a, b in pairs]) for measure in (linear_cka, mean_cosine)])


def features(
    model: FunctionalModel, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(support, features) and (queries, features) of one task: what the head gets to see, or the answer where there is none."""
    with recorded(model.module) as seen:
        model.outputs(meta, params, support.x, support.mask)
        own = seen[FEATURES]
    with recorded(model.module) as seen:
        answers = model.query_outputs(meta, params, support, x, mask)
        theirs = seen[FEATURES]
    return own.flatten(1), theirs[-len(answers) :].flatten(1)
