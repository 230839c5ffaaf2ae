"""What every problem keeps to, and what each decides."""

import pytest
import torch
from torch import Tensor

from metaloop.problems.classification import Classification
from metaloop.problems.metric import ACCURACY, ENTITY_F1, LOG_LIKELIHOOD, MEAN_SQUARED_ERROR
from metaloop.problems.problem import Line, Problem
from metaloop.problems.regression import Regression
from metaloop.problems.tagging import Tagging
from metaloop.types import Examples, Tasks

RANDOM = torch.Generator().manual_seed(0)
LABELS = torch.randint(0, 3, (4, 6), generator=RANDOM)
SEQUENCE = torch.arange(2).repeat_interleave(3).expand(4, 6)
MASK = torch.tensor([True] * 5 + [False]).expand(4, 6)
VALUES = torch.randn(4, 6, 1, generator=RANDOM)
CASES: dict[str, tuple[Problem, Tensor, Examples]] = {
    "classification": (
        Classification(), torch.randn(4, 6, 3, generator=RANDOM), Examples(torch.rand(4, 6, 2), LABELS, MASK, 3),
    ),
    "tagging": (
        Tagging(), torch.randn(4, 6, 3, generator=RANDOM),
        Examples(torch.rand(4, 6, 2), LABELS, MASK, 3, sequence=SEQUENCE),
    ),
    "regression": (Regression(), torch.randn(4, 6, 1, generator=RANDOM), Examples(torch.rand(4, 6, 2), VALUES, MASK)),
    "distributions": (
        Regression(), torch.rand(4, 6, 1, 2, generator=RANDOM) + 0.1, Examples(torch.rand(4, 6, 2), VALUES, MASK),
    ),
}  # fmt: skip
STATISTICS = {
    "classification": {"loss", "recall", "f1", "calibration_error"},
    "tagging": {"loss", "recall", "f1", "calibration_error", "accuracy", "pooled_f1"},
    "regression": set(),
    "distributions": {"log_likelihood", "coverage"},
}


@pytest.mark.parametrize("case", CASES)
def test_every_score_and_statistic_has_a_metric_and_possible_values(case: str) -> None:
    problem, outputs, query = CASES[case]
    scores = problem.scores(outputs, query)
    assert all(values.shape == (4,) for values in scores.values())
    assert all(problem.metric.in_bounds(value) for value in scores["score"].tolist())
    pooled = problem.pooled(scores | problem.details(outputs, query))
    metrics = {metric.name: metric for metric in problem.statistics}
    assert len(metrics) == len(problem.statistics)
    known = {name for name in metrics if name in scores or name in pooled}
    assert known == STATISTICS[case]
    assert set(pooled) <= set(metrics)
    for name in known:
        values = [pooled[name].mean] if name in pooled else scores[name].tolist()
        assert all(metrics[name].in_bounds(value) for value in values)


@pytest.mark.parametrize("case", ["classification", "tagging", "regression"])
def test_the_loss_of_an_episode_is_that_of_the_task(case: str) -> None:
    problem, outputs, query = CASES[case]
    torch.testing.assert_close(problem.scores(outputs, query)["loss"], problem.losses(outputs, query))


@pytest.mark.parametrize("case", CASES)
def test_masked_queries_count_nowhere(case: str) -> None:
    problem, outputs, query = CASES[case]
    other = outputs.clone()
    other[:, 5] = outputs[:, 5].flip(-1) + 1
    changed, kept = problem.scores(other, query), problem.scores(outputs, query)
    assert all(torch.equal(changed[name], kept[name]) for name in kept)


def test_checkpoints_are_chosen_by_the_likelihood_where_there_is_one() -> None:
    for case, metric in (("classification", ACCURACY), ("tagging", ENTITY_F1), ("regression", MEAN_SQUARED_ERROR)):
        problem, outputs, query = CASES[case]
        scores = problem.scores(outputs, query)
        assert problem.selection(scores) == (metric, scores["score"])
    problem, outputs, query = CASES["distributions"]
    scores = problem.scores(outputs, query)
    metric, values = problem.selection(scores)
    assert metric == LOG_LIKELIHOOD
    assert torch.equal(values, -scores["loss"])


def test_settings_and_baselines() -> None:
    assert Classification().setting(5, 1) == "5-way 1-shot"
    assert Classification().setting((5, 20), (1, 5)) == "5–20-way 1–5-shot"
    assert Regression().setting(1, 10) == "10-shot"
    assert [problem.has_classes for problem, *_ in CASES.values()] == [True, True, False, False]
    for shape, name in (((1, 28, 28), "nearest neighbour in pixels"), ((16,), "nearest neighbour")):
        baseline = Classification().baseline(shape)
        assert baseline is not None
        assert baseline.name == name


@pytest.mark.parametrize("case", CASES)
def test_a_baseline_answers_what_the_problem_scores(case: str) -> None:
    problem, _, query = CASES[case]
    baseline = problem.baseline((2,))
    assert baseline is not None
    assert problem.scores(baseline.answer(query, query.x), query)["score"].isfinite().all()


def test_words_without_sentences_are_refused() -> None:
    _, outputs, query = CASES["classification"]
    with pytest.raises(ValueError, match=r"Examples\.sequence"):
        Tagging().scores(outputs, query)


class Answering:
    """An adapted learner of known outputs."""

    def __init__(self, outputs: Tensor) -> None:
        self.outputs = outputs

    def __call__(self, x: object, mask: Tensor | None = None) -> Tensor:
        return self.outputs

    def curve(self, x: object, mask: Tensor | None = None) -> Tensor:
        return torch.stack([self.outputs, self.outputs + 1])


def test_pictures_are_of_images_without_padding_and_of_functions() -> None:
    _, outputs, words = CASES["classification"]
    assert Classification().samples(Answering(outputs), Tasks(words, words, torch.arange(4)), None) is None
    images = Examples(torch.rand(4, 6, 1, 8, 8), LABELS, MASK, 3)
    sheet = Classification().samples(Answering(outputs), Tasks(images, images, torch.arange(4)), None)
    assert sheet is not None
    lengths = {name: len(value) for name, value in sheet.items() if value.ndim}
    assert lengths == dict.fromkeys(("support_x", "support_y", "query_x", "query_y", "probabilities"), 5)
    points = Examples(VALUES, VALUES, MASK)
    tasks, line = Tasks(points, points, torch.arange(4)), Line(torch.linspace(0, 1, 6), torch.zeros(4, 6))
    assert Regression().samples(Answering(VALUES), tasks, None) is None
    curves = Regression().samples(Answering(VALUES), tasks, line)
    bands = Regression().samples(Answering(CASES["distributions"][1]), tasks, line)
    assert curves is not None
    assert bands is not None
    assert torch.equal(curves["after"], VALUES[..., 0] + 1)
    assert curves["support_x"].isnan().sum() == 4
    assert (bands["low"] < bands["high"]).all()
