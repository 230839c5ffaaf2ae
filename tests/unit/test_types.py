"""The types that everything speaks."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Examples, Tasks, highest, lowest, map_inputs


@given(st.integers(1, 50), st.integers(0, 50))
def test_a_span_is_a_number_or_a_range(low: int, more: int) -> None:
    spec = EpisodeSpec(ways=[low, low + more], shots=(low, low + more), queries=low)  # type: ignore[arg-type]
    assert (lowest(spec.ways), highest(spec.ways)) == (low, low + more)
    assert spec.variable is (more > 0)
    assert spec.ways == spec.shots == ((low, low + more) if more else low)
    assert hash(spec) == hash(EpisodeSpec(spec.ways, spec.shots, low))


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "5", None, [3, 2], [0, 2], [1, 2, 3], [1.0, 2.0], {"low": 1, "high": 2}])
@pytest.mark.parametrize("name", ["ways", "shots", "queries"])
def test_what_is_no_size_is_refused_with_its_key(name: str, wrong: object) -> None:
    sizes = {"ways": 5, "shots": 1, "queries": 15} | {name: wrong}
    with pytest.raises(UserError, match=rf"episode\.{name}="):
        EpisodeSpec(**sizes)  # type: ignore[arg-type]


def test_queries_are_one_number() -> None:
    with pytest.raises(UserError, match=r"episode\.queries=\[1, 2\]: one whole number"):
        EpisodeSpec(5, 1, [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [-1, True, 2.0, "5", None, [1, 2]])
@pytest.mark.parametrize("name", ["unlabelled", "distractors"])
def test_what_is_no_number_of_unlabelled_examples_is_refused_with_its_key(name: str, wrong: object) -> None:
    with pytest.raises(UserError, match=rf"episode\.{name}="):
        EpisodeSpec(5, 1, 15, **{"unlabelled": 5, name: wrong})  # type: ignore[arg-type]


def test_distractors_need_unlabelled_examples() -> None:
    assert EpisodeSpec(5, 1, 15, unlabelled=2, distractors=3).distractors == 3
    with pytest.raises(UserError, match=r"episode\.distractors=3 needs unlabelled examples, but episode\.unlabelled=0"):
        EpisodeSpec(5, 1, 15, distractors=3)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EpisodeSpec(5, 1, 15).ways = 6  # type: ignore[misc]


def made_tasks() -> Tasks:
    x = {"ids": torch.arange(12).view(3, 4), "mask": torch.ones(3, 4)}
    more = {"unlabelled": torch.arange(6.0).view(3, 2), "unlabelled_mask": torch.ones(3, 2, dtype=torch.bool)}
    support = Examples(x, torch.arange(12).view(3, 4), torch.ones(3, 4, dtype=torch.bool), 4, **more)
    query = Examples(torch.randn(3, 2, 5), torch.zeros(3, 2))
    return Tasks(support, query, torch.arange(7, 10), torch.arange(12).view(3, 4))


def test_tasks_are_cut_in_every_tensor() -> None:
    tasks = made_tasks()
    part = tasks[1:]
    assert len(tasks) == 3
    assert len(part) == 2
    assert part.index.tolist() == [8, 9]
    assert part.classes.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]  # type: ignore[union-attr]
    assert part.support.y.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert isinstance(part.support.x, dict)
    assert part.support.x["ids"].shape == part.support.x["mask"].shape == (2, 4)
    assert part.support.mask is not None
    assert part.support.mask.shape == (2, 4)
    assert part.support.ways == 4
    assert part.unlabelled.tolist() == [[2, 3], [4, 5]]  # type: ignore[union-attr]
    assert part.support.unlabelled_mask.shape == (2, 2)  # type: ignore[union-attr]
    assert part.query.mask is None
    assert part.query.ways == 0


def test_A6_vmap_and_cuts_keep_every_tensor_of_an_example() -> None:
    rows = torch.arange(12).view(3, 4)
    examples = Examples(
        rows.float(),
        rows % 2,
        rows > 0,
        2,
        torch.arange(3),
        unlabelled=rows.float(),
        unlabelled_mask=rows > 1,
        sequence=rows + 2,
        world=rows + 3,
    )
    mapped = torch.func.vmap(lambda one: one.map(lambda tensor: tensor.clone()))(examples)
    for field in dataclasses.fields(Examples):
        value, kept = getattr(examples, field.name), getattr(mapped, field.name)
        assert value is not None, field.name
        assert torch.equal(kept, value) if isinstance(value, torch.Tensor) else kept == value, field.name


def test_tasks_move_with_every_tensor() -> None:
    moved = made_tasks().to("meta")
    tensors = [
        *moved.support.x.values(),
        moved.support.y,
        moved.support.mask,
        moved.query.x,
        moved.query.y,
        moved.unlabelled,
        moved.support.unlabelled_mask,
        moved.index,
        moved.classes,
    ]  # type: ignore[union-attr]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_inputs_are_a_tensor_or_named_tensors() -> None:
    assert torch.equal(map_inputs(lambda t: t + 1, torch.ones(2)), torch.full((2,), 2.0))  # type: ignore[arg-type]
    assert map_inputs(len, {"a": torch.ones(2), "b": torch.ones(3)}) == {"a": 2, "b": 3}  # type: ignore[arg-type]
