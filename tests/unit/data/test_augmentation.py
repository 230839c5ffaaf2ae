"""Augmented episodes: the right pictures, changed as asked, and a function of the episode's number alone."""

import math

import pytest
import torch
from torch import Tensor

from metaloop.data.augmentation import Augmentation
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Tasks

STREAM = Stream(3, "train")
ALL = Augmentation(padding=2, flip=True, brightness=0.4, contrast=0.4, saturation=0.4, rotation=15.0)


def pictures(count: int = 40, side: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def pool(augmentation: Augmentation | None) -> ClassPool:
    return ClassPool(pictures(), [8] * 5, list("abcde"), split="train", augmentation=augmentation)


def changed(augmentation: Augmentation, images: Tensor, part: str = "support") -> Tensor:
    return augmentation(images[None], STREAM, torch.tensor([5]), part)[0]


def test_an_episode_does_not_depend_on_what_is_drawn_with_it() -> None:
    drawn = pool(ALL)
    spec = EpisodeSpec(3, 2, 3, unlabelled=1)

    def inputs(tasks: Tasks) -> list[Tensor]:
        return [tasks.support.x, tasks.query.x, tasks.unlabelled]  # type: ignore[list-item]

    together = drawn.draw(STREAM, torch.arange(20), spec)
    for i in (0, 7, 19):
        alone = drawn.draw(STREAM, torch.tensor([i]), spec)
        for one, many in zip(inputs(alone), inputs(together), strict=True):
            assert torch.equal(one[0], many[i])
    small = Episodes(drawn, spec, STREAM).batches(0, 20, 3, "cpu")
    assert torch.equal(torch.cat([tasks.query.x for tasks in small]), together.query.x)  # type: ignore[misc]


def test_classes_and_drawings_are_those_without_augmentation() -> None:
    plain, augmented = pool(None), pool(ALL)
    spec = EpisodeSpec(3, 2, 3)
    torch.manual_seed(0)
    left, right = (each.draw(STREAM, torch.arange(9), spec) for each in (plain, augmented))
    assert torch.equal(left.classes, right.classes)  # type: ignore[arg-type]
    assert torch.equal(left.query.y, right.query.y)
    assert not torch.equal(left.query.x, right.query.x)  # type: ignore[arg-type]


def test_support_query_and_repeats_of_an_image_are_changed_apart() -> None:
    images = pictures(1).expand(40, -1, -1, -1)
    support, query = changed(ALL, images), changed(ALL, images, "query")
    assert len({tuple(image.flatten().tolist()) for image in support}) == 40
    assert not torch.equal(support, query)


def test_nothing_asked_is_nothing_done() -> None:
    images = pictures()
    assert torch.equal(changed(Augmentation(), images), images.float() / 255)


def test_crops_are_windows_of_the_padded_image_and_flips_their_mirror() -> None:
    images = pictures(400)
    seen = set()
    for image, found in zip(images, changed(Augmentation(padding=1, flip=True), images), strict=True):
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        windows = {}
        for mirror in (False, True):
            source = torch.nn.functional.pad(image.flip(-1), (1, 1, 1, 1)) if mirror else padded
            windows.update({(mirror, y, x): source[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)})
        matching = [key for key, window in windows.items() if torch.equal((found * 255).round().byte(), window)]
        assert len(matching) == 1
        seen.add(matching[0])
    assert len(seen) == 18


def test_flips_alone_happen_half_the_time() -> None:
    images = pictures(400)
    found = changed(Augmentation(flip=True), images)
    mirrored = [torch.equal(f, i.flip(-1).float() / 255) for f, i in zip(found, images, strict=True)]
    kept = [torch.equal(f, i.float() / 255) for f, i in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_colours_change_as_they_say() -> None:
    images = pictures(200).clamp(60, 120)  # nothing is cut at 0 or 1
    plain = images.float() / 255
    mean = plain.mean((1, 2, 3), keepdim=True)
    bright = changed(Augmentation(brightness=0.5), images) / plain
    factors = bright.mean((1, 2, 3))
    assert bright.flatten(1).std(1).max() < 1e-5
    assert 0.5 <= factors.min() < 0.6
    assert 1.4 < factors.max() <= 1.5
    ratio = (changed(Augmentation(contrast=0.5), images) - mean).flatten(1).norm(dim=1) / (plain - mean).flatten(1).norm(dim=1)
    assert 0.5 <= ratio.min() < 0.6
    assert 1.4 < ratio.max() <= 1.5
    torch.testing.assert_close(changed(Augmentation(contrast=0.5), images).mean((1, 2, 3), keepdim=True), mean)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey, coloured = (plain * weights).sum(1), changed(Augmentation(saturation=0.5), images)
    torch.testing.assert_close((coloured * weights).sum(1), grey)
    assert not torch.allclose(coloured, plain, atol=0.01)


def test_values_stay_in_unit_range() -> None:
    found = changed(Augmentation(brightness=1.0, contrast=1.0, saturation=1.0), pictures(200))
    assert found.min() >= 0
    assert found.max() <= 1


def test_turns_keep_the_middle_and_go_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.zeros(1, 9, 9, dtype=torch.uint8)
    image[:, 4, 4] = 255
    image[:, 4, 8] = 255
    images = image.expand(300, -1, -1, -1)
    found = changed(Augmentation(rotation=90.0), images)
    torch.testing.assert_close(found[:, 0, 4, 4], torch.ones(300))
    y = torch.arange(9.0) - 4
    outer = found[:, 0].clone()
    outer[:, 4, 4] = 0
    weight = outer.sum((1, 2))
    angles = torch.atan2((outer * y[:, None]).sum((1, 2)) / weight, (outer * y).sum((1, 2)) / weight)
    assert angles.min() < -0.8 * math.pi / 2
    assert angles.max() > 0.8 * math.pi / 2
    quarter = torch.full((300,), 1 - 1e-12, dtype=torch.float64)
    monkeypatch.setattr(Stream, "uniform", lambda self, numbers, words, purpose: quarter[None, :words])
    turned = changed(Augmentation(rotation=90.0), images)
    torch.testing.assert_close(turned, images.rot90(1 if turned[0, 0, 0, 4] > 0.5 else -1, (-2, -1)) / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": -1}, "padding=-1 must be a whole number of pixels"),
        ({"padding": 1.5}, r"padding=1\.5 must be a whole number of pixels"),
        ({"brightness": 1.5}, r"brightness=1\.5 must be a number from 0 to 1"),
        ({"rotation": 200}, "rotation=200 must be a number from 0 to 180"),
    ],
)
def test_strengths_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augmentation(**arguments)  # type: ignore[arg-type]


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UserError, match="are not images"):
        ClassPool(torch.zeros(4, 5), [2, 2], ["a", "b"], augmentation=Augmentation(flip=True))
    with pytest.raises(UserError, match="three colours"):
        ClassPool(pictures(4)[:, :1], [2, 2], ["a", "b"], augmentation=Augmentation(saturation=0.1))


def test_a_moved_pool_keeps_its_augmentation() -> None:
    assert pool(ALL).to("cpu").augmentation is ALL
