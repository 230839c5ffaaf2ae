"""Unlabelled and distractor examples of an episode."""

import pytest
import torch
from torch import Tensor

from metaloop.data.episodes import Episodes
from metaloop.data.functions.sinusoid import Sinusoids
from metaloop.data.label_noise import NoisyEpisodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool, pool_from_arrays
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Inputs, Span, Tasks

STREAM = Stream(0, "train")
TASKS = 100


def made_pool(rotations: str = "none") -> ClassPool:
    """Six classes of nine 2x2 images whose brightest corner says class and drawing: 10 class + drawing + 1."""
    images = torch.zeros(6, 9, 1, 2, 2, dtype=torch.uint8)
    images[..., 0, 0, 0] = torch.arange(6)[:, None] * 10 + torch.arange(9) + 1
    return pool_from_arrays({f"c{k}": stack for k, stack in enumerate(images)}, rotations=rotations, split="train")


def drawn(rotations: str = "none", *, ways: Span = 3, shots: Span = 2, unlabelled: int = 4, distractors: int = 2) -> Tasks:
    return made_pool(rotations).draw(STREAM, torch.arange(TASKS), EpisodeSpec(ways, shots, 3, unlabelled, distractors))


def codes(x: Inputs | None) -> Tensor:
    """(tasks, examples): 10 class + drawing."""
    assert isinstance(x, Tensor)
    return (x.flatten(2).amax(-1) * 255).round().long() - 1


@pytest.mark.parametrize("rotations", ["none", "augment", "classes"])
def test_the_labelled_part_is_that_of_an_episode_without(rotations: str) -> None:
    tasks, plain = drawn(rotations), drawn(rotations, unlabelled=0, distractors=0)
    assert plain.unlabelled is None
    for ours, theirs in ((tasks.support, plain.support), (tasks.query, plain.query)):
        assert torch.equal(ours.x, theirs.x)  # type: ignore[arg-type]
        assert torch.equal(ours.y, theirs.y)
    assert torch.equal(tasks.classes, plain.classes)  # type: ignore[arg-type]


def test_unlabelled_examples_are_others_of_the_same_classes_and_distractors_of_other_classes() -> None:
    tasks = drawn()
    shown, seen = codes(tasks.unlabelled), torch.cat([codes(tasks.support.x), codes(tasks.query.x)], 1)
    assert shown.shape == (TASKS, (3 + 2) * 4)
    assert tasks.support.unlabelled_mask is None
    for more, labelled in zip(shown.tolist(), seen.tolist(), strict=True):
        assert len(set(more + labelled)) == len(more + labelled)
        classes = [labelled[2 * k] // 10 for k in range(3)]
        assert [code // 10 for code in more[:12:4]] == classes
        assert not set(classes) & {code // 10 for code in more[12:]}
        assert len({code // 10 for code in more}) == 5
    own = shown[:, :12] % 10
    assert set(own.flatten().tolist()) == set(range(9))  # every drawing is shown sometimes, whatever the labelled ones leave


def test_all_that_is_left_of_a_class_may_be_shown() -> None:
    tasks = drawn(unlabelled=4, distractors=0)
    everything = torch.cat([codes(part) for part in (tasks.support.x, tasks.query.x, tasks.unlabelled)], 1)
    for task in everything.tolist():
        assert sorted(task) == sorted(10 * k + d for k in {code // 10 for code in task} for d in range(9))


def test_classes_that_an_episode_does_not_have_are_masked_and_distractors_are_not() -> None:
    tasks = drawn(ways=(2, 4), shots=(1, 2))
    real = tasks.support.unlabelled_mask
    assert real is not None
    present = tasks.query.mask.view(TASKS, 4, 3)[..., 0]  # type: ignore[union-attr]
    assert torch.equal(real.view(TASKS, 6, 4)[:, :4], present[..., None].expand(-1, -1, 4))
    assert real[:, 16:].all()
    assert not present.all()


def test_turned_classes_show_what_is_turned_as_they_are() -> None:
    tasks = drawn("classes", distractors=0)
    assert isinstance(tasks.support.x, Tensor)
    assert isinstance(tasks.unlabelled, Tensor)
    corner, other = (x.flatten(2).argmax(-1) for x in (tasks.support.x, tasks.unlabelled))
    assert torch.equal(corner[:, ::2].repeat_interleave(4, 1), other)
    assert len(corner.unique()) == 4


def test_wrong_labels_leave_what_is_unlabelled_as_it_is() -> None:
    spec = EpisodeSpec(3, 2, 3, 4, 2)
    noisy = NoisyEpisodes(made_pool(), 0.5)
    tasks = Episodes(noisy, spec, STREAM).tasks(torch.arange(TASKS))
    assert torch.equal(codes(tasks.unlabelled), codes(drawn().unlabelled))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (EpisodeSpec(3, 2, 3, 5), r"episode\.queries \+ episode\.unlabelled = 2 \+ 3 \+ 5 = 10: class 'c0'"),
        (EpisodeSpec(4, 2, 3, 1, 3), r"episode\.ways=4 \+ episode\.distractors=3: the train split has only 6 classes"),
    ],
)
def test_more_than_there_is_is_refused(spec: EpisodeSpec, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Episodes(made_pool(), spec, STREAM)


def test_a_data_set_without_unlabelled_examples_refuses_them() -> None:
    with pytest.raises(UserError, match=r"episode\.unlabelled=2: this data set has no unlabelled examples"):
        Episodes(Sinusoids((0.1, 5.0), (0.0, 3.0), (-5.0, 5.0)), EpisodeSpec(1, 5, 5, 2), STREAM)
