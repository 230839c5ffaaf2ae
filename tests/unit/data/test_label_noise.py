"""Wrong support labels: how many, which, and what stays clean."""

import pytest
import torch
from scipy import stats

from metaloop.data.functions.sinusoid import FunctionDataset, Sinusoids
from metaloop.data.label_noise import NoisyEpisodes, NoisyLabels
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool, pool_from_arrays
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec

STREAM, NUMBERS = Stream(0, "train"), torch.arange(400)


def make_pool() -> ClassPool:
    images = torch.arange(60, dtype=torch.uint8).view(6, 10, 1, 1, 1)
    return pool_from_arrays({f"c{k}": stack for k, stack in enumerate(images)}, split="train")


def test_a_fraction_of_the_support_labels_is_wrong_and_nothing_else_changes() -> None:
    spec = EpisodeSpec(4, 5, 5)
    clean, noisy = (d.draw(STREAM, NUMBERS, spec) for d in (make_pool(), NoisyEpisodes(make_pool(), 0.4)))
    assert torch.equal(clean.support.x, noisy.support.x)
    assert torch.equal(clean.query.x, noisy.query.x)
    assert torch.equal(clean.query.y, noisy.query.y)
    assert noisy.support.ways == 4
    assert torch.equal(noisy.classes, clean.classes)
    by = (noisy.support.y - clean.support.y) % 4
    assert stats.binomtest(int((by > 0).sum()), by.numel(), 0.4).pvalue > 1e-3
    assert stats.chisquare(torch.bincount(by.flatten())[1:].numpy()).pvalue > 1e-3  # the other classes alike
    assert torch.equal(NoisyEpisodes(make_pool(), 0.4).draw(STREAM, NUMBERS[5:6], spec).support.y[0], noisy.support.y[5])


def test_names_of_classes_and_examples_are_those_of_the_data_set() -> None:
    noisy = NoisyEpisodes(make_pool(), 0.4)
    assert [noisy.class_name(number) for number in range(2)] == ["c0", "c1"]
    assert torch.equal(noisy.inputs, make_pool().inputs)
    functions = Sinusoids((1.0, 2.0), (0.0, 1.0), (-1.0, 1.0))
    assert (functions.inputs, functions.oracle(), functions.class_name(3)) == (None, None, "class 3")


def test_no_noise_is_the_data_set_itself() -> None:
    spec = EpisodeSpec(3, 2, 1)
    clean, noisy = (d.draw(STREAM, NUMBERS, spec) for d in (make_pool(), NoisyEpisodes(make_pool(), 0.0)))
    assert torch.equal(clean.support.y, noisy.support.y)


def test_wrong_labels_are_classes_of_the_episode_and_padding_is_left_alone() -> None:
    spec = EpisodeSpec((2, 5), (1, 4), 2)
    clean, noisy = (d.draw(STREAM, NUMBERS, spec) for d in (make_pool(), NoisyEpisodes(make_pool(), 0.5)))
    assert torch.equal(clean.support.mask, noisy.support.mask)
    real = clean.support.mask
    assert torch.equal(clean.support.y[~real], noisy.support.y[~real])
    ways = (clean.support.y * real).amax(1, keepdim=True) + 1
    assert (noisy.support.y < ways)[real].all()
    changed = (noisy.support.y != clean.support.y)[real].float().mean()
    assert 0.45 < changed < 0.55


def test_noise_is_checked_and_asks_what_the_data_set_asks() -> None:
    class Pools(FunctionDataset):
        def split(self, name: str) -> ClassPool:  # type: ignore[override]
            return make_pool()

    with pytest.raises(UserError, match=r"dataset\.fraction=1"):
        NoisyLabels(Pools(None), 1.0)  # type: ignore[arg-type]
    dataset = NoisyLabels(Pools(None), 0.4)  # type: ignore[arg-type]
    split = dataset.split("train")
    assert split is dataset.split("train")
    assert split.outputs(EpisodeSpec(3, 1, 1)) == 3
    assert split.to("cpu").fraction == 0.4
    with pytest.raises(UserError, match="only 6 classes"):
        split.check(EpisodeSpec(7, 1, 1))
    functions = FunctionDataset(Sinusoids((0.1, 5.0), (0.0, 1.0), (-5.0, 5.0)))
    with pytest.raises(UserError, match="classification"):
        NoisyLabels(functions, 0.4).split("train")
