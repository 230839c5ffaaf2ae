"""How inner steps change one task's parameters, representations and losses."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.inner.autodiff import Eager
from metaloop.inner.problem import InnerProblem
from metaloop.inner.selection.adapted import HEAD
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.gradient_task import GradientTask
from metaloop.learners.gradient.step_norms import last_step, with_step_norms
from metaloop.learners.learner import Learner, TakesSteps
from metaloop.learners.representations import FEATURES, OUTPUT, by_layer, layers_of, recorded
from metaloop.metrics.similarity import linear_cka, mean_cosine
from metaloop.types import Examples, Inputs, Params

MOVEMENT = ("distance", "relative_distance", "cosine", "gradient_norm")
SIMILARITY = ("cka", "cosine")


@dataclass(frozen=True)
class Stepwise:
    """The inner problem of a learner that takes inner steps, and its meta-parameters.

    Attributes:
        task: the start, losses and answers of a task.
        problem: how parameters adapt.
        meta: all meta-parameters, without a graph.
        steps_for: number of inner steps outside meta-training, of the number of support examples.
    """

    task: GradientTask
    problem: InnerProblem
    meta: Params
    steps_for: Callable[[int], int]

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the adapted parameters of the head."""
        return tuple(name for name in self.task.adapted if name.startswith(HEAD))

    @property
    def body(self) -> tuple[str, ...]:
        """Names of the other adapted parameters."""
        return tuple(name for name in self.task.adapted if not name.startswith(HEAD))


def stepwise(learner: Learner) -> Stepwise | None:
    """Return the learner's inner problem; None if it takes no inner steps."""
    if not isinstance(learner, TakesSteps):
        return None
    return Stepwise(learner.task, learner.problem, learner.values(), learner.steps_for)


def walk(of: Stepwise, support: Examples, steps: int, frozen: Collection[str] = ()) -> Iterator[Params]:
    """Yield the iterates of one task, the start first; parameters named in ``frozen`` stay at their start.

    Raghu et al. 2020 (section 3.2, "freezing") freeze a part during adaptation to measure what its adaptation contributes.
    """
    start = of.problem.task.start(of.meta, support)
    params, state = start, of.problem.first_state(of.meta, start)
    yield params
    for step in range(steps):
        params, state = of.problem.step(of.meta, params, state, support, step, Eager(), second_order=False)
        params = {name: start[name] if name in frozen else value for name, value in params.items()}
        yield params


@dataclass(frozen=True)
class Trace:
    """One task's adaptation at some of its inner steps ("points"), the first of them step 0.

    Attributes:
        answers: (points, queries, *output).
        inner_loss: (points,), the loss that the next step minimises.
        movement: for each of ``MOVEMENT`` (points, layers with adapted parameters). The distance from the start; this distance
            relative to the norm of the start (nan if that is zero); the cosine with the start; the norm of the inner loss's
            gradient.
        similarity: for each of ``SIMILARITY`` (points, layers), between the real queries' representations at the start and at
            the point.
        start: the adapted parameters before adaptation.
        end: the adapted parameters at the last point.
    """

    answers: Tensor
    inner_loss: Tensor
    movement: dict[str, Tensor]
    similarity: dict[str, Tensor]
    start: Params
    end: Params


def moving_layers(of: Stepwise) -> dict[str, list[str]]:
    """Return the layers of ``Trace.movement`` in order, each with the names of its adapted parameters."""
    return by_layer(of.task.adapted, layers_of(of.task.model.module))


def trace(of: Stepwise, support: Examples, query: Examples, points: Sequence[int]) -> tuple[Trace, tuple[str, ...]]:
    """Trace the adaptation to one task (no task axis).

    Args:
        of: the inner problem.
        support: (examples, ...).
        query: (queries, ...).
        points: inner steps to record, ascending from 0.

    Returns:
        The trace, and the names of the layers of ``Trace.similarity``.
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
        answers, representations = _representations(of, params, support, query, step)
        start, before = (start, before) if start else (params, representations)
        rows.append((answers, loss, _movement(params, start, gradients, groups), _similarity(before, representations)))
    answers, losses, movements, similarities = (torch.stack(column) for column in zip(*rows, strict=True))
    movement = dict(zip(MOVEMENT, movements.unbind(1), strict=True))
    similarity = dict(zip(SIMILARITY, similarities.unbind(1), strict=True))
    ends = [with_step_norms(of.task.step_norms, of.meta, *end) for end in ((start, 0), (params, last_step(points[-1])))]
    return Trace(answers, losses, movement, similarity, *ends), tuple(before)


def _representations(
    of: Stepwise, params: Params, support: Examples, query: Examples, taken: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Answer a task's queries after ``taken`` steps, and return the representations of the real ones by layer, too."""
    with recorded(of.task.model.module) as outputs:
        answers = of.task.answer(of.meta, params, support, query.x, query.mask, taken)
    real = slice(None) if query.mask is None else query.mask
    # In norm mode "support" the rows of the support set come first.
    return answers, {n: value[-len(answers) :][real] for n, value in outputs.items() if n not in (FEATURES, OUTPUT)}


def _movement(params: Params, start: Params, gradients: Params, groups: dict[str, list[str]]) -> Tensor:
    """Compute ``MOVEMENT`` of each layer: (measures, layers)."""

    def flat(values: Params, names: list[str]) -> Tensor:
        return torch.cat([values[name].flatten() for name in names]).double()

    columns = []
    for names in groups.values():
        initial, current, gradient = (flat(values, names) for values in (start, params, gradients))
        distance, norm = (current - initial).norm(), initial.norm()
        relative = distance / norm if norm > 0 else torch.full_like(norm, torch.nan)
        columns.append(torch.stack([distance, relative, (initial @ current) / (norm * current.norm()), gradient.norm()]))
    return torch.stack(columns, 1)


def _similarity(before: dict[str, Tensor], after: dict[str, Tensor]) -> Tensor:
    """Compute ``SIMILARITY`` of each layer: (measures, layers)."""
    pairs = [(before[name], after[name]) for name in before]
    if not pairs:
        return torch.zeros(len(SIMILARITY), 0)
    return torch.stack([torch.stack([measure(a, b) for a, b in pairs]) for measure in (linear_cka, mean_cosine)])


def features(
    model: FunctionalModel, meta: Params, params: Params, support: Examples, x: Inputs, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute features of one task's support set (examples, features) and queries (queries, features).

    Features are the input of the head, or the model's output if it has no head.
    """
    with recorded(model.module) as outputs:
        model.outputs(meta, params, support.x, support.mask)
        of_support = outputs[FEATURES]
    with recorded(model.module) as outputs:
        answers = model.query_outputs(meta, params, support, x, mask)
        of_queries = outputs[FEATURES]
    return of_support.flatten(1), of_queries[-len(answers) :].flatten(1)
