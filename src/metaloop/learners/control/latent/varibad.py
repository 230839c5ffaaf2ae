"""VariBAD: a policy that acts by an approximate posterior over the task (Zintgraf et al. 2020)."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.control.noise import TrialNoise
from metaloop.control.rollouts import Rollouts
from metaloop.errors import UserError
from metaloop.learners.control.latent.belief_policy import BeliefNetwork, BeliefPolicy, TrialEncoder
from metaloop.learners.control.latent.decoder import Decoded, TaskDecoder, divergences, strata
from metaloop.learners.control.latent.likelihoods import Likelihood
from metaloop.learners.control.latent.posterior import Posterior
from metaloop.learners.control.memory_learner import check_settings
from metaloop.learners.control.proximal import ProximalLearner, ProximalSettings
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss


class VariBAD(ProximalLearner):
    """Infers a latent variable of the task from the trial so far, and acts by observation and posterior.

    An encoder with a memory reads actions, rewards and next observations. For every prefix of a trial, a decoder predicts the
    rewards (and perhaps the transitions) of the whole trial, past and future, from a draw of the posterior. Both are trained by
    the evidence lower bound (equations 4 to 8), in which each posterior is held to the one before and the first to a standard
    normal distribution. The policy is trained by PPO, whose gradient does not reach the encoder. docs/control_in_context.md
    says what differs from the paper.

    Args:
        model: the embedding of observations, without a head; the encoder has a copy of its own.
        loss: loss of one task.
        actions: actions of the environments.
        memory: builds the encoder's memory from the width of its ``inputs``.
        likelihood: of rewards.
        latent: entries of the latent variable.
        hidden: widths of the policy's hidden layers.
        decoder: widths of the decoder's hidden layers.
        transitions: deviation with which next observations are decoded; None if they do not differ between tasks.
        bound_weight: weight of the evidence lower bound, in nats a step, against PPO's loss; matters if gradients are clipped.
        divergence_weight: weight of divergences in the bound; the paper has 1, the authors' code 0.1 and less.
        prefixes: prefixes of a trial whose posterior is decoded in an outer step, drawn anew for each task; None for all.
        decoded: steps of a trial that are decoded for each of them; None for all.
        discount, trace, clip, value_weight, entropy, renew, shortest, growing, last_entropy: see :class:`ProximalSettings`.
        deviation: deviation of continuous actions at the start, above 0.
    """

    title: ClassVar[str] = "VariBAD"

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        memory: Callable[..., TrialMemory],
        likelihood: Likelihood,
        *,
        latent: int,
        hidden: Sequence[int],
        decoder: Sequence[int],
        transitions: float | None,
        bound_weight: float,
        divergence_weight: float,
        prefixes: int | None,
        decoded: int | None,
        discount: float,
        trace: float,
        clip: float,
        value_weight: float,
        entropy: float,
        renew: int,
        shortest: int | None = None,
        growing: int = 0,
        last_entropy: float | None = None,
        deviation: float = 1.0,
    ) -> None:
        check_settings(
            latent=(latent, latent >= 1, "at least 1"),
            transitions=(transitions, transitions is None or transitions > 0, "above 0, or null for none"),
            bound_weight=(bound_weight, bound_weight > 0, "above 0"),
            divergence_weight=(divergence_weight, divergence_weight >= 0, "at least 0"),
            prefixes=(prefixes, prefixes is None or prefixes >= 1, "at least 1, or null for all"),
            decoded=(decoded, decoded is None or decoded >= 1, "at least 1, or null for all"),
        )
        if not hidden or min(hidden) < 1:
            raise UserError(f"algorithm.hidden={list(hidden)}: at least one width of at least 1")
        if transitions is not None and next(model.parameters(), None) is not None:
            raise UserError(
                f"algorithm.transitions={transitions}: what is decoded must not be learned, as this model is; take "
                f"model=cells, or algorithm.transitions=null"
            )

        def network(features: int) -> BeliefNetwork:
            encoder = TrialEncoder(model, features, actions, memory, latent)
            decodes = TaskDecoder(latent, features, actions.count, decoder, likelihood, transitions)
            return BeliefNetwork(encoder, decodes, features, actions, latent, hidden, deviation)

        settings = ProximalSettings(discount, trace, clip, value_weight, entropy, renew, shortest, growing, last_entropy)
        super().__init__(model, loss, actions, network, settings)
        self.bound_weight, self.divergence_weight = bound_weight, divergence_weight
        self.prefixes, self.decoded = prefixes, decoded

    def policy_of(self, model: nn.Module, network: nn.Module) -> BeliefPolicy:
        """See :meth:`ProximalLearner.policy_of`."""
        assert isinstance(network, BeliefNetwork)
        return BeliefPolicy(model, network, self.actions)

    def losses(self, rollouts: Rollouts, numbers: Tensor) -> Tensor:
        """See :meth:`ProximalLearner.losses`; the surrogate minus the evidence lower bound."""
        return self.surrogate(rollouts) - self.bound_weight * self.bounds(rollouts, numbers)

    def bounds(self, rollouts: Rollouts, numbers: Tensor) -> Tensor:
        """Return the mean over prefixes of the evidence lower bound (tasks,), divided by the steps of a trial.

        With ``prefixes`` and ``decoded`` the likelihoods are an unbiased estimate.
        """
        network = self.network
        assert isinstance(network, BeliefNetwork)
        posteriors = network.encoder.posteriors(rollouts)
        steps = len(rollouts.rewards)
        chosen = self._places(numbers, steps + 1, self.prefixes, "prefixes")[..., None].expand(
            -1, -1, posteriors.mean.shape[-1]
        )
        drawn_from = Posterior(posteriors.mean.gather(0, chosen), posteriors.log_variance.gather(0, chosen))
        noise = TrialNoise(numbers, 2 * chosen.shape[-1], "posteriors")
        latent = drawn_from.drawn(torch.stack([noise.next() for _ in chosen]))
        places = self._places(numbers, steps, self.decoded, "decoded steps")
        each = network.decoder.log_likelihood(latent, self._history(rollouts).at(places))
        likelihood = (each * rollouts.real.gather(0, places)).mean((0, 1))
        return likelihood - self.divergence_weight * divergences(posteriors).mean(0) / steps

    def _history(self, rollouts: Rollouts) -> Decoded:
        encoder = self.network.encoder
        assert isinstance(encoder, TrialEncoder)
        actions = rollouts.actions if self.actions.continuous else F.one_hot(rollouts.actions, self.actions.count)
        observations, after = encoder.embedded(rollouts.observations), encoder.embedded(rollouts.after)
        return Decoded(observations, actions.to(observations), after, rollouts.rewards.to(observations))

    @staticmethod
    def _places(numbers: Tensor, count: int, chosen: int | None, purpose: str) -> Tensor:
        """Places (chosen, tasks) among ``count`` ones: all of them, or a draw for each task."""
        if chosen is None or chosen >= count:
            return torch.arange(count, device=numbers.device)[:, None].expand(-1, len(numbers))
        return strata(TrialNoise(numbers, chosen, purpose, block=1).next().T, count)
