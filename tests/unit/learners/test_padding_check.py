"""Padding holds zeros, and a learner that counts it is refused before the first outer step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metaloop.cli.main import main
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.learners.metric.comparison import Comparison
from metaloop.testing.tasks import made_tasks, padded
from metaloop.types import EpisodeSpec, Examples
from small_runs import Blobs, Words, words

VARIABLE = ("episode.ways=[2,3]", "episode.shots=[1,3]", "trainer.max_steps=2", "episode.train.queries=2")


class CountsPadding(Comparison):
    """Distances to class means that take every row of the support set for an example."""

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        of_class = torch.nn.functional.one_hot(labels.y, labels.ways).to(support.dtype)
        means = (of_class.T @ support) / of_class.sum(0).clamp(min=1)[:, None]
        return -(query[:, None] - means).square().sum(-1)


def run(tmp_path: Path, *more: str) -> int:
    return main(words(tmp_path / "run", "algorithm=prototypes", *VARIABLE, *more))


def test_F2_a_learner_that_counts_padding_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            tmp_path,
            f"algorithm.comparison._target_={__name__}.CountsPadding",
            "~algorithm.comparison.scale",
            "~algorithm.comparison.learn_scale",
        )
        == 2
    )
    assert "MetricLearner change with what stands in the padding" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("algorithm", ["prototypes", "maml"])
def test_F2_learners_that_honour_masks_are_trained(algorithm: str, tmp_path: Path) -> None:
    assert run(tmp_path, f"algorithm={algorithm}") == 0


@pytest.mark.parametrize("dataset", [Blobs(), Words()])
def test_F2_padding_of_episodes_is_zero(dataset: Blobs | Words) -> None:
    spec = EpisodeSpec((2, 4), (1, 3), 2)
    episodes = Episodes(dataset.split("train"), spec, Stream(0, "train"))
    numbers = torch.arange(6)
    tasks, drawn = episodes.tasks(numbers), dataset.split("train").draw(episodes.stream, numbers, spec)
    for blank, full in ((tasks.support, drawn.support), (tasks.query, drawn.query)):
        mask = full.mask
        assert mask is not None
        assert not mask.all()
        if isinstance(full.x, Tensor):
            assert isinstance(blank.x, Tensor)
            assert torch.equal(blank.x[mask], full.x[mask])
            assert not blank.x[~mask].any()
        else:
            assert not isinstance(blank.x, Tensor)
            assert torch.equal(blank.x["input_ids"][mask], full.x["input_ids"][mask])
            assert not blank.x["input_ids"][~mask].any()
            assert (blank.x["attention_mask"][~mask].sum(-1) == 1).all()
        assert torch.equal(blank.y, full.y)


def test_F2_targets_in_padding_are_zero() -> None:
    from metaloop.data.padding import blank_padding

    tasks = padded(made_tasks((4,), ways=3, targets=2))
    blank = blank_padding(tasks)
    assert tasks.support.mask is not None
    assert not blank.support.y[~tasks.support.mask].any()
    assert torch.equal(blank.support.y[tasks.support.mask], tasks.support.y[tasks.support.mask])
    whole = replace(tasks, support=replace(tasks.support, mask=None), query=replace(tasks.query, mask=None))
    assert blank_padding(whole) is whole
