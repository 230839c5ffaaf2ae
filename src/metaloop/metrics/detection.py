"""Scores of anomaly detection in one episode: how well anomaly scores put anomalies before inliers."""

import torch
from torch import Tensor


def average_precision(scores: Tensor, anomalous: Tensor) -> Tensor:
    """Compute the average precision: the mean precision at the rank of each anomaly, with equal scores as one rank.

    It is scikit-learn's ``average_precision_score``: the sum over distinct thresholds of precision times the gain in recall.

    Args:
        scores: (rows,), higher for anomalies.
        anomalous: (rows,) bool.

    Returns:
        Scalar in [0, 1]; 0 without an anomaly. The share of anomalies is chance level.
    """
    order = scores.argsort(descending=True)
    ranked, hits = scores[order], anomalous[order].to(torch.float64).cumsum(0)
    last_of_equals = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool, device=scores.device)])
    alarms = torch.arange(1, len(scores) + 1, device=scores.device)[last_of_equals]
    hits = hits[last_of_equals]
    gain = torch.diff(hits, prepend=hits.new_zeros(1)) / anomalous.sum().clamp(min=1)
    return (hits / alarms * gain).sum()


def recall_at_alarms(scores: Tensor, anomalous: Tensor, rate: float) -> Tensor:
    """Compute the share of the anomalies among the alarms, which are the rows with the highest scores.

    Of rows with equal scores at the threshold, as many as are left raise an alarm, at random; this is the expected recall.

    Args:
        scores: (rows,), higher for anomalies.
        anomalous: (rows,) bool.
        rate: share of the rows that raise an alarm, rounded to at least one row.

    Returns:
        Scalar in [0, 1]; 0 without an anomaly. With more anomalies than alarms it cannot reach 1.
    """
    alarms = max(1, round(rate * len(scores)))
    threshold = scores.topk(min(alarms, len(scores))).values[-1]
    above, equal = scores > threshold, scores == threshold
    share = (alarms - above.sum()) / equal.sum()
    hits = (anomalous & above).sum() + share * (anomalous & equal).sum()
    return hits.double() / anomalous.sum().clamp(min=1)
