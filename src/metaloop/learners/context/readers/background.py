"""A reader for anomaly scores that compares a query with prototypes of the background and of anomalies."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader

_MASKED = -1e9  # logit of what is not there; infinite ones would make the gradient of the log-sum nan


class BackgroundPrototypes(Reader):
    """Log odds of an anomaly against the background, by squared distances to prototypes.

    The background's prototype is the mean of the inliers (Snell et al. 2017). An anomaly may be of a kind that nobody has
    labelled, so the other side is a mixture: each labelled anomaly is a prototype, and there is one at a learned constant
    distance, as the cluster of distractors of Ren et al. 2018. Squared distances are in units of the inliers' mean squared
    distance to their prototype, so that the score does not depend on the scale of the features.

    Args:
        features: size of a feature vector.
        labels: size of an encoded label: 1, which is 1 for an anomaly.
        outputs: size of an answer: 1.
        distance: squared distance of the constant prototype where it starts, in those units.
        scale: of squared distances where it starts.
    """

    ordered = False

    def __init__(self, features: int, labels: int, outputs: int, distance: float, scale: float) -> None:
        super().__init__()
        for key, value in (("distance", distance), ("scale", scale)):
            if not value > 0:
                raise UserError(f"algorithm.reader.{key}={value}: above 0")
        self.log_distance = nn.Parameter(torch.tensor(float(distance)).log())
        self.log_scale = nn.Parameter(torch.tensor(float(scale)).log())
        self.log_share = nn.Parameter(torch.zeros(()))  # weight of a labelled anomaly, the constant prototype has 1

    def check(self, *, classifies: bool) -> None:
        """See :meth:`Reader.check`."""
        if classifies:
            raise UserError("algorithm/reader=background scores anomalies: take dataset=anomalies, or algorithm=prototypes")

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`; the answers are (queries, 1)."""
        anomalous = real & (labels[:, 0] > 0.5)
        inlier = (real & ~anomalous).to(support.dtype)[:, None]
        count = inlier.sum().clamp(min=1)
        centre = (support * inlier).sum(0) / count
        unit = ((support - centre).square() * inlier).sum().div(count).clamp(min=1e-6)
        scale = self.log_scale.exp()
        background = -scale * (query - centre).square().sum(1, keepdim=True) / unit
        to_anomaly = self.log_share - scale * (query[:, None] - support[None]).square().sum(2) / unit
        to_anomaly = torch.where(anomalous, to_anomaly, _MASKED)
        unknown = (-scale * self.log_distance.exp()).expand(len(query), 1)
        return torch.cat([unknown, to_anomaly], 1).logsumexp(1, keepdim=True) - background
