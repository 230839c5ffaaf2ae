"""The reader of whole tables: what it must not depend on."""

import math

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.context.readers.table import CellAttention, TableTransformer, mid_ranks, normal_scores

ROWS, QUERIES, COLUMNS, WAYS = 9, 4, 5, 3


@pytest.fixture
def reader() -> TableTransformer:
    torch.manual_seed(0)
    return TableTransformer(2 * COLUMNS, WAYS, WAYS, width=8, layers=2, heads=2).double()


def made(known: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support (rows, 2 * columns), labels, which rows are real, and queries."""
    random = torch.Generator().manual_seed(1)
    values = torch.randn(ROWS + QUERIES, COLUMNS, generator=random, dtype=torch.float64)
    known = torch.ones_like(values) if known is None else known
    rows = torch.cat([values * known, known], 1)
    labels = torch.eye(WAYS, dtype=torch.float64)[torch.arange(ROWS) % WAYS]
    return rows[:ROWS], labels, torch.ones(ROWS, dtype=torch.bool), rows[ROWS:]


def test_the_order_of_rows_and_of_columns_does_not_matter(reader: TableTransformer) -> None:
    support, labels, real, query = made()
    expected = reader(support, labels, real, query, None)
    rows, columns = torch.randperm(ROWS), torch.randperm(COLUMNS)
    both = torch.cat([columns, COLUMNS + columns])
    torch.testing.assert_close(reader(support[rows], labels[rows], real, query, None), expected)
    torch.testing.assert_close(reader(support[:, both], labels, real, query[:, both], None), expected)
    assert not torch.allclose(reader(support[rows], labels, real, query, None), expected)


def test_no_query_sees_another(reader: TableTransformer) -> None:
    support, labels, real, query = made()
    together = reader(support, labels, real, query, None)
    for place in range(QUERIES):
        torch.testing.assert_close(reader(support, labels, real, query[place : place + 1], None)[0], together[place])


def test_padding_and_columns_without_a_known_value_are_left_out(reader: TableTransformer) -> None:
    known = torch.ones(ROWS + QUERIES, COLUMNS, dtype=torch.float64)
    known[:ROWS, 3] = 0  # a value that only queries have
    support, labels, real, query = made(known)
    expected = reader(support, labels, real, query, None)
    changed = query.clone()
    changed[:, 3] = 99.0
    torch.testing.assert_close(reader(support, labels, real, changed, None), expected)
    padded = torch.cat([support, torch.full((2, 2 * COLUMNS), 7.0, dtype=torch.float64)])
    more = torch.cat([labels, torch.zeros(2, WAYS, dtype=torch.float64)])
    shown = torch.cat([real, torch.zeros(2, dtype=torch.bool)])
    torch.testing.assert_close(reader(padded, more, shown, query, None), expected)


def test_a_missing_value_is_not_a_zero(reader: TableTransformer) -> None:
    known = torch.ones(ROWS + QUERIES, COLUMNS, dtype=torch.float64)
    known[ROWS, 0] = 0
    support, labels, real, query = made(known)
    zero = query.clone()
    zero[0, COLUMNS] = 1
    assert not torch.allclose(reader(support, labels, real, query, None), reader(support, labels, real, zero, None))


def test_ranks_are_the_share_below_less_the_share_above() -> None:
    random = torch.Generator().manual_seed(2)
    values = torch.randint(0, 4, (12, 3), generator=random).double()
    rows = torch.cat([values, torch.tensor([[-1.0, 1.5, 9.0]], dtype=torch.float64)])
    known = (torch.rand(12, 3, generator=random) < 0.7).double()
    known[:, 2] = 0
    expected = ((rows[:, None] - values).sign() * known).sum(1) / known.sum(0).clamp(min=1)
    torch.testing.assert_close(mid_ranks(rows, values, known), expected)
    assert mid_ranks(rows, values, known)[-1].tolist() == [-1.0, expected[-1, 1].item(), 0.0]


def test_normal_scores_have_the_ranks_as_probabilities() -> None:
    ranks = torch.linspace(-0.99, 0.99, 7, dtype=torch.float64)
    torch.testing.assert_close(2 * torch.special.ndtr(normal_scores(ranks)) - 1, ranks)
    assert normal_scores(torch.tensor([1.0])).item() == pytest.approx(3.0, abs=0.01)


def test_what_is_trained_is_one_member_and_what_is_tested_the_mean_of_all(reader: TableTransformer) -> None:
    support, labels, real, query = made()
    alone = reader(support, labels, real, query, None)
    reader.members = 2
    torch.testing.assert_close(reader(support, labels, real, query, None), alone)  # in training
    reader.eval()
    both = reader(support, labels, real, query, torch.tensor(5)).exp()
    torch.testing.assert_close(both.sum(1), torch.ones(QUERIES, dtype=torch.float64))
    second = 2 * both - alone.softmax(1)
    assert (second > 0).all()
    assert not torch.allclose(second, alone.softmax(1))
    torch.testing.assert_close(reader(support, labels, real, query, torch.tensor(5)).exp(), both)  # the same draw


def test_permuted_classes_permute_the_answers_of_many_members(reader: TableTransformer) -> None:
    """Each member permutes the classes at random, so their mean hardly knows the classes' order."""
    support, labels, real, query = made()
    order = torch.tensor([2, 0, 1])
    gaps = []
    for members in (1, 60):
        reader.members = members
        reader.eval()
        before, after = (reader(support, each, real, query, torch.tensor(0)) for each in (labels, labels[:, order]))
        gaps.append((before.softmax(1)[:, order] - after.softmax(1)).abs().mean().item())
    assert gaps[1] < 0.5 * gaps[0]


def test_attention_over_rows_is_sharper_in_larger_tables() -> None:
    """Scores of attention times log(rows) / log(usual): the queries' map times as much gives the same without it."""
    torch.manual_seed(0)
    usual = 4
    sharp = CellAttention(8, 2, usual).double()
    plain = CellAttention(8, 2).double()
    plain.load_state_dict(sharp.state_dict())
    tokens, allowed = torch.randn(3, 9, 8, dtype=torch.float64), torch.ones(6, dtype=torch.bool)
    assert not torch.allclose(sharp(tokens, 6, allowed), plain(tokens, 6, allowed))
    allowed[1] = allowed[4] = False  # four are left
    torch.testing.assert_close(sharp(tokens, 6, allowed), plain(tokens, 6, allowed))
    with torch.no_grad():
        for parameter in plain.query.parameters():
            parameter *= math.log(5) / math.log(usual)
    allowed[1] = True
    torch.testing.assert_close(sharp(tokens, 6, allowed), plain(tokens, 6, allowed))


def test_only_rows_sharpen_attention(reader: TableTransformer) -> None:
    more = TableTransformer(2 * COLUMNS, WAYS, WAYS, width=8, layers=2, heads=2, usual_rows=ROWS).double()
    more.load_state_dict(reader.state_dict())
    support, labels, real, query = made()
    torch.testing.assert_close(more(support, labels, real, query, None), reader(support, labels, real, query, None))
    real[0] = False
    assert not torch.allclose(more(support, labels, real, query, None), reader(support, labels, real, query, None))


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(UserError, match=r"model=cells"):
        TableTransformer(5, WAYS, WAYS, width=8, layers=1, heads=2)
    with pytest.raises(UserError, match=r"algorithm.reader.layers=0"):
        TableTransformer(4, WAYS, WAYS, width=8, layers=0, heads=2)
    with pytest.raises(UserError, match=r"algorithm.reader.members=0"):
        TableTransformer(4, WAYS, WAYS, width=8, layers=1, heads=2, members=0)
    with pytest.raises(UserError, match=r"algorithm.reader.heads=3"):
        TableTransformer(4, WAYS, WAYS, width=8, layers=1, heads=3)
    with pytest.raises(UserError, match=r"algorithm.reader.usual_rows=1"):
        TableTransformer(4, WAYS, WAYS, width=8, layers=1, heads=2, usual_rows=1)


@pytest.mark.parametrize("members", [1, 3])
def test_a_temperature_divides_the_logits_outside_of_training(reader: TableTransformer, members: int) -> None:
    support, labels, real, query = made()
    reader.members = members
    usual = reader.eval()(support, labels, real, query, None).softmax(-1)
    trained = reader.train()(support, labels, real, query, None)
    reader.temperature = 0.5
    torch.testing.assert_close(reader.train()(support, labels, real, query, None), trained)
    sharp = reader.eval()(support, labels, real, query, None).softmax(-1)
    torch.testing.assert_close(sharp, usual.square() / usual.square().sum(-1, keepdim=True))
    with pytest.raises(UserError, match="temperature=0"):
        TableTransformer(2 * COLUMNS, WAYS, WAYS, width=8, layers=1, heads=2, temperature=0)
