"""The challenge's runs: the right answers in order, one size, a test split only."""

from pathlib import Path

import fakes
import pytest
import torch

from metaloop.data.episodes import Episodes
from metaloop.data.images.omniglot_challenge import OmniglotChallenge
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec

SPEC = EpisodeSpec(20, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_zip(tmp_path_factory.mktemp("runs") / "all_runs.zip", fakes.runs()).parent


def test_query_and_support_of_a_class_belong_together(folder: Path) -> None:
    runs = OmniglotChallenge(str(folder)).split("test")
    assert runs.episodes == 20
    assert runs.input_shape == (1, 28, 28)
    assert runs.outputs(SPEC) == 20
    tasks = Episodes(runs, SPEC, Stream(0, "test")).tasks(torch.arange(20))
    assert torch.equal(tasks.support.x, tasks.query.x)  # the stand-in's test item is a copy of its class's drawing
    assert torch.equal(tasks.support.y, torch.arange(20).expand(20, 20))
    assert torch.equal(tasks.query.y, tasks.support.y)
    assert tasks.support.ways == tasks.query.ways == 20
    assert len(tasks.support.x.flatten(0, 1).flatten(1).unique(dim=0)) == 400
    assert 0 <= tasks.support.x.min() < tasks.support.x.max() <= 1


def test_no_seed_changes_them_and_numbers_address_runs(folder: Path) -> None:
    runs = OmniglotChallenge(str(folder), 14, "nearest").split("test").to("cpu")
    whole = runs.draw(Stream(0, "test"), torch.arange(20), SPEC)
    some = runs.draw(Stream(9, "test"), torch.tensor([7, 3]), SPEC)
    assert torch.equal(some.support.x, whole.support.x[[7, 3]])
    assert some.index.tolist() == [7, 3]


@pytest.mark.parametrize(
    "spec", [EpisodeSpec(5, 1, 1), EpisodeSpec(20, 5, 1), EpisodeSpec(20, 1, 15), EpisodeSpec((5, 20), 1, 1)]
)
def test_other_sizes_are_refused(folder: Path, spec: EpisodeSpec) -> None:
    with pytest.raises(UserError, match=r"episode\.ways=.*add episode=omniglot_challenge"):
        OmniglotChallenge(str(folder)).split("test").check(spec)


def test_only_a_test_split(folder: Path) -> None:
    dataset = OmniglotChallenge(str(folder))
    for split in ("train", "validation"):
        with pytest.raises(UserError, match=f"no {split} split: train with dataset=omniglot"):
            dataset.split(split)
    with pytest.raises(UserError, match="must be one of train"):
        dataset.split("dev")
    assert dataset.split("test") is dataset.split("test")


def test_errors_come_when_asked(tmp_path: Path) -> None:
    dataset = OmniglotChallenge(str(tmp_path))
    with pytest.raises(UserError, match=r"all_runs\.zip: no such file.*metaloop data get omniglot"):
        dataset.split("test")
    with pytest.raises(UserError, match=r"dataset\.resample='cubic'"):
        OmniglotChallenge(str(tmp_path), resample="cubic")
    with pytest.raises(UserError, match=r"dataset\.side=200"):
        OmniglotChallenge(str(tmp_path), side=200)


@pytest.mark.data
def test_the_real_runs(real_data: Path) -> None:
    runs = OmniglotChallenge(str(real_data / "omniglot"), side=105).split("test")
    tasks = runs.draw(Stream(0, "test"), torch.arange(20), SPEC)
    # Lake et al. 2019 let nearest pixels err in 78.3 % of trials; wrong pairs would err in 95 %.
    nearest = torch.cdist(tasks.query.x.flatten(2), tasks.support.x.flatten(2)).argmin(-1)
    assert 0.7 < (nearest != tasks.query.y).float().mean() < 0.85
