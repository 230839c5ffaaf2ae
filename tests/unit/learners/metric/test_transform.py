"""What is done to features before they are compared."""

import pytest
import torch

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.learners.metric.comparison import Embedding
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.learners.metric.regime import Regime
from metaloop.learners.metric.transform import Centred, UnitLength
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Tasks

EMBEDDING = Embedding(4, None)


def test_features_are_centred_by_the_mean_of_all_that_was_seen() -> None:
    centred, means, x = Centred(EMBEDDING, normalise=False, momentum=0.2), torch.randn(5, 4), torch.randn(3, 4)
    assert torch.equal(centred(x), x)
    for mean in means:
        centred.observe(mean)
    torch.testing.assert_close(centred(x), x - means.mean(0))
    centred.observe(torch.ones(4))
    torch.testing.assert_close(centred(x), x - (0.8 * means.mean(0) + 0.2))  # from here on the old gives way


def test_lengths_are_one() -> None:
    x = torch.randn(3, 4)
    torch.testing.assert_close(UnitLength()(x), torch.nn.functional.normalize(x))
    centred = Centred(EMBEDDING)
    centred.observe(torch.full((4,), 0.5))
    torch.testing.assert_close(centred(x), torch.nn.functional.normalize(x - 0.5))
    assert not UnitLength()(torch.zeros(1, 4)).any()


@pytest.mark.parametrize("momentum", [0, 1.5])
def test_an_impossible_momentum_is_refused(momentum: float) -> None:
    with pytest.raises(UserError, match=r"algorithm\.transform\.momentum"):
        Centred(EMBEDDING, momentum=momentum)


@pytest.mark.parametrize("over_tasks", [Loop(), Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("steps", [0, None], ids=["episodes", "classification"])
def test_meta_training_and_nothing_else_moves_the_mean(steps: int | None, over_tasks: OverTasks) -> None:
    learner = MetricLearner(MLP((3,), None, [4]), CrossEntropy(), Euclidean(), over_tasks, Centred, Regime(steps), classes=6)
    y, mask = torch.arange(2).repeat(2, 2), torch.tensor([[True] * 4, [True, True, True, False]])
    support, query = (Examples(torch.randn(2, 4, 3), y, mask, 2) for _ in range(2))
    tasks = Tasks(support, query, torch.arange(2), torch.tensor([[0, 1], [4, 2]]))
    learner.eval().meta_loss(tasks)
    learner.adapt(tasks.support)(tasks.query.x, tasks.query.mask)
    assert not learner.transform.mean.any()
    learner.train().meta_loss(tasks)
    seen, real = (support.x, mask) if steps == 0 else (torch.cat([support.x, query.x], 1), torch.cat([mask, mask], 1))
    means = [learner.model(x[r]).mean(0) for x, r in zip(seen, real, strict=True)]
    expected = torch.stack(means).mean(0) if steps == 0 else learner.model(seen[real]).mean(0)
    torch.testing.assert_close(learner.transform.mean, expected.detach())
    assert learner.transform.seen == 1
