"""The meta-gradient of adapted policies against that of exact expected returns, in processes that can be enumerated."""

import pytest
import torch
from exact import (
    ACTIONS,
    STATES,
    Process,
    adapted_exactly,
    adapted_return,
    all_episodes,
    meta_of,
    network,
    policy_of,
    problem_of,
    processes,
)
from torch import Tensor
from torch.utils._pytree import tree_map

from metaloop.inner.problem import MODEL
from metaloop.learners.control.policy_gradient.replay import Replay
from metaloop.learners.control.policy_gradient.surrogates import LVC, DiCE, InnerSurrogate, LogLikelihood
from metaloop.learners.control.policy_gradient.updates import ClippedRatio
from metaloop.types import Params


def stacked(processes: list[Process], params: list[Params], *, baseline: bool = False) -> object:
    model = network()
    random = torch.Generator().manual_seed(5)
    parts = []
    for process, at in zip(processes, params, strict=True):
        values = 3 * torch.randn(process.horizon, STATES, generator=random).double() if baseline else None
        parts.append(all_episodes(process, policy_of(model, at).log().detach(), values))
    return tree_map(lambda *each: torch.stack(each), *parts)


def found(surrogate: InnerSurrogate, steps: int, horizon: int, *, baseline: bool = False, exact: bool = True) -> Tensor:
    """The meta-gradient of the learner's code, with all episodes in the place of drawn ones."""
    model, tasks = network(), processes(2, horizon)
    start = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    paths = [[adapted_exactly(model, start, process, taken) for process in tasks] for taken in range(steps + 1)]
    experiences = [stacked(tasks, at, baseline=baseline) for at in paths]
    problem = problem_of(model, surrogate, steps)
    replay = Replay(problem, 0 if exact else steps, experiences[:-1], {steps: experiences[-1]})  # type: ignore[arg-type]
    gradients = ClippedRatio(None, 0.0, 1).gradient(replay, meta_of(model))
    return -torch.cat([gradients[MODEL + name].flatten() for name in start])


def expected(steps: int, horizon: int) -> Tensor:
    """The gradient of the exact return after exact adaptation."""
    model = network()
    start = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    value = adapted_return(model, start, processes(2, horizon), steps)
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(start.values()))])


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("baseline", [False, True])
def test_dice_has_the_exact_meta_gradient(steps: int, baseline: bool) -> None:
    right = expected(steps, horizon=3)
    assert (found(DiCE(), steps, horizon=3, baseline=baseline) - right).norm() < 1e-10 * right.norm()


def test_the_exact_meta_gradient_is_that_of_finite_differences() -> None:
    model, tasks, gradient = network(), processes(2, 3), expected(2, 3)
    start = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    flat = torch.cat([value.detach().flatten() for value in start.values()])
    sizes = [value.numel() for value in start.values()]

    def value(at: Tensor) -> Tensor:
        parts = at.split(sizes)
        moved = {name: p.view(v.shape).requires_grad_() for (name, v), p in zip(start.items(), parts, strict=True)}
        return adapted_return(model, moved, tasks, 2).detach()

    for entry in range(0, len(flat), 5):
        step = torch.zeros_like(flat)
        step[entry] = 1e-5
        assert abs((value(flat + step) - value(flat - step)) / 2e-5 - gradient[entry]) < 1e-8


def test_the_log_likelihood_drops_a_term_of_the_meta_gradient() -> None:
    right = expected(1, horizon=3)
    assert (found(LogLikelihood(), 1, horizon=3) - right).norm() > 0.05 * right.norm()
    first_order = found(DiCE(), 1, horizon=3, exact=False)
    assert torch.allclose(found(LogLikelihood(), 1, horizon=3, exact=False), first_order)


def test_the_low_variance_curvature_is_exact_for_episodes_of_one_step() -> None:
    right = expected(2, horizon=1)
    assert (found(LVC(), 2, horizon=1) - right).norm() < 1e-10 * right.norm()
    assert (found(LVC(), 1, horizon=3) - expected(1, horizon=3)).norm() > 0.01 * right.norm()


def test_the_low_variance_curvature_lacks_what_a_policy_changes_later() -> None:
    """Rothfuss et al. 2019: its second derivative is H1 + H2, and the exact one H1 + H2 + H12 + H12'."""
    (process,) = processes(1, 3)
    logits = torch.linspace(-1, 1, STATES * ACTIONS, dtype=torch.float64)
    episodes = all_episodes(process, logits.view(STATES, ACTIONS))

    def surrogate(at: Tensor) -> Tensor:
        log_probability = at.view(STATES, ACTIONS).log_softmax(-1)[episodes.x.argmax(-1), episodes.y]  # type: ignore[union-attr]
        shape = episodes.episodes, -1
        log_ratio = (log_probability - episodes.log_probabilities).view(shape)
        return LVC().gains(log_ratio, episodes.advantages.view(shape)).sum(1).mean()

    def returned(at: Tensor) -> Tensor:
        return process.expected_return(at.view(STATES, ACTIONS).softmax(-1))

    jacobian, hessian = torch.autograd.functional.jacobian, torch.autograd.functional.hessian
    assert torch.allclose(jacobian(surrogate, logits), jacobian(returned, logits))
    cross = _cross(process, logits)
    assert torch.allclose(hessian(surrogate, logits), hessian(returned, logits) - cross - cross.T)
    assert cross.norm() > 0.1


def _cross(process: Process, logits: Tensor) -> Tensor:
    """H12: the sum over steps of E[(d log probability of the action) (d value of the action)']."""
    policy = logits.view(STATES, ACTIONS).softmax(-1)
    scores = torch.autograd.functional.jacobian(lambda at: at.view(STATES, ACTIONS).log_softmax(-1), logits)

    def values(at: Tensor) -> Tensor:
        return torch.stack(process.values(at.view(STATES, ACTIONS).softmax(-1)))

    slopes = torch.autograd.functional.jacobian(values, logits)
    visited, total = torch.eye(STATES, dtype=torch.float64)[0], torch.zeros(len(logits), len(logits), dtype=torch.float64)
    for step in range(process.horizon):
        chances = visited[:, None] * policy
        total += torch.einsum("sa,sai,saj->ij", chances, scores, slopes[step])
        visited = torch.einsum("sa,sat->t", chances, process.transitions)
    return total
