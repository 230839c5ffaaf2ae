"""A policy that draws the task from its posterior at the start of each episode (Rakelly et al. 2019, algorithm 2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.control.noise import TrialNoise
from metaloop.control.policies import ControlPolicy, Transition, TrialStart
from metaloop.control.watching import Belief
from metaloop.learners.control.latent.posterior import Posterior
from metaloop.learners.control.pearl.context import ContextEncoder, Factors
from metaloop.learners.control.pearl.soft_actor_critic import SquashedActor
from metaloop.problems.control import Actions


@dataclass
class ContextRecall:
    """What a :class:`ContextPolicy` keeps of a trial.

    Attributes:
        factors: the posterior over the task, given all transitions so far.
        latent: (tasks, latent), the task as it was drawn for this episode.
        step: steps so far.
        horizon: steps of an episode.
        tasks: random numbers of each episode, for the draw.
        noise: random numbers of each step.
    """

    factors: Factors
    latent: Tensor
    step: int
    horizon: int
    tasks: TrialNoise
    noise: TrialNoise


class ContextPolicy(ControlPolicy):
    """Acts in each episode as if a task were true that is drawn from the posterior, or at first from the prior.

    Args:
        encoder: gives the posterior.
        actor: acts by observation and task.
        actions: actions that the networks were made for.
        explore: first episodes of a trial whose task is drawn from the prior.
        largest: the size of an entry of an action that counts as 1.
        reads_next: whether the encoder reads next observations.
        deterministic: whether actions are the means of their distributions, squashed.
    """

    def __init__(
        self,
        encoder: ContextEncoder,
        actor: SquashedActor,
        actions: Actions,
        *,
        explore: int,
        largest: float,
        reads_next: bool,
        deterministic: bool,
    ) -> None:
        self.encoder = encoder
        self.actor = actor
        self.actions = actions
        self.explore = explore
        self.largest = largest
        self.reads_next = reads_next
        self.deterministic = deterministic

    def start(self, trial: TrialStart) -> ContextRecall:
        """See :meth:`ControlPolicy.start`.

        Raises:
            UserError: the environments have other actions than those that the policy was made for.
        """
        trial.check_actions(self.actions)
        count, latent = len(trial.numbers), self.encoder.latent
        like = next(self.actor.parameters())
        return ContextRecall(
            Factors.none(count, latent, like),
            like.new_zeros(count, latent),
            0,
            trial.environment.horizon,
            TrialNoise(trial.numbers, 2 * latent, "task of an episode"),
            TrialNoise(trial.numbers, 2 * self.actions.count, "policy"),
        )

    def act(self, memory: ContextRecall, observation: Tensor) -> Tensor:
        """See :meth:`ControlPolicy.act`."""
        episode, time = divmod(memory.step, memory.horizon)
        if time == 0:
            posterior = memory.factors.posterior if episode >= self.explore else Posterior.prior(memory.latent)
            memory.latent = posterior.drawn(memory.tasks.next())
        x = torch.cat([observation.flatten(1).to(memory.latent), memory.latent], -1)
        uniform = memory.noise.next()
        action = self.actor.moments(x)[0].tanh() if self.deterministic else self.actor.drawn(x, uniform)[0]
        return self.largest * action

    def learn(self, memory: ContextRecall, transition: Transition) -> ContextRecall:
        """See :meth:`ControlPolicy.learn`; the transition is a further factor of the posterior."""
        parts = [transition.observation.flatten(1), transition.actions / self.largest, transition.reward[:, None]]
        if self.reads_next:
            parts.append(transition.after.flatten(1))
        row = torch.cat([part.to(memory.latent) for part in parts], -1)
        memory.factors = memory.factors.times(self.encoder.factors(row[:, None], transition.real[:, None]))
        memory.step += 1
        return memory

    def skip(self, memory: ContextRecall, steps: int) -> bool:
        """See :meth:`ControlPolicy.skip`; steps after the end are no factors."""
        memory.step += steps
        memory.noise.skip(steps)
        return True

    def belief(self, memory: ContextRecall) -> Belief:
        """See :meth:`ControlPolicy.belief`; the posterior over the latent variable."""
        return memory.factors.posterior.belief
