"""Episodes of sentences with labelled words."""

import pytest
import torch

from metaloop.data.philox import Stream
from metaloop.data.texts.word_pool import WordPool
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Tasks

SPEC = EpisodeSpec(3, 2, 2)


def pool() -> WordPool:
    """60 sentences of each of two groups, of 2 to 5 words, with up to two of its group's four types; x numbers words."""
    lengths, tags = [], []
    for number in range(120):
        words = 2 + number % 4
        first = 4 * (number // 60)
        row = [-1] * words
        row[0], row[1] = first + number % 4, first + number // 4 % 4 if number % 3 else -1
        lengths.append(words)
        tags += row
    x = torch.arange(len(tags), dtype=torch.float32)[:, None]
    return WordPool(x, lengths, torch.tensor(tags), [f"t{k}" for k in range(8)], (4, 4), "test")


def drawn(numbers: list[int], spec: EpisodeSpec = SPEC) -> Tasks:
    return pool().draw(Stream(3, "test"), torch.tensor(numbers), spec)


def test_every_type_has_its_shots_and_no_sentence_could_be_left_out() -> None:
    tasks = drawn(list(range(40)))
    for side in (tasks.support, tasks.query):
        for y, sequence, real in zip(side.y, side.sequence, side.mask, strict=True):  # type: ignore[arg-type]
            has = [{int(k) for k in y[real & (sequence == s)]} for s in range(int(sequence[real].max()) + 1)]
            count = [sum(kind in each for each in has) for kind in (1, 2, 3)]
            assert min(count) >= 2
            for each in has:
                assert any(count[kind - 1] == 2 for kind in each if kind)


def test_a_sentence_is_whole_in_order_and_on_one_side() -> None:
    tasks, known = drawn(list(range(40))), pool()
    sentence = torch.repeat_interleave(torch.arange(120), torch.tensor(known._lengths))
    for task in range(40):
        seen: list[set[int]] = []
        for side in (tasks.support, tasks.query):
            assert side.mask is not None
            assert side.sequence is not None
            words = side.x[task, :, 0][side.mask[task]].long()  # type: ignore[index]
            parts = sentence[words].unique_consecutive(return_counts=True)
            assert all(known._lengths[s] == n for s, n in zip(*parts, strict=True))
            assert (words.diff() == 1)[sentence[words][1:] == sentence[words][:-1]].all()
            assert torch.equal(side.sequence[task][side.mask[task]], torch.arange(len(parts[0])).repeat_interleave(parts[1]))
            seen.append(set(parts[0].tolist()))
        assert not seen[0] & seen[1]


def test_types_are_of_one_group_and_other_types_are_none() -> None:
    tasks, known = drawn(list(range(40))), pool()
    groups = set()
    for task in range(40):
        real = tasks.query.mask[task]  # type: ignore[index]
        tags = torch.from_numpy(known._tags)[tasks.query.x[task, :, 0][real].long()]  # type: ignore[index]
        labels = tasks.query.y[task][real]
        kinds = [set(tags[labels == k].tolist()) for k in range(4)]
        assert [len(kind) for kind in kinds[1:]] == [1, 1, 1]
        assert not kinds[0] & set.union(*kinds[1:])
        groups.add(min(kinds[1]) // 4)
        assert len({kind // 4 for each in kinds[1:] for kind in each}) == 1
    assert groups == {0, 1}


def test_an_episode_depends_on_its_number_alone() -> None:
    alone, among = drawn([7]), drawn([3, 7, 9])[1:2]
    for side in ("support", "query"):
        left, right = getattr(alone, side), getattr(among, side)
        assert left.ways == 4
        for name in ("x", "y", "mask", "sequence"):
            assert torch.equal(getattr(left, name), getattr(right, name))
    assert not torch.equal(alone.support.x, drawn([8]).support.x)  # type: ignore[arg-type]


def test_other_inputs_for_the_same_words() -> None:
    other = pool().of(torch.arange(pool().inputs.shape[0]).double()[:, None] * 2)  # type: ignore[union-attr]
    tasks = other.draw(Stream(3, "test"), torch.tensor([5]), SPEC)
    assert torch.equal(tasks.query.x, 2 * drawn([5]).query.x.double())  # type: ignore[arg-type, union-attr]
    assert other.input_shape == (1,)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (EpisodeSpec((2, 3), 1, 1), "labelled words need one number each"),
        (EpisodeSpec(2, (1, 2), 1), "labelled words need one number each"),
        (EpisodeSpec(5, 1, 1), "episode.ways=5.*the largest group of the test split has 4"),
        (EpisodeSpec(4, 5, 15), r"35 sentences of each type may be needed.*only \d+ of 't0'; dataset.least=35"),
    ],
)
def test_sizes_that_there_are_not(spec: EpisodeSpec, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        pool().check(spec)


def test_an_episode_is_as_large_as_it_says() -> None:
    tasks = drawn([0])
    assert pool().elements(SPEC) == tasks.support.x.numel() + tasks.query.x.numel()  # type: ignore[union-attr]
    assert pool().outputs(SPEC) == 4
