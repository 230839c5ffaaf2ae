"""The score above which a row raises an alarm, from the scores of inliers that the learner had not been shown."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from metaloop.data.user.tasks import UserFileDataset, UserTask
from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.types import map_inputs

FOLDS = 5


def alarm_threshold(dataset: UserFileDataset, task: UserTask, learner: Learner, rate: float) -> float:
    """Compute a threshold that a share of at most ``rate`` of new inliers exceeds on average.

    The inliers of the support set are scored in five folds, each by the learner adapted to all other rows (cross-conformal
    prediction, Vovk 2015). The threshold is their ``floor(rate (n + 1))``-th highest score. The rate holds for rows that come
    from where the support's inliers come from; with one fold per row it would be guaranteed up to a factor of two.

    Args:
        dataset: data set that prepares the rows.
        task: the support set.
        learner: the learner before adaptation.
        rate: wanted share of alarms among inliers.

    Raises:
        UserError: the rate is no share, or the support set has too few inliers for it.
    """
    if not 0 < rate < 1:
        raise UserError(f"alarm_rate={rate:g}: a share above 0 and below 1, such as 0.01")
    inliers = int((task.y < 0.5).sum())
    highest = math.floor(rate * (inliers + 1))
    if highest < 1:
        raise UserError(
            f"alarm_rate={rate:g}: with {inliers} inliers in the support set the lowest rate is "
            f"{math.ceil(1e4 / (inliers + 1)) / 1e4:g}; give at least {math.ceil(1 / rate) - 1} inliers, or a higher rate"
        )
    return float(held_out_scores(dataset, task, learner).topk(highest).values[-1])


def held_out_scores(dataset: UserFileDataset, task: UserTask, learner: Learner) -> Tensor:
    """Scores of the support set's inliers (inliers,), in random order, each by a learner that was not shown it."""
    inliers = (task.y[0] < 0.5).nonzero()[:, 0]
    inliers = inliers[torch.randperm(len(inliers), generator=torch.Generator().manual_seed(0))]
    device = next((parameter.device for parameter in learner.parameters()), torch.device("cpu"))
    scores = []
    for fold in range(min(FOLDS, len(inliers))):
        held = inliers[fold::FOLDS]
        shown = torch.ones(task.y.shape[1], dtype=torch.bool)
        shown[held] = False
        part = replace(task, inputs=map_inputs(lambda rows, shown=shown: rows[:, shown], task.inputs), y=task.y[:, shown])  # type: ignore[misc]
        asked = map_inputs(lambda rows, held=held: rows[:, held], task.inputs)  # type: ignore[misc]
        x, query, scale = dataset.user_inputs(part.inputs, part.targets, None, asked)
        predictor = learner.adapt(part.support(x, scale).map(lambda tensor: tensor.to(device)))
        scores.append(predictor(map_inputs(lambda tensor: tensor.to(device), query))[0, :, 0].detach().float().cpu())
    return torch.cat(scores)
