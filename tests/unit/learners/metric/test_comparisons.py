"""Each comparison against its paper's equation, written out plainly."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.coordinates import LSTMCell
from metaloop.learners.metric.comparison import Comparison, Embedding, Scale
from metaloop.learners.metric.comparisons.cosine import Cosine
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.comparisons.local_descriptors import LocalDescriptors
from metaloop.learners.metric.comparisons.matching import Matching, MatchingInContext
from metaloop.learners.metric.comparisons.nearest import Nearest
from metaloop.learners.metric.comparisons.relation import Relation
from metaloop.learners.metric.comparisons.set_to_set import SetToSet
from metaloop.types import Examples

WAYS, SHOTS = 3, 2
Y = torch.arange(WAYS).repeat_interleave(SHOTS)
MASK = torch.tensor([True, False, True, True, True, True])  # one shot of class 0 is padding
EMBEDDING = Embedding(5, (5, 4, 4))
maybe_masked = pytest.mark.parametrize("mask", [None, MASK], ids=["all real", "masked"])


def features(*shape: int) -> tuple[Tensor, Tensor]:
    """Six support and four query examples' features."""
    return torch.randn(WAYS * SHOTS, *shape, dtype=torch.float64), torch.randn(4, *shape, dtype=torch.float64)


def compared(comparison: Comparison, support: Tensor, query: Tensor, mask: Tensor | None = None) -> Tensor:
    labels = Examples(support, Y, mask, WAYS)
    return comparison.double()(support, labels, query, query_mask=None, unlabelled=None)


def of_class(support: Tensor, k: int, mask: Tensor | None) -> Tensor:
    return support[(k == Y) if mask is None else (k == Y) & mask]


@maybe_masked
def test_distances_to_class_means(mask: Tensor | None) -> None:
    support, query = features(5)
    means = torch.stack([of_class(support, k, mask).mean(0) for k in range(WAYS)])
    torch.testing.assert_close(compared(Euclidean(scale=0.5), support, query, mask), -0.5 * torch.cdist(query, means) ** 2)
    expected = 7 * F.cosine_similarity(query[:, None], means[None], dim=-1)
    torch.testing.assert_close(compared(Cosine(scale=7), support, query, mask), expected)


@maybe_masked
def test_matching_gives_classes_their_share_of_the_attention(mask: Tensor | None) -> None:
    support, query = features(5)
    real = torch.ones(6, dtype=torch.bool) if mask is None else mask
    attention = (2 * F.cosine_similarity(query[:, None], support[real][None], dim=-1)).softmax(-1)
    expected = attention @ F.one_hot(Y[real], WAYS).double()
    torch.testing.assert_close(compared(Matching(scale=2), support, query, mask).softmax(-1), expected)


def as_torch_lstm(ours: LSTMCell) -> nn.LSTM:
    """Torch's LSTM with our weights; it orders gates as enter, forget, new, leave."""
    width = ours.weight.shape[1] // 4
    forget, enter, leave, new = ours.weight.detach().T.split(width)
    weight = torch.cat([enter, forget, new, leave])
    forget, enter, leave, new = ours.bias.detach().split(width)
    lstm = nn.LSTM(weight.shape[1] - width, width).double()
    values = {"weight_ih_l0": weight[:, :-width], "weight_hh_l0": weight[:, -width:]}
    values |= {"bias_ih_l0": torch.cat([enter, forget, new, leave]), "bias_hh_l0": torch.zeros(4 * width)}
    lstm.load_state_dict(values)
    return lstm


@maybe_masked
@pytest.mark.parametrize("size", [1, 1000])
def test_nearest_is_the_nearest_example_of_each_class(size: int, mask: Tensor | None) -> None:
    support, query = (size * x for x in features(5))
    expected = torch.stack([-(torch.cdist(query, of_class(support, k, mask)).amin(1) ** 2) for k in range(WAYS)], 1)
    torch.testing.assert_close(compared(Nearest(), support, query, mask), expected)
    alone = Examples(support, Y, Y == 1, WAYS)
    found = Nearest()(support, alone, query, query_mask=None, unlabelled=None)
    torch.testing.assert_close(found[:, 1], expected[:, 1])
    assert (found.softmax(-1)[:, 1] == 1).all()


@pytest.mark.parametrize("name", ["in context", "feat", "feat, auxiliary"])
def test_what_is_not_there_is_not_attended_to_however_low_scores_are(name: str) -> None:
    support, query = (1000 * x.abs() for x in features(5))
    feat = SetToSet(EMBEDDING).double()
    feat.asks.weight.data, feat.answers.weight.data = torch.eye(5).double(), -torch.eye(5).double()
    fce = MatchingInContext(EMBEDDING, reads=2, scale=1.0).double()
    query = -query if name == "in context" else query
    asked = Examples(query, torch.tensor([0, 1, 0, 1]), None, WAYS)

    def found(x: Tensor, real: Tensor) -> Tensor:
        labels = Examples(x, Y[: len(x)], real[: len(x)], int(Y[: len(x)].max()) + 1)
        if name == "feat, auxiliary":
            return feat.auxiliary_loss(x, labels, query, asked)
        return (feat if name == "feat" else fce)(x, labels, query, query_mask=None, unlabelled=None)[:, :2]

    real = Y < 2
    padded = torch.where(real[:, None], support, 0.0)
    torch.testing.assert_close(found(padded, real), found(support[:4], real))


@maybe_masked
def test_matching_in_context_reads_the_support_set_in_both_directions(mask: Tensor | None) -> None:
    support, query = features(5)
    comparison = MatchingInContext(EMBEDDING, reads=3, scale=2).double()
    found = compared(comparison, support, query, mask)
    real = torch.ones(6, dtype=torch.bool) if mask is None else mask
    sequence = support[real][:, None]
    forth, back = (as_torch_lstm(cell) for cell in (comparison.forth, comparison.back))
    context = (sequence + forth(sequence)[0] + back(sequence.flip(0))[0].flip(0))[:, 0]
    reader, read, state = as_torch_lstm(comparison.reader), torch.zeros_like(query), None
    for _ in range(3):
        _, (output, cell) = reader(torch.cat([query, read], -1)[None], state)
        output = output + query
        read = (output[0] @ context.T).softmax(-1) @ context
        state = (output, cell)
    attention = (2 * F.cosine_similarity(output[0][:, None], context[None], dim=-1)).softmax(-1)
    torch.testing.assert_close(found.softmax(-1), attention @ F.one_hot(Y[real], WAYS).double())


def test_context_goes_through_the_support_set_in_order() -> None:
    support, query = features(5)
    comparison, order = MatchingInContext(EMBEDDING), torch.tensor([1, 0, 2, 3, 4, 5])
    found, other = (compared(comparison, x, query) for x in (support, support[order]))
    assert not torch.allclose(found, other)


@maybe_masked
def test_relation_scores_concatenated_maps(mask: Tensor | None) -> None:
    support, query = features(5, 4, 4)
    relation = Relation(EMBEDDING, filters=6).double()
    with torch.no_grad():
        for value in relation.norms.parameters():
            value.add_(torch.randn_like(value))
    found = compared(relation, support, query, mask)
    for k in range(WAYS):
        mean = of_class(support, k, mask).mean(0).expand_as(query)
        x = F.max_pool2d(F.relu(relation.norms[0](relation.first(torch.cat([mean, query], 1)))), 2)
        x = F.max_pool2d(F.relu(relation.norms[1](relation.second(x))), 2)
        torch.testing.assert_close(found[:, k], relation.score(F.relu(relation.hidden(x.flatten(1))))[:, 0])


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_relation_takes_maps_of_any_size(side: int) -> None:
    support, query = features(5, side, side)
    assert compared(Relation(Embedding(5, (5, side, side))), support, query).shape == (4, WAYS)


@maybe_masked
def test_dn4_sums_the_nearest_places(mask: Tensor | None) -> None:
    support, query = features(5, 2, 3)
    found = compared(LocalDescriptors(neighbours=2), support, query, mask)
    for q, image in enumerate(query):
        for k in range(WAYS):
            places = of_class(support, k, mask).permute(0, 2, 3, 1).flatten(0, 2)
            cosines = F.cosine_similarity(image.flatten(1).T[:, None], places[None], dim=-1)
            torch.testing.assert_close(found[q, k], cosines.topk(2).values.sum())


def test_dn4_counts_the_places_that_a_class_has() -> None:
    support, query = features(5, 1, 1)
    one = compared(LocalDescriptors(neighbours=3), support, query, MASK)
    cosines = F.cosine_similarity(query.flatten(1)[:, None], support.flatten(1)[None], dim=-1)
    torch.testing.assert_close(one[:, 0], cosines[:, 0])
    torch.testing.assert_close(one[:, 1], cosines[:, 2] + cosines[:, 3])


def attention(comparison: SetToSet, rows: Tensor) -> Tensor:
    q, k, v = comparison.asks(rows), comparison.answers(rows), comparison.says(rows)
    found = (q @ k.T / math.sqrt(rows.shape[1])).softmax(-1) @ v
    return F.layer_norm(comparison.out(found) + rows, (rows.shape[1],))


@maybe_masked
def test_feat_attends_from_each_class_to_all(mask: Tensor | None) -> None:
    support, query = features(5)
    comparison = SetToSet(EMBEDDING, scale=0.5).double()
    centres = attention(comparison, torch.stack([of_class(support, k, mask).mean(0) for k in range(WAYS)]))
    torch.testing.assert_close(compared(comparison, support, query, mask), -0.5 * torch.cdist(query, centres) ** 2)


def test_feat_does_not_attend_to_classes_that_are_not_there() -> None:
    support, query = features(5)
    comparison = SetToSet(EMBEDDING, scale=0.5).double()
    found = compared(comparison, support, query, Y < 2)
    centres = attention(comparison, torch.stack([of_class(support, k, None).mean(0) for k in range(2)]))
    torch.testing.assert_close(found[:, :2], -0.5 * torch.cdist(query, centres) ** 2)


def test_feats_auxiliary_loss_is_its_papers() -> None:
    support, query = features(5)
    asked = Examples(query, torch.tensor([0, 1, 2, 2]), torch.tensor([True, True, True, False]), WAYS)
    comparison = SetToSet(EMBEDDING, balance=2.0, auxiliary_scale=0.25).double()
    found = comparison.auxiliary_loss(support, Examples(support, Y, MASK, WAYS), query, asked)
    real = torch.cat([MASK, asked.mask])
    everyone, y = torch.cat([support, query])[real], torch.cat([Y, asked.y])[real]
    centres = torch.stack([attention(comparison, everyone[y == k]).mean(0) for k in range(WAYS)])
    expected = 2 * F.cross_entropy(-0.25 * torch.cdist(everyone, centres) ** 2, y)
    torch.testing.assert_close(found, expected)


def test_a_scale_is_positive_and_learned_where_asked() -> None:
    assert not list(Scale(3.0, learned=False).parameters())
    learned, logits = Scale(3.0, learned=True), torch.ones(2)
    torch.testing.assert_close(learned(logits), 3 * logits)
    learned(logits).sum().backward()
    assert learned.log is not None
    assert learned.log.grad.item() == pytest.approx(6)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Euclidean(scale=0), "scale=0"),
        (lambda: MatchingInContext(EMBEDDING, reads=0), "reads=0"),
        (lambda: Relation(EMBEDDING, hidden=0), "hidden=0"),
        (lambda: LocalDescriptors(neighbours=0), "neighbours=0"),
        (lambda: SetToSet(EMBEDDING, balance=-1), "balance=-1"),
    ],
    ids=["scale", "reads", "hidden", "neighbours", "balance"],
)
def test_impossible_numbers_are_refused(make: Callable[[], Comparison], key: str) -> None:
    with pytest.raises(UserError, match=rf"algorithm\.comparison\.{key}"):
        make()


def test_a_model_that_does_not_say_its_size_is_refused_where_that_is_needed() -> None:
    with pytest.raises(UserError, match="attribute features"):
        SetToSet(Embedding(None, None))
    with pytest.raises(UserError, match="model=conv4_maps"):
        Relation(Embedding(5, None))
