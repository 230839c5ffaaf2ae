"""Episodes from a pool of classes: right images, right labels, masks and refusals."""

import pytest
import torch

from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool, pool_from_arrays
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Examples

STREAM = Stream(0, "train")


def make_pool(rotations: str = "none", classes: int = 6, drawings: int = 5) -> ClassPool:
    """2x2 images whose corner (0, 0) says class and drawing: 10 class + drawing + 1; the others are 0."""
    images = torch.zeros(classes, drawings, 1, 2, 2, dtype=torch.uint8)
    images[..., 0, 0, 0] = torch.arange(classes)[:, None] * 10 + torch.arange(drawings) + 1
    return pool_from_arrays({f"c{k}": stack for k, stack in enumerate(images)}, rotations=rotations, split="train")


def codes(examples: Examples) -> torch.Tensor:
    """Class and drawing of each example, whatever its turn."""
    assert isinstance(examples.x, torch.Tensor)
    return (examples.x.flatten(2).amax(-1) * 255).round().long() - 1


def test_labels_follow_classes_and_no_drawing_is_seen_twice() -> None:
    tasks = make_pool().draw(STREAM, torch.arange(200), EpisodeSpec(3, 2, 3))
    support, query = codes(tasks.support), codes(tasks.query)
    assert tasks.support.y[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert tasks.query.y[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for s, q in zip(support.tolist(), query.tolist(), strict=True):
        assert len(set(s + q)) == 15
        assert [code // 10 for code in q] == [code // 10 for code in s[::2] for _ in range(3)]
        assert len({code // 10 for code in s}) == 3
    assert set((support // 10).flatten().tolist()) == set(range(6))


@pytest.mark.parametrize("rotations", ["none", "augment", "classes"])
def test_tasks_name_the_classes_of_the_split(rotations: str) -> None:
    pool = make_pool(rotations)
    tasks = pool.draw(STREAM, torch.arange(100), EpisodeSpec(3, 2, 1))
    named = tasks.classes.gather(1, tasks.support.y)  # type: ignore[union-attr]
    assert torch.equal(named // 4 if rotations == "classes" else named, codes(tasks.support) // 10)
    assert set(named.flatten().tolist()) == set(range(pool.num_classes))
    if rotations == "classes":
        images = tasks.support.x.flatten(0, 1)[:, 0]  # type: ignore[union-attr]
        assert [corner(image) for image in images] == (named % 4).flatten().tolist()


def test_ways_that_a_task_does_not_have_stand_for_no_class() -> None:
    tasks = make_pool().draw(STREAM, torch.arange(50), EpisodeSpec((2, 4), (1, 3), 2))
    real = tasks.query.mask.view(50, 4, 2)[..., 0]  # type: ignore[union-attr]
    assert torch.equal(tasks.classes >= 0, real)  # type: ignore[operator]
    assert real.any(0).all()
    assert not real.all()


def test_images_are_floats_in_unit_range() -> None:
    tasks = make_pool().draw(STREAM, torch.arange(3), EpisodeSpec(2, 1, 1))
    assert tasks.support.x.dtype == torch.float32
    assert tasks.support.x.shape == (3, 2, 1, 2, 2)
    assert tasks.support.ways == tasks.query.ways == 2
    assert 0 < tasks.support.x.max() <= 1


def corner(image: torch.Tensor) -> int:
    """Which corner holds the mark, counter-clockwise from the upper left: the number of quarter turns."""
    return [image[0, 0], image[1, 0], image[1, 1], image[0, 1]].index(image.max())


def test_rotations_as_classes_are_four_classes_each() -> None:
    pool = make_pool("classes")
    assert pool.num_classes == 24
    tasks = pool.draw(STREAM, torch.arange(400), EpisodeSpec(3, 1, 2))
    seen = set()
    for episode, drawing in zip(tasks.support.x, codes(tasks.support), strict=True):
        classes = [(int(code) // 10, corner(image[0])) for image, code in zip(episode, drawing, strict=True)]
        assert len(set(classes)) == 3
        seen.update(classes)
    assert len(seen) == 24


@pytest.mark.parametrize("rotations", ["classes", "augment"])
def test_a_class_is_turned_alike_in_support_and_query(rotations: str) -> None:
    tasks = make_pool(rotations).draw(STREAM, torch.arange(50), EpisodeSpec(2, 1, 2))
    turns = [[corner(image[0]) for image in episode] for episode in torch.cat([tasks.support.x, tasks.query.x], 1)]
    assert all(a == c == d and b == e == f for a, b, c, d, e, f in turns)
    assert {turn for episode in turns for turn in episode} == {0, 1, 2, 3}


def test_augmentation_keeps_the_number_of_classes() -> None:
    assert make_pool("augment").num_classes == 6


def test_variable_ways_and_shots_are_masked() -> None:
    tasks = make_pool().draw(STREAM, torch.arange(300), EpisodeSpec((2, 4), (1, 3), 2))
    assert tasks.support.mask is not None
    assert tasks.query.mask is not None
    support, query = tasks.support.mask.view(300, 4, 3), tasks.query.mask.view(300, 4, 2)
    ways, shots = support.any(-1).sum(-1), support.any(-2).sum(-1)
    assert set(ways.tolist()) == {2, 3, 4}
    assert set(shots.tolist()) == {1, 2, 3}
    # real examples come first, and every real class has all its shots and queries
    assert torch.equal(support, (torch.arange(4) < ways[:, None])[:, :, None] & (torch.arange(3) < shots[:, None])[:, None])
    assert torch.equal(query, (torch.arange(4) < ways[:, None])[:, :, None].expand(-1, -1, 2))
    assert len(set(zip(ways.tolist(), shots.tolist(), strict=True))) == 9


def test_fixed_sizes_carry_no_mask_and_draw_the_same_classes() -> None:
    numbers = torch.arange(20)
    fixed = make_pool().draw(STREAM, numbers, EpisodeSpec(4, 3, 2))
    variable = make_pool().draw(STREAM, numbers, EpisodeSpec((2, 4), (1, 3), 2))
    assert fixed.support.mask is None
    assert torch.equal(fixed.support.x, variable.support.x)


def test_named_tensors() -> None:
    tokens = {"ids": torch.arange(8).view(4, 2), "mask": torch.ones(4, 2, dtype=torch.bool)}
    pool = ClassPool(tokens, [2, 2], ["a", "b"])
    support = pool.draw(STREAM, torch.arange(5), EpisodeSpec(2, 1, 1)).support
    assert not isinstance(support.x, torch.Tensor)
    assert support.x["ids"].shape == (5, 2, 2)
    assert support.x["ids"].dtype == torch.int64
    assert support.x["mask"].all()


def test_too_many_ways() -> None:
    with pytest.raises(UserError, match=r"episode\.ways=7: the train split has only 6 classes"):
        make_pool().check(EpisodeSpec(7, 1, 1))
    with pytest.raises(UserError, match=r"episode\.ways=8"):
        make_pool().check(EpisodeSpec((2, 8), 1, 1))
    make_pool("classes").check(EpisodeSpec(24, 1, 1))


def test_too_many_examples_names_the_smallest_class() -> None:
    images = {"many": torch.zeros(9, 1, 2, 2), "few": torch.zeros(3, 1, 2, 2)}
    pool = pool_from_arrays(images, split="test")
    pool.check(EpisodeSpec(2, 1, 2))
    with pytest.raises(UserError, match=r"shots \+ episode\.queries = 2 \+ 2 = 4: class 'few' of the test split has only 3"):
        pool.check(EpisodeSpec(2, 2, 2))
    with pytest.raises(UserError, match="'few'"):
        pool.check(EpisodeSpec(2, (1, 3), 1))


def test_classes_of_different_sizes_are_drawn_whole() -> None:
    images = {"a": torch.full((2, 1, 1, 1), 1.0), "b": torch.full((7, 1, 1, 1), 2.0)}
    pool = pool_from_arrays(images)
    x = pool.draw(STREAM, torch.arange(100), EpisodeSpec(2, 1, 1)).support.x
    assert isinstance(x, torch.Tensor)
    assert (x.flatten(1).sort(-1).values == torch.tensor([1.0, 2.0])).all()


def test_bad_arguments() -> None:
    with pytest.raises(UserError, match=r"dataset\.rotations='sometimes' must be one of none, classes, augment"):
        make_pool("sometimes")
    with pytest.raises(UserError, match="square images"):
        pool_from_arrays({"a": torch.zeros(2, 1, 2, 3)}, rotations="classes")
    with pytest.raises(ValueError, match="4 examples"):
        ClassPool(torch.zeros(4, 1), [1, 2], ["a", "b"])


def test_moving_keeps_the_episodes() -> None:
    pool = make_pool("augment")
    spec, numbers = EpisodeSpec(3, 1, 1), torch.arange(4)
    assert torch.equal(pool.draw(STREAM, numbers, spec).query.x, pool.to("cpu").draw(STREAM, numbers, spec).query.x)
    assert pool.to("meta").gather(torch.zeros(1, 1, dtype=torch.int64, device="meta")).device.type == "meta"
