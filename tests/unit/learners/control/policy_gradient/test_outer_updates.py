"""Outer updates against hand-written ones, in decision processes that can be enumerated."""

from dataclasses import replace

import pytest
import torch
from exact import adapted_exactly, all_episodes, meta_of, network, policy_of, problem_of, processes
from torch import Tensor, distributions
from torch.utils._pytree import tree_map

from metaloop.errors import UserError
from metaloop.inner.problem import MODEL
from metaloop.learners.control.policy_gradient.played import PlayedEpisodes
from metaloop.learners.control.policy_gradient.policy_task import outputs_of_tasks
from metaloop.learners.control.policy_gradient.replay import Replay
from metaloop.learners.control.policy_gradient.surrogates import LVC
from metaloop.learners.control.policy_gradient.trust_region import TrustRegion, conjugate_gradient
from metaloop.learners.control.policy_gradient.updates import ClippedRatio
from metaloop.types import Params


def played() -> tuple[Replay, dict[str, Tensor]]:
    """One inner step on all episodes of two decision processes, and the parameters that played them."""
    model, tasks = network(), processes(2, 2)
    start = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    parts = []
    for taken in (0, 1):
        at = [adapted_exactly(model, start, process, taken) for process in tasks]
        each = [all_episodes(p, policy_of(model, a).log().detach()) for p, a in zip(tasks, at, strict=True)]
        parts.append(tree_map(lambda *tensors: torch.stack(tensors), *each))
    return Replay(problem_of(model, LVC(), 1), 0, parts[:1], {1: parts[1]}), meta_of(model)


def moved(meta: Params, by: float) -> dict[str, Tensor]:
    torch.manual_seed(2)
    return {name: value + by * torch.randn_like(value) for name, value in meta.items()}


def outputs(replay: Replay, meta: Params, params: Params, experience: PlayedEpisodes) -> Tensor:
    assert isinstance(experience.x, Tensor)
    return outputs_of_tasks(replay.task, meta, params, experience.x)


def test_the_loss_of_promp_is_clipped_gain_and_penalty() -> None:
    replay, old = played()
    new = moved(old, 0.3)
    losses = ClippedRatio(0.1, 0.7, 1).losses(replay, new)
    iterates = replay.iterates(new)
    for task in range(2):
        gain, (after, before) = 0.0, (replay.outer[1], replay.inner[0])
        logits = outputs(replay, new, iterates[1], after)[task].log_softmax(-1)
        for row in range(len(logits)):
            ratio = float((logits[row, after.y[task, row]] - after.log_probabilities[task, row]).exp())
            advantage = float(after.advantages[task, row])
            gain += min(ratio * advantage, min(max(ratio, 0.9), 1.1) * advantage) / len(logits)
        first, second = before.outputs[task], outputs(replay, new, iterates[0], before)[task]
        kinds = (distributions.Categorical(logits=logits) for logits in (first, second))
        assert float(losses[task]) == pytest.approx(-gain + 0.7 * float(distributions.kl_divergence(*kinds).mean()))


def test_the_gradient_of_promp_is_that_of_finite_differences() -> None:
    replay, old = played()
    meta, update = moved(old, 0.05), ClippedRatio(0.3, 0.5, 1)
    gradients = update.gradient(replay, meta)
    direction = moved({name: torch.zeros_like(value) for name, value in meta.items()}, 1.0)
    ahead, behind = (
        update.losses(replay, {name: value + sign * 1e-5 * direction[name] for name, value in meta.items()}).mean()
        for sign in (1, -1)
    )
    slope = sum((gradients[name] * direction[name]).sum() for name in meta)
    assert torch.allclose((ahead - behind) / 2e-5, slope, rtol=1e-5)


def test_a_step_of_the_trust_region_is_natural_and_as_long_as_the_limit() -> None:
    replay, meta = played()
    names, sizes = list(meta), [value.numel() for value in meta.values()]
    flat = torch.cat([value.flatten() for value in meta.values()])

    def at(vector: Tensor) -> Params:
        return {name: part.view(meta[name].shape) for name, part in zip(names, vector.split(sizes), strict=True)}

    def divergence(vector: Tensor) -> Tensor:
        visit = replay.after(at(vector), replay.iterates(at(vector)))[0]
        return replay.divergence(visit).mean()

    hessian = torch.autograd.functional.hessian(divergence, flat) + 1e-3 * torch.eye(len(flat))
    gradient = ClippedRatio(None, 0.0, 1).gradient(replay, meta)
    slope = torch.cat([gradient[name].flatten() for name in names])
    natural = torch.linalg.solve(hessian, slope)
    expected = (2 * 1e-4 / (natural @ hessian @ natural)).sqrt() * natural
    step = TrustRegion(1e-4, 200, 1e-3, 0.9, 15).gradient(replay, meta)
    found = torch.cat([step[name].flatten() for name in names])
    lengths = [found.norm() / expected.norm() / 0.9**number for number in range(15)]
    assert min(abs(length - 1) for length in lengths) < 1e-3
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.9999
    assert 0.5e-4 < divergence(flat - found) <= 1e-4


def test_a_step_that_cannot_improve_is_not_taken() -> None:
    replay, meta = played()
    (taken,) = replay.outer
    flat = replace(replay.outer[taken], advantages=torch.zeros_like(replay.outer[taken].advantages))
    nothing = TrustRegion(0.01, 10, 1e-5, 0.8, 15).gradient(replace(replay, outer={taken: flat}), meta)
    assert not any(value.any() for value in nothing.values())
    step = TrustRegion(0.01, 10, 1e-5, 0.8, 15).gradient(replay, meta)
    assert step[MODEL + "head.weight"].any()


def test_conjugate_gradients_solve() -> None:
    torch.manual_seed(0)
    root = torch.randn(6, 6).double()
    matrix, right = root @ root.T + torch.eye(6), torch.randn(6).double()
    assert torch.allclose(conjugate_gradient(lambda v: matrix @ v, right, 12), torch.linalg.solve(matrix, right))


@pytest.mark.parametrize(
    ("setting", "value"), [("limit", 0.0), ("iterations", 0), ("damping", -1.0), ("shrink", 1.0), ("tries", 0)]
)
def test_bad_settings_of_the_trust_region_are_refused(setting: str, value: float) -> None:
    settings = {"limit": 0.01, "iterations": 10, "damping": 0.0, "shrink": 0.5, "tries": 3} | {setting: value}
    with pytest.raises(UserError, match=rf"algorithm\.outer_update\.{setting}={value}"):
        TrustRegion(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("setting", "value"), [("clip", 0.0), ("penalty", -1.0), ("passes", 0)])
def test_bad_settings_of_the_clipped_ratio_are_refused(setting: str, value: float) -> None:
    settings = {"clip": 0.2, "penalty": 0.0, "passes": 1} | {setting: value}
    with pytest.raises(UserError, match=rf"algorithm\.outer_update\.{setting}={value}"):
        ClippedRatio(**settings)  # type: ignore[arg-type]
