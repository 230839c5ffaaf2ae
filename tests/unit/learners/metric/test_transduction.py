"""Comparisons in which queries see each other, or unlabelled examples."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, class_means
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.comparisons.laplacian import Laplacian, nearest
from metaloop.learners.metric.comparisons.query_entropy import TIM, TransductiveFineTuning, slopes
from metaloop.learners.metric.comparisons.soft_kmeans import SoftKMeans, SoftKMeansCluster, SoftKMeansMasked
from metaloop.types import Examples

SOFT: dict[str, Callable[[], Comparison]] = {
    "plain": SoftKMeans,
    "cluster": partial(SoftKMeansCluster, 3.0),
    "masked": partial(SoftKMeansMasked, differentiate_statistics=True),
}
TRANSDUCTIVE: dict[str, Callable[[], Comparison]] = {
    "laplacian": Laplacian,
    "fine-tuning": TransductiveFineTuning,
    "tim": partial(TIM, steps=25, lr=0.2, optimizer="gradient_descent"),
}


def made(ways: int = 5, shots: int = 1, unlabelled: int = 5) -> tuple[Tensor, Examples, Tensor, Tensor]:
    """Support, its labels, five queries a class and unlabelled examples around class means, class by class, in float64."""
    means = 0.55 * torch.randn(ways, 16, dtype=torch.float64)

    def around(count: int) -> Tensor:
        return (means[:, None] + 0.5 * torch.randn(ways, count, 16, dtype=torch.float64)).flatten(0, 1)

    x = around(shots)
    return x, Examples(x, torch.arange(ways).repeat_interleave(shots), None, ways), around(5), around(unlabelled)


def answers(
    head: Comparison, x: Tensor, labels: Examples, query: Tensor, unlabelled: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    return head.double()(x, labels, query, query_mask=mask, unlabelled=unlabelled)


def prototypes(name: str) -> Euclidean:
    """Prototypes with the scale of a kind of soft k-means: the cluster's normal distributions have halved exponents."""
    return Euclidean(0.5 if name == "cluster" else 1.0)


@pytest.mark.parametrize("name", SOFT)
def test_without_unlabelled_examples_soft_k_means_is_prototypes_exactly(name: str) -> None:
    x, labels, query, _ = made()
    assert torch.equal(answers(SOFT[name](), x, labels, query), answers(prototypes(name), x, labels, query))


@pytest.mark.parametrize("name", SOFT)
def test_padding_among_unlabelled_examples_counts_nowhere(name: str) -> None:
    x, labels, query, unlabelled = made()
    comparison = SOFT[name]()
    expected = answers(comparison, x, labels, query, unlabelled)
    padded = torch.cat([unlabelled, torch.full((3, 16), 0.6, dtype=torch.float64)])
    masked = Examples(x, labels.y, None, 5, unlabelled_mask=torch.arange(len(padded)) < len(unlabelled))
    torch.testing.assert_close(answers(comparison, x, masked, query, padded), expected)
    assert not torch.allclose(answers(comparison, x, labels, query, padded), expected)
    nothing = Examples(x, labels.y, None, 5, unlabelled_mask=torch.zeros(len(padded), dtype=torch.bool))
    found = answers(comparison, x.requires_grad_(), nothing, query, padded)
    torch.testing.assert_close(found, answers(prototypes(name), x, labels, query))
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None or not p.grad.any() for p in comparison.parameters())


def test_soft_k_means_is_its_equation() -> None:
    x, labels, query, unlabelled = made(shots=2)
    means = class_means(x, labels)
    shares = torch.softmax(-(torch.cdist(unlabelled, means) ** 2), 1)
    refined = torch.stack([
        (x[labels.y == k].sum(0) + (shares[:, k, None] * unlabelled).sum(0)) / (2 + shares[:, k].sum()) for k in range(5)
    ])  # fmt: skip
    expected = -(torch.cdist(query, refined) ** 2)
    torch.testing.assert_close(answers(SoftKMeans(), x, labels, query, unlabelled), expected)


def by_the_authors(comparison: Comparison, x: Tensor, labels: Examples, query: Tensor, unlabelled: Tensor) -> Tensor:
    """Ren et al.'s refinements, one class and one example at a time, as their code computes them."""
    means = class_means(x, labels)
    ways, count = labels.ways, len(unlabelled)
    squares = [[((unlabelled[j] - means[k]) ** 2).sum() for k in range(ways)] for j in range(count)]
    weights = [[torch.zeros(()) for _ in range(ways)] for _ in range(count)]
    for j in range(count):
        if isinstance(comparison, SoftKMeansCluster):
            radius = comparison.log_width.exp()
            exponents = [-squares[j][k] / 2 for k in range(ways)]
            exponents.append(-(unlabelled[j] ** 2).sum() / 2 / radius**2 - radius.log())
        else:
            exponents = [-squares[j][k] for k in range(ways)]
        total = sum(exponent.exp() for exponent in exponents)
        weights[j] = [exponents[k].exp() / total for k in range(ways)]
    if isinstance(comparison, SoftKMeansMasked):
        for k in range(ways):
            distances = torch.stack([squares[j][k] for j in range(count)])
            relative = distances / distances.mean()
            mean, variance = relative.mean(), relative.var(correction=0)
            skew = ((relative - mean) ** 3 / variance.sqrt() ** 3).mean()
            kurtosis = ((relative - mean) ** 4 / variance**2 - 3).mean()
            statistics = torch.stack([relative.min(), relative.max(), variance, skew, kurtosis]).detach()
            threshold, slope = comparison.network(statistics).exp()
            for j in range(count):
                weights[j][k] = weights[j][k] * torch.sigmoid((-relative[j] + threshold) * slope)
    refined = [
        (x[labels.y == k].sum(0) + sum(weights[j][k] * unlabelled[j] for j in range(count)))
        / ((labels.y == k).sum() + sum(weights[j][k] for j in range(count)))
        for k in range(ways)
    ]
    scale = 0.5 if isinstance(comparison, SoftKMeansCluster) else 1.0
    return torch.stack([-scale * ((query - center) ** 2).sum(1) for center in refined], 1)


@pytest.mark.parametrize("kind", [SoftKMeansCluster, SoftKMeansMasked])
def test_C6_distractors_are_kept_out_as_in_the_authors_code(kind: Callable[[], Comparison]) -> None:
    """Answers and gradients, at the start and away from it."""
    x, labels, query, unlabelled = made(ways=3, shots=2)
    comparison = kind().double()
    for _ in range(2):
        at = (x.requires_grad_(), unlabelled.requires_grad_(), *comparison.parameters())
        found = answers(comparison, x, labels, query, unlabelled)
        expected = by_the_authors(comparison, x, labels, query, unlabelled)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        direction = torch.randn_like(found)
        for ours, theirs in zip(*(torch.autograd.grad((y * direction).sum(), at) for y in (found, expected)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for value in comparison.parameters():
                value.sub_(3.0) if value.ndim == 0 else value.add_(0.5 * torch.randn_like(value))


def test_C6_at_the_start_every_class_prefers_near_examples_and_the_distractors_cluster_is_wide() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        near, far = SoftKMeansMasked().shares(torch.tensor([[0.5], [2.0]]), torch.zeros(2, 1), torch.zeros(2, 4), torch.ones(2))
        assert near > 0.6 > 0.4 > far
    assert SoftKMeansCluster().log_width.exp().item() == pytest.approx(100.0)


def test_C6_the_masks_power_is_a_choice() -> None:
    distances, logits, real = torch.rand(4, 2), torch.zeros(4, 2), torch.ones(4)
    once, twice = (SoftKMeansMasked(mask_power=power) for power in (1.0, 2.0))
    twice.load_state_dict(once.state_dict())
    shares, other = (2 * kind.shares(distances, logits, torch.zeros(4, 3), real) for kind in (once, twice))
    torch.testing.assert_close(shares**2, other)


@pytest.mark.parametrize("name", [*SOFT, *TRANSDUCTIVE])
def test_what_is_unlabelled_helps_where_classes_are_clusters(name: str) -> None:
    """Over fifty tasks; the masked kind's network is at a random start, so it need only be no worse."""
    comparison = (SOFT | TRANSDUCTIVE)[name]()
    right = torch.zeros(2)
    for _ in range(50):
        x, labels, query, unlabelled = made()
        with torch.no_grad():
            found = answers(comparison, x, labels, query, unlabelled if name in SOFT else None)
        for i, logits in enumerate((found, answers(Euclidean(), x, labels, query))):
            right[i] += (logits.argmax(1) == torch.arange(5).repeat_interleave(5)).sum()
    assert right[0] - right[1] > (0 if name == "masked" else 10)


@pytest.mark.parametrize("name", [*SOFT, *TRANSDUCTIVE])
def test_derivatives_equal_finite_differences(name: str) -> None:
    x, labels, query, unlabelled = made(ways=3, unlabelled=2)
    comparison = (SOFT | TRANSDUCTIVE)[name]().double()
    at = (x.requires_grad_(), query[:6].clone().requires_grad_(), unlabelled.requires_grad_(), *comparison.parameters())

    def value(x: Tensor, query: Tensor, unlabelled: Tensor, *_: Tensor) -> Tensor:
        return answers(comparison, x, labels, query, unlabelled if name in SOFT else None)

    assert torch.autograd.gradcheck(value, at, fast_mode=True)


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_padding_among_queries_counts_nowhere(name: str) -> None:
    x, labels, query, _ = made()
    expected = answers(TRANSDUCTIVE[name](), x, labels, query)
    padded = torch.cat([query, torch.full((3, 16), 0.3, dtype=torch.float64)])
    mask = torch.arange(len(padded)) < len(query)
    found = answers(TRANSDUCTIVE[name](), x, labels, padded, mask=mask)[: len(query)]
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(answers(TRANSDUCTIVE[name](), x, labels, padded)[: len(query)], expected)


@pytest.mark.parametrize("optimizer", ["adam", "gradient_descent"])
def test_C8_tim_is_the_authors_objective_under_torchs_optimizer(optimizer: str) -> None:
    """Boudiaf et al.'s loop with autograd: the prototypes' mutual information with the queries."""
    x, labels, query, _ = made(ways=3, shots=2)
    lr = {"adam": 1e-2, "gradient_descent": 0.2}[optimizer]
    kind = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}[optimizer]
    support, queries = F.normalize(x, dim=1), F.normalize(query, dim=1)
    weights = torch.stack([support[labels.y == k].mean(0) for k in range(3)]).requires_grad_()
    steps = kind([weights], lr=lr)

    def logits(samples: Tensor) -> Tensor:
        return 15 * (samples @ weights.T - (weights**2).sum(1) / 2 - (samples**2).sum(1, keepdim=True) / 2)

    for _ in range(30):
        p = logits(queries).softmax(1)
        conditional, marginal = -(p * p.log()).sum(1).mean(), -(p.mean(0) * p.mean(0).log()).sum()
        loss = 0.1 * F.cross_entropy(logits(support), labels.y) - (marginal - 0.1 * conditional)
        steps.zero_grad()
        loss.backward()
        steps.step()
    found = answers(TIM(steps=30, lr=lr, optimizer=optimizer), x, labels, query)
    torch.testing.assert_close(found, logits(queries), rtol=1e-5, atol=1e-5)


def test_neighbours_are_the_nearest_others() -> None:
    rows = torch.tensor([[0.0], [1.0], [3.0], [3.5], [2.9]])
    assert nearest(rows, None, 1).argmax(1).tolist() == [1, 0, 4, 2, 2]
    mask = torch.tensor([True, True, True, True, False])
    found = nearest(rows, mask, 1)
    assert found.argmax(1)[:4].tolist() == [1, 0, 3, 2]
    assert found.sum(1).tolist() == [1, 1, 1, 1, 0]
    assert nearest(rows, mask, 9).sum(1).tolist() == [3, 3, 3, 3, 0]


@pytest.mark.parametrize("masked", [False, True])
def test_the_slopes_are_those_of_the_written_objective(masked: bool) -> None:
    logits = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, 1, 2, 0])
    real, query_mask = torch.ones(4, dtype=torch.bool), torch.ones(6, dtype=torch.bool)
    if masked:
        real[3] = query_mask[2] = False
    p = torch.softmax(logits[4:], 1)[query_mask]
    objective = 0.3 * F.cross_entropy(logits[:4][real], y[real])
    objective = objective + 0.7 * (p.mean(0) * p.mean(0).log()).sum() - 0.2 * (p * p.log()).sum(1).mean()
    (expected,) = torch.autograd.grad(objective, logits)
    labels = Examples(y, y, real if masked else None, 3)
    found = slopes(logits, labels, query_mask if masked else None, known=0.3, marginal=0.7, conditional=0.2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: SoftKMeansCluster(0.0), "width=0.0"),
        (lambda: Laplacian(pull=0.0), "pull=0.0"),
        (lambda: Laplacian(neighbours=0), "neighbours=0"),
        (lambda: TIM(steps=0), "steps=0"),
        (lambda: TIM(optimizer="sgd"), "optimizer='sgd': one of adam, gradient_descent"),
        (lambda: TransductiveFineTuning(lr=0.0), "lr=0.0"),
    ],
)
def test_impossible_values_are_refused_with_their_key(build: Callable[[], Comparison], key: str) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.comparison\.{key}"):
        build()
