"""What is measured equals what the meta-test scores, for every preset."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from metaloop.config.build import build_dataset, build_learner, build_plan
from metaloop.config.folder import conf_dir
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.evaluation.measures import inspect
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.pretrained import Pretrained
from metaloop.learners.learner import Learner
from metaloop.metrics.interval import mean_interval
from metaloop.problems.metric import MEAN_SQUARED_ERROR
from metaloop.training.scores import score
from small_runs import SMALL, described

OF_META_FEATURES = {"meta_tree", "meta_forest", "nearest_datasets", "dataset_embedding"}  # they read no pictures
ACTING = {
    "agent",
    "algorithm_distillation",
    "decision_pretrained",
    "disco103",
    "lpg",
    "pearl",
    "maml_control",
    "promp",
    "rl2",
    "varibad",
}  # they act in environments
PRESETS = sorted({path.stem for path in (conf_dir() / "algorithm").glob("*.yaml")} - OF_META_FEATURES - ACTING)
MAPS = ("model=conv4_maps", "model.filters=4")
ANOMALIES = ("dataset=anomaly_prior", "episode=anomalies", "episode.ways=1", "episode.shots=30", "episode.queries=12")
MORE = {
    "anomaly_transformer": ("model=cells", "algorithm.reader.width=6", *ANOMALIES),
    "background_prototypes": ("model=mlp", *ANOMALIES),
    "deep_sad": ("model=sphere", "model.hidden=[8]", *ANOMALIES),
    "dn4": MAPS,
    "learned_optimizer": ("algorithm.steps=3", "algorithm.meta_gradient.length=2"),
    "mamlpp": ("model.norm=batch",),
    "relation": MAPS,
}
REGRESSION = (*SMALL[:1], "dataset=sinusoid", "episode=regression", "model=tiny", "algorithm/over_tasks=loop")
CPU = torch.device("cpu")


def built(*overrides: str) -> tuple[Learner, Episodes]:
    config = dict(described(*overrides).config)
    dataset, plan = build_dataset(config), build_plan(config)
    learner = build_learner(config, dataset.split("train"), plan.train_spec).eval()
    return learner, Episodes(dataset.split("test"), plan.spec, Stream(plan.eval_seed, "test"))


def inspected(learner: Learner, episodes: Episodes, count: int = 2, steps: int | None = None) -> dict[str, Any]:
    found, _ = inspect(learner, episodes, count, 2, steps, CPU)
    return json.loads(json.dumps(found, allow_nan=False))


def check_against_scores(learner: Learner, episodes: Episodes, count: int = 2) -> dict[str, Any]:
    """Every number of the meta-test's curve, and the score of every episode, is met."""
    tasks = episodes.tasks(torch.arange(count))
    expected = score(learner, tasks, episodes.distribution.problem)
    found = inspected(learner, episodes, count)
    assert found["by_episode"]["all"] == pytest.approx(expected["score"].tolist())
    assert found["points"] == expected["curve_step"][0].tolist()
    for name, curve in (("score", "curve"), ("query_loss", "loss_curve")):
        means = [point["mean"] for point in found[name]]
        assert means == pytest.approx(expected[curve].double().mean(0).tolist(), rel=1e-5)
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_looked_at_and_agrees_with_the_meta_test(preset: str) -> None:
    learner, episodes = built(*SMALL, f"algorithm={preset}", *MORE.get(preset, ()))
    found = check_against_scores(learner, episodes)
    if not isinstance(learner, GradientLearner | Pretrained):  # adapts in one go
        assert found["steps"] is None
        assert "parameters" not in found
        return
    assert found["steps"] == learner.steps_for(1)
    norms = ["norms.0"] if preset in MORE and "model.norm=batch" in MORE[preset] else []
    assert [row["layer"] for row in found["representations"]] == ["layers.0", *norms, "head"]
    assert found["parameters"]
    for row in found["parameters"]:
        assert row["distance"][0]["mean"] == 0
        assert {len(row[name]) for name in ("distance", "relative_distance", "cosine", "gradient_norm")} == {
            len(found["points"])
        }
    assert any(row["distance"][-1]["mean"] > 0 for row in found["parameters"])
    for row in found["representations"]:
        assert row["cka"][0]["mean"] in (None, pytest.approx(1))


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=conv4", "model.filters=4"),
        ("model=conv4", "model.filters=4", "model.norm=support"),
        ("algorithm/adapted=low_rank",),
        ("algorithm.inner_batch=2", "algorithm.eval_steps=23"),
        ("algorithm.proximal=1", "algorithm/head_init=prototypes"),
        ("episode.ways=[2,3]", "episode.shots=[1,3]"),
        ("dataset=words", "model=tiny_bert"),
    ],
    ids=str,
)
def test_other_compositions_agree_with_the_meta_test(overrides: tuple[str, ...]) -> None:
    found = check_against_scores(*built(*SMALL, *overrides))
    assert len(found["points"]) <= 11
    assert found["parts"]["all_minus"]["head"]["mean"] is not None


def test_a_regression_has_errors_and_similarities_but_no_classes() -> None:
    found = check_against_scores(*built(*REGRESSION))
    assert found["metric"] == MEAN_SQUARED_ERROR.as_dict()
    assert not {"classes", "confusion"} & set(found)
    assert found["representations"][0]["cka"][0]["mean"] == pytest.approx(1)
    assert found["parts"]["all"]["mean"] == found["query_loss"][-1]["mean"]


def test_intervals_are_over_episodes_and_differences_paired() -> None:
    learner, episodes = built(*SMALL, "algorithm.eval_steps=3")
    found = inspected(learner, episodes, 6)
    each, parts = {name: np.array(values) for name, values in found["by_episode"].items()}, found["parts"]
    assert found["by_episode"]["index"] == list(range(6))
    for name in ("start", "all", "head", "body"):
        expected = mean_interval(each[name])
        assert (parts[name]["mean"], parts[name]["half_width"]) == pytest.approx((expected.mean, expected.half_width))
        if name != "all":
            gap = mean_interval(each["all"] - each[name])
            assert parts["all_minus"][name]["mean"] == pytest.approx(gap.mean)
            assert parts["all_minus"][name]["half_width"] == pytest.approx(gap.half_width)
    assert parts["minus_start"]["head"]["mean"] == pytest.approx((each["head"] - each["start"]).mean())


def test_a_part_alone_scores_as_a_learner_that_adapts_nothing_else() -> None:
    learner, episodes = built(*SMALL, "algorithm.eval_steps=3", "algorithm.rule.lr=1")
    found = inspected(learner, episodes, 6)
    for part in ("head", "body"):
        alone, _ = built(*SMALL, "algorithm.eval_steps=3", "algorithm.rule.lr=1", f"algorithm/adapted={part}")
        alone.model.load_state_dict(learner.model.state_dict())
        assert inspected(alone, episodes, 6)["by_episode"]["all"] == found["by_episode"][part]
    assert found["by_episode"]["head"] != found["by_episode"]["body"]


def test_the_head_alone_has_no_part_to_hold() -> None:
    found = inspected(*built(*SMALL, "algorithm=anil"))
    assert set(found["parts"]) == {"start", "all", "all_minus", "minus_start"}
    assert found["representations"][0]["cka"][-1]["mean"] == pytest.approx(1)


def test_classes_have_their_names() -> None:
    found = inspected(*built(*SMALL), 6)
    assert {row["class"] for row in found["classes"]} <= {f"test{number}" for number in range(6)}
    queries = sum(row["queries"] for row in found["classes"])
    assert queries == 6 * 3 * 2
    right = sum(row["queries"] * row["mean"] for row in found["classes"]) / queries
    assert right == pytest.approx(found["parts"]["all"]["mean"])


def test_more_steps_are_taken_where_asked_for() -> None:
    learner, episodes = built(*SMALL)
    assert inspected(learner, episodes, steps=4)["points"] == [0, 1, 2, 3, 4]
    prototypes, _ = built(*SMALL, "algorithm=prototypes")
    with pytest.raises(UserError, match="takes no inner steps"):
        inspected(prototypes, episodes, steps=4)


def test_a_learner_that_diverges_is_refused() -> None:
    learner, episodes = built(*SMALL, "algorithm.rule.lr=1e30", "algorithm.eval_steps=9")
    with pytest.raises(UserError, match=r"not finite in 2 of 2 episodes; take fewer --steps"):
        inspected(learner, episodes)
