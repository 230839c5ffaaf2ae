"""Acquisition rules: whose label is worth asking for first, by what earlier tasks showed."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.learner import Learner, TakesSteps
from metaloop.metrics.recommendation import label_entropy
from metaloop.types import Examples

_AT_ONCE = 512  # examples whose gradients are computed together


@dataclass(frozen=True)
class Candidates:
    """Candidates for a question, and the labels that earlier tasks have of them.

    Attributes:
        count: number of candidates.
        examples: labelled examples (examples, ...) of meta-training tasks.
        which: (examples,) int64 in [0, count), the candidate that each example is about.
    """

    count: int
    examples: Examples
    which: Tensor

    @property
    def popularity(self) -> Tensor:
        """Number (count,) of examples of each candidate, float64."""
        return torch.bincount(self.which, minlength=self.count).double()


class Acquisition(ABC):
    """A rule that says how much the label of each candidate would tell about a new task."""

    @abstractmethod
    def values(self, learner: Learner, candidates: Candidates) -> Tensor:
        """Compute the value (count,) of asking for each candidate, float64; ask for the highest first.

        Args:
            learner: the meta-trained learner.
            candidates: the candidates, and what is known of them.

        Raises:
            UserError: the rule cannot be used with this learner.
        """


class Popularity(Acquisition):
    """Number of labels: a new user can say something about what many know."""

    def values(self, learner: Learner, candidates: Candidates) -> Tensor:
        """See :meth:`Acquisition.values`."""
        return candidates.popularity


class PopularityEntropy(Acquisition):
    """Logarithm of the number of labels times their entropy: known by many, and disputed (Rashid et al. 2002)."""

    def values(self, learner: Learner, candidates: Candidates) -> Tensor:
        """See :meth:`Acquisition.values`."""
        entropy = label_entropy(candidates.examples.y[:, 0], candidates.which, candidates.count)
        return candidates.popularity.log1p() * entropy


class GradientNorm(Acquisition):
    """Mean norm of the inner gradient of an example alone, times the number of labels (Lee et al. 2019, section 3.4).

    Both are divided by their highest value. The gradient is that of the support loss with respect to what adapts, at the
    learned start. It is large for what the start predicts badly and for what much depends on. Only for learners that take
    inner steps.
    """

    def values(self, learner: Learner, candidates: Candidates) -> Tensor:
        """See :meth:`Acquisition.values`."""
        if not isinstance(learner, TakesSteps):
            raise UserError(
                f"rule=gradient_norm: {type(learner).__name__} takes no inner steps and has no inner gradient; take "
                f"rule=popularity_entropy or popularity"
            )
        norms, popularity = gradient_norms(learner, candidates.examples), candidates.popularity
        means = torch.zeros(candidates.count, dtype=torch.float64).index_add(0, candidates.which, norms.double())
        means = means / popularity.clamp(min=1)
        return means / means.max().clamp(min=1e-12) * popularity / popularity.max().clamp(min=1)


def gradient_norms(learner: TakesSteps, examples: Examples) -> Tensor:
    """Norm (examples,) of the gradient of each example's support loss with respect to what adapts, at the start."""
    meta, problem = learner.values(), learner.problem

    def norm(one: Examples) -> Tensor:
        single = one.map(lambda tensor: tensor[None])
        start = problem.task.start(meta, single)
        gradients = torch.func.grad(lambda at: problem.inner_loss(meta, at, single, 0))(start)
        return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()

    examples = replace(examples, mask=None, sequence=None, number=None)
    parts = [
        torch.func.vmap(norm)(examples.map(lambda tensor, a=start: tensor[a : a + _AT_ONCE]))  # type: ignore[misc]
        for start in range(0, len(examples.y), _AT_ONCE)
    ]
    return torch.cat(parts).detach()
