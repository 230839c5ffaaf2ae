"""Distributions over actions against torch.distributions."""

import torch
from torch import Tensor, distributions

from metaloop.control.distributions import ActionDistribution, Categorical, Gaussian, distribution_of
from metaloop.problems.control import Actions

N = 200_000


def reference(kind: ActionDistribution, outputs: Tensor) -> distributions.Distribution:
    if isinstance(kind, Categorical):
        return distributions.Categorical(logits=outputs)
    mean, logarithm = outputs.chunk(2, -1)
    return distributions.Independent(distributions.Normal(mean, logarithm.exp()), 1)


def test_densities_and_divergences_are_those_of_torch() -> None:
    torch.manual_seed(0)
    for kind, width in ((Categorical(), 4), (Gaussian(2), 4)):
        first, second = torch.randn(2, 7, width).double().unbind()
        theirs, other = reference(kind, first), reference(kind, second)
        actions = theirs.sample()
        assert torch.allclose(kind.log_probability(first, actions), theirs.log_prob(actions))
        assert torch.allclose(kind.divergence(first, second), distributions.kl_divergence(theirs, other))
        assert torch.allclose(kind.divergence(first, first), torch.zeros(7).double())


def test_draws_have_the_distribution() -> None:
    torch.manual_seed(0)
    outputs = torch.tensor([0.3, -1.0, 0.5, 0.1]).expand(N, 4)
    actions = Categorical().draw(outputs, torch.rand(N, 1))
    assert torch.allclose(actions.bincount() / N, outputs[0].softmax(-1), atol=0.005)
    moves = Gaussian(2).draw(outputs, torch.rand(N, 4))
    assert torch.allclose(moves.mean(0), outputs[0, :2], atol=0.02)
    assert torch.allclose(moves.std(0), outputs[0, 2:].exp(), atol=0.02)
    assert abs(torch.corrcoef(moves.T)[0, 1]) < 0.01


def test_a_vanishing_deviation_has_a_finite_density() -> None:
    outputs = torch.tensor([[0.0, -1000.0]])
    assert Gaussian(1).log_probability(outputs, torch.zeros(1, 1)).isfinite().all()
    assert Gaussian(1).divergence(outputs, torch.zeros(1, 2)).isfinite().all()


def test_the_kind_of_the_actions_chooses_the_distribution() -> None:
    assert isinstance(distribution_of(Actions(3)), Categorical)
    assert distribution_of(Actions(3, continuous=True)).words == 6
