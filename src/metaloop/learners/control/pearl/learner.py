"""PEARL: soft actor-critic with a latent variable of the task, inferred from a context (Rakelly et al. 2019)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.control.noise import TrialNoise
from metaloop.control.rollouts import play
from metaloop.errors import UserError
from metaloop.learners.control.latent.posterior import Posterior
from metaloop.learners.control.memory_learner import MemoryLearner, check_settings
from metaloop.learners.control.pearl.context import ContextEncoder
from metaloop.learners.control.pearl.context_policy import ContextPolicy
from metaloop.learners.control.pearl.replay_buffer import TaskReplay
from metaloop.learners.control.pearl.soft_actor_critic import Batch, SoftActorCritic
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.learners.gradient.gradient_task import check_counts
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import OuterLoss, Tasks


class PEARL(MemoryLearner):
    """Learns off policy, from a replay buffer of tasks, to act in a task that is drawn from a posterior.

    The encoder answers a normal factor for each transition of a context; their product, in any order, is the posterior. Actor
    and critics read a draw of it. In the first of ``passes`` outer steps, the tasks of the meta-batch are played for a trial,
    as at test, which goes into the buffer. Every outer step takes one gradient step: for as many tasks as the meta-batch has,
    drawn from the buffer, the context comes from the task's last trial and the batch from all that is kept of it. The critics'
    loss and the divergence from the prior train the encoder. docs/control_in_context.md says what differs from the paper.

    Args:
        model: passes observations on as they are.
        loss: loss of one task.
        actions: actions of the environments, which must be continuous.
        latent: entries of the latent variable.
        hidden: widths of the hidden layers of actor and critics.
        encoder: widths of the hidden layers of the encoder.
        next_observation: whether the encoder reads next observations, for tasks that differ in their dynamics.
        explore: first episodes of a trial whose task is drawn from the prior.
        places: tasks that the buffer has room for.
        capacity: transitions of each task that are kept.
        passes: outer steps for each meta-batch that is played.
        context: transitions of a context, drawn from a task's last trial.
        batch: transitions of a task in an outer step.
        discount: how much a reward counts that comes a step later, in (0, 1].
        follow: share of the critics that goes into their targets after each step, in (0, 1].
        temperature: worth of a nat of entropy at the start, in rewards times ``reward_scale``.
        entropy: nats for each entry of an action at which the temperature holds the policy; None to leave it as it is.
        divergence_weight: weight of the posterior's divergence from the prior.
        reward_scale: factor of the rewards for actor and critics.
        largest: the largest size of an entry of an action.
        deterministic: whether validation and test take the means of actions.
    """

    title: ClassVar[str] = "PEARL"

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        *,
        latent: int,
        hidden: Sequence[int],
        encoder: Sequence[int],
        next_observation: bool,
        explore: int,
        places: int,
        capacity: int,
        passes: int,
        context: int,
        batch: int,
        discount: float,
        follow: float,
        temperature: float,
        entropy: float | None,
        divergence_weight: float,
        reward_scale: float,
        largest: float,
        deterministic: bool,
    ) -> None:
        check_counts(
            latent=latent, explore=explore, places=places, capacity=capacity, passes=passes, context=context, batch=batch
        )
        check_settings(
            discount=(discount, 0 < discount <= 1, "above 0 and at most 1"),
            follow=(follow, 0 < follow <= 1, "above 0 and at most 1"),
            temperature=(temperature, temperature > 0, "above 0"),
            divergence_weight=(divergence_weight, divergence_weight >= 0, "at least 0"),
            reward_scale=(reward_scale, reward_scale > 0, "above 0"),
            largest=(largest, largest > 0, "above 0"),
        )
        for key, widths in {"hidden": hidden, "encoder": encoder}.items():
            if not widths or min(widths) < 1:
                raise UserError(f"algorithm.{key}={list(widths)}: at least one width of at least 1")
        if not actions.continuous:
            raise UserError(
                "algorithm=pearl: soft actor-critic takes actions that are vectors of numbers, but those of this data set are "
                "discrete; take algorithm=varibad or rl2"
            )
        if next(model.parameters(), None) is not None:
            raise UserError("model: PEARL's networks read observations themselves, which the buffer keeps; take model=cells")
        super().__init__(model, loss, actions)
        count, features = actions.count, self.features
        inputs = features * (2 if next_observation else 1) + count + 1
        self.encoder = ContextEncoder(inputs, latent, encoder)
        self.sac = SoftActorCritic(
            features,
            latent,
            count,
            hidden,
            temperature=temperature,
            entropy=None if entropy is None else entropy * count,
            discount=discount,
            follow=follow,
        )
        self.replay = TaskReplay(places, capacity, features, count)
        self.passes, self.explore, self.largest, self.deterministic = passes, explore, largest, deterministic
        self.context, self.batch, self.next_observation = context, batch, next_observation
        self.divergence_weight, self.reward_scale = divergence_weight, reward_scale

    def policy(self) -> ContextPolicy:
        """See :meth:`MemoryLearner.policy`; that of validation and test."""
        return self._policy(self.deterministic)

    def _policy(self, deterministic: bool) -> ContextPolicy:
        return ContextPolicy(
            self.encoder,
            self.sac.actor,
            self.actions,
            explore=self.explore,
            largest=self.largest,
            reads_next=self.next_observation,
            deterministic=deterministic,
        )

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; the returns are those of the tasks' last trials, the same for all episodes of one."""
        world, numbers = world_of(tasks.support), numbers_of(tasks.support)
        assert world.number is not None
        if self.outer_step:
            self.sac.move_targets()
        if self.outer_step % self.passes == 0:
            with torch.no_grad():
                self.replay.add(world.number, play(world, numbers, self._policy(deterministic=False)), self.largest)
        losses = self.losses(numbers)
        returns = self.replay.reward[self.replay.place(world.number)] / world.episodes
        return OuterLoss(losses.mean(), returns[:, None].expand(-1, world.episodes), losses.detach()[:, None])

    def losses(self, numbers: Tensor) -> Tensor:
        """Return the loss of each task drawn from the buffer (tasks,), as many as numbers, which give the randomness."""
        latent, count = self.encoder.latent, self.actions.count
        place = self.replay.chosen(self._uniform(numbers, 1, "task")[:, 0])
        context = self.replay.context(place, self._uniform(numbers, self.context, "context"))
        posterior = self.encoder.factors(self._read(context), torch.ones_like(context.rewards)).posterior
        drawn = posterior.drawn(self._uniform(numbers, 2 * latent, "posterior"))
        batch = self.replay.batch(place, self._uniform(numbers, self.batch, "batch"))
        scaled = Batch(batch.observations, batch.actions, self.reward_scale * batch.rewards, batch.after, batch.ended)
        words = 2 * count * self.batch
        uniform = [self._uniform(numbers, words, f"actions {when}").view(len(place), self.batch, -1) for when in range(2)]
        losses = self.sac.losses(scaled, drawn[:, None].expand(-1, self.batch, -1), (uniform[0], uniform[1]))
        divergence = posterior.divergence(Posterior.prior(posterior.mean))
        return torch.stack([*losses.values()]).sum(0) + self.divergence_weight * divergence

    def _read(self, batch: Batch) -> Tensor:
        """What the encoder reads of transitions."""
        parts = [batch.observations, batch.actions, batch.rewards[..., None]]
        return torch.cat([*parts, batch.after] if self.next_observation else parts, -1)

    def _uniform(self, numbers: Tensor, words: int, purpose: str) -> Tensor:
        """Uniform numbers (tasks, words) of this outer step: passes over one meta-batch have different ones."""
        return TrialNoise(numbers, words, f"{purpose} of pass {self.outer_step % self.passes},", block=1).next()
