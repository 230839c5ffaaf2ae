"""The contract of metric learners, beyond that of all learners."""

import pytest
import torch
from made_tasks import along, central_difference, distance, made_model, made_tasks, meta_gradient, random_direction
from members import COMPARISONS, METRIC, OF_MAPS

from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.metric.metric_learner import MetricLearner

every_metric = pytest.mark.parametrize("name", METRIC)


def model_of(name: str) -> str:
    return "conv4, maps" if name in OF_MAPS else "mlp"


def made(name: str, over_tasks: OverTasks | None = None, *, norm: str = "support") -> MetricLearner:
    return METRIC[name](made_model(model_of(name), norm=norm, outputs=None), over_tasks or Loop())


@every_metric
def test_meta_gradients_with_padding_equal_finite_differences(name: str) -> None:
    tasks, learner = made_tasks(model_of(name), masked=True), made(name).eval()
    parameters = dict(learner.named_parameters())
    _, gradient = meta_gradient(learner, tasks)
    direction = random_direction(parameters, seed=1)

    def value() -> float:
        with torch.no_grad():
            return learner.meta_loss(tasks).loss.item()

    found = [central_difference(value, parameters, direction, size) for size in (1e-5, 1e-6, 1e-7)]
    expected = along(gradient, direction)
    assert min(abs(each - expected) for each in found) < 1e-6 * abs(expected), (found, expected)


@pytest.mark.parametrize("name", sorted(METRIC.keys() - COMPARISONS))  # test_public_contracts.py has the others
def test_other_ways_and_shots_can_be_tested_than_were_trained(name: str) -> None:
    learner, tasks = made(name), made_tasks(model_of(name), shots=3)
    learner.meta_loss(tasks).loss.backward()
    two = tasks.map(lambda t: t)
    support = two.support.map(lambda t: t[:, :4])  # three of the first class, one of the second
    support = type(support)(support.x, support.y, None, 2, support.number)
    assert learner.adapt(support)(tasks.query.x).shape == (3, 6, 2)


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
def test_a_regime_changes_at_its_step(over_tasks: OverTasks) -> None:
    """Before this step, the loss is the classifier's; from then on, that of a purely episodic learner."""
    tasks, learner = made_tasks("mlp"), made("meta-baseline", over_tasks)
    episodic = made("prototypes, cosine", over_tasks)
    shared = {n: v for n, v in learner.state_dict().items() if isinstance(v, torch.Tensor) and "head" not in n}
    episodic.load_state_dict(shared, strict=False)
    losses, gradients = [], []
    for learner.outer_step in (0, 4, 5, 6):
        loss, gradient = meta_gradient(learner, tasks)
        losses.append(loss)
        gradients.append(gradient)
    expected, gradient = meta_gradient(episodic, tasks)
    assert losses[0] == losses[1] != losses[2] == losses[3] == expected
    heads = {n for n in gradients[0] if "classes_head" in n}
    assert all(gradients[1][n].any() and not gradients[2][n].any() for n in heads)
    assert distance({n: g for n, g in gradients[2].items() if n not in heads}, gradient) == 0


def test_classification_is_cross_entropy_over_all_training_classes() -> None:
    tasks, learner = made_tasks("mlp"), made("simpleshot", norm="none")
    assert learner.classes_head is not None
    assert tasks.classes is not None
    losses = []
    for i, classes in enumerate(tasks.classes):
        x, y = torch.cat([tasks.support.x[i], tasks.query.x[i]]), torch.cat([tasks.support.y[i], tasks.query.y[i]])
        losses.append(torch.nn.functional.cross_entropy(learner.classes_head(learner.model(x)), classes[y]))
    torch.testing.assert_close(learner.meta_loss(tasks).loss, torch.stack(losses).mean())
