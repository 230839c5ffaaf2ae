"""Scores of episodes, gathered and summed up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score, recall_score

from metaloop.learners.learner import Predictor
from metaloop.problems.classification import Classification
from metaloop.problems.control import Actions, Control
from metaloop.problems.metric import ACCURACY, MEAN_SQUARED_ERROR
from metaloop.problems.regression import Regression
from metaloop.training.scores import gather, score, summary, table
from metaloop.types import Examples, Tasks

BEFORE, AFTER = torch.randn(2, 4, 6, 3, generator=torch.Generator().manual_seed(0)).unbind()


class Answering:
    """A learner whose answers are known."""

    def adapt(self, support: Examples) -> Predictor:
        return Predictor([lambda x, mask: BEFORE, lambda x, mask: AFTER])


def tasks(mask: torch.Tensor | None = None) -> Tasks:
    y = torch.arange(3).repeat_interleave(2).expand(4, 6)
    examples = Examples(torch.zeros(4, 6, 1), y, mask, 3)
    return Tasks(examples, examples, torch.tensor([3, 0, 2, 1]))


def test_scores_are_of_the_last_iterate_and_curves_of_all() -> None:
    found = score(Answering(), tasks(), Classification())
    truth = tasks().query.y
    for point, answers in enumerate((BEFORE, AFTER)):
        accuracy = (answers.argmax(-1) == truth).float().mean(1)
        loss = torch.nn.functional.cross_entropy(answers.transpose(1, 2), truth, reduction="none").mean(1)
        torch.testing.assert_close(found["curve"][:, point], accuracy)
        torch.testing.assert_close(found["loss_curve"][:, point], loss)
    torch.testing.assert_close(found["score"], found["curve"][:, 1])
    for task in range(4):
        said, true = AFTER[task].argmax(-1).numpy(), truth[task].numpy()
        expected = [each(true, said, average="macro", zero_division=0) for each in (recall_score, f1_score)]
        assert [float(found[name][task]) for name in ("recall", "f1")] == pytest.approx(expected)


def test_masked_queries_do_not_count() -> None:
    mask = torch.tensor([True, False] * 3).expand(4, 6)
    found = score(Answering(), tasks(mask), Classification())
    hits = (AFTER.argmax(-1) == tasks().query.y).float()
    torch.testing.assert_close(found["score"], hits[:, ::2].mean(1))
    assert summary(found, Classification())["others"]["calibration_error"]["mean"] is not None


def test_E5_an_episode_that_was_scored_twice_counts_once() -> None:
    one = {"index": torch.tensor([1, 4]), "score": torch.tensor([0.1, 0.4])}
    two = {"index": torch.tensor([0, 4]), "score": torch.tensor([0.0, 0.4])}
    assert gather([one, two])["index"].tolist() == [0, 1, 4]


def test_parts_are_joined_in_the_order_of_their_numbers() -> None:
    one = {"index": torch.tensor([4, 1]), "score": torch.tensor([0.4, 0.1])}
    two = {"index": torch.tensor([3]), "score": torch.tensor([0.3])}
    found = gather([one, two])
    assert found["index"].tolist() == [1, 3, 4]
    assert table(found) == {"index": [1, 3, 4], "score": pytest.approx([0.1, 0.3, 0.4])}


def test_the_summary_has_students_interval() -> None:
    found = score(Answering(), tasks(), Classification())
    told = summary(found, Classification())
    values = found["score"].double().numpy()
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert told["mean"] == pytest.approx(np.mean(values))
    assert told["half_width"] == pytest.approx((high - low) / 2)
    assert (told["problem"], told["metric"], told["level"]) == ("classification", ACCURACY.as_dict(), 0.95)
    assert [point["step"] for point in told["curve"]] == [0, 1]
    assert told["curve"][1]["mean"] == told["mean"]
    assert set(told["others"]) == {"loss", "recall", "f1", "calibration_error"}


def test_a_curve_with_gaps_says_which_steps_it_shows() -> None:
    class Sparse:
        def adapt(self, support: Examples) -> Predictor:
            return Predictor([lambda x, mask: BEFORE, lambda x, mask: AFTER], steps=(0, 50))

    told = summary(gather([score(Sparse(), tasks(), Classification())]), Classification())
    assert [point["step"] for point in told["curve"]] == [0, 50]
    assert told["curve"][1]["mean"] == told["mean"] != told["curve"][0]["mean"]


@pytest.mark.parametrize(("episodes", "places"), [(3, [1, 2, 3]), (101, [*range(3, 100, 3), 101])])
def test_returns_by_their_place_in_the_trial_are_a_curve(episodes: int, places: list[int]) -> None:
    """Of long trials, each point is the mean of some neighbours."""

    class Playing:
        transductive = True

        def adapt(self, support: Examples) -> Predictor:
            return Predictor([lambda x, mask: x[..., 0]])

    torch.manual_seed(1)
    returns = torch.rand(4, episodes)
    examples = Examples(returns[..., None], torch.ones(4, episodes))
    problem = Control(Actions(2), "levers", best_known=True)
    told = summary(score(Playing(), Tasks(examples, examples, torch.arange(4)), problem), problem)  # type: ignore[arg-type]
    curve = told["returns"]
    assert [point["step"] for point in curve] == places
    parts = np.split(returns.double().numpy(), places[:-1], 1)
    assert [point["mean"] for point in curve] == pytest.approx([part.mean() for part in parts], rel=1e-6)
    low, high = stats.t.interval(0.95, 3, parts[-1].mean(), stats.sem(parts[-1].mean(1)))
    assert curve[-1]["half_width"] == pytest.approx((high - low) / 2, rel=1e-5)
    assert "returns" not in summary(score(Answering(), tasks(), Classification()), Classification())


def test_regression_has_squared_errors() -> None:
    y = torch.zeros(4, 6, 3)
    examples = Examples(torch.zeros(4, 6, 1), y)
    found = score(Answering(), Tasks(examples, examples, torch.arange(4)), Regression())
    torch.testing.assert_close(found["score"], AFTER.square().mean((1, 2)))
    told = summary(found, Regression())
    assert told["metric"] == MEAN_SQUARED_ERROR.as_dict()
    assert not told["others"]  # the loss is the score


def test_distributions_add_likelihood_and_coverage_to_summary_and_table() -> None:
    gaussian = torch.stack([BEFORE, AFTER.exp()], -1)

    class Distributions:
        def adapt(self, support: Examples) -> Predictor:
            return Predictor([lambda x, mask: gaussian])

    y = torch.zeros(4, 6, 3)
    examples = Examples(torch.zeros(4, 6, 1), y)
    found = score(Distributions(), Tasks(examples, examples, torch.arange(4)), Regression())
    told = summary(found, Regression())
    assert told["mean"] == pytest.approx(BEFORE.square().mean().item())
    assert set(told["others"]) == {"log_likelihood", "coverage"}
    assert told["others"]["coverage"]["half_width"] > 0
    assert list(table(found)) == ["index", "score", "loss", "log_likelihood", "coverage"]


class AskedApart:
    """Answers ``AFTER`` to the queries, and to others how sure their first input says it is."""

    transductive = False

    def adapt(self, support: Examples) -> Predictor:
        return Predictor([lambda x, mask: AFTER if x.shape[1] == 6 else x * torch.tensor([1.0, 0.0, 0.0])])


def test_queries_of_no_class_are_scored_apart_and_change_no_other_score() -> None:
    plain = score(AskedApart(), tasks(), Classification())
    for sure, expected in ((0.0, 1.0), (100.0, 0.0)):
        asked = replace(tasks(), outside=torch.full((4, 5, 1), sure))
        found = score(AskedApart(), asked, Classification())
        assert found["rejection"].tolist() == [expected] * 4
        assert all(torch.equal(found[name], plain[name]) for name in plain)
        assert set(found) - set(plain) == {"rejection", "rejection_by_logit"}
        assert summary(found, Classification())["others"]["rejection"]["mean"] == expected
        assert "rejection" in table(found)
    assert found["rejection_by_logit"].tolist() == [0.0] * 4


def test_transductive_learners_have_no_rejection_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries of no class on their own would be another crowd than the queries."""
    monkeypatch.setattr(AskedApart, "transductive", True)
    found = score(AskedApart(), replace(tasks(), outside=torch.zeros(4, 5, 1)), Classification())
    assert found.keys() == score(AskedApart(), tasks(), Classification()).keys()
