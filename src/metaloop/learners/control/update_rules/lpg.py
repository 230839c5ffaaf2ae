"""LPG: meta-learning the objective by which agents learn from scratch (Oh et al. 2020)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.control.environments.environment import Environment
from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.inner.execution.over_tasks import Loop, with_gradient
from metaloop.learners.control.policy_gradient.baselines import ReturnBaseline
from metaloop.learners.control.policy_gradient.played import AdvantageEstimator, PlayedEpisodes, gathered
from metaloop.learners.control.update_rules.agents import FreshEmbedding, LinearAgent
from metaloop.learners.control.update_rules.lifetimes import (
    MOST_UPDATES,
    Lifetimes,
    check_lifetimes,
    lifetimes_of,
    predictor_of,
    refuse_unlabelled,
)
from metaloop.learners.control.update_rules.objective import LearnedObjective, LearnedUpdate, Targets
from metaloop.learners.control.update_rules.streams import Streams
from metaloop.learners.learner import Learner, Predictor, Requirements
from metaloop.problems.control import Actions
from metaloop.problems.task_loss import TaskLoss
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks


class LPG(Learner):
    """An objective that is meta-learned: agents that start at random and ascend it should earn much (Oh et al. 2020).

    An outer step lets an agent live in each task of the meta-batch. Its lifetime is cut into windows; after each, the agent
    plays episodes, and their policy gradient is taken through the updates of the window into the meta-network, with entropies
    and sizes of targets as regularizers. The meta-gradient of the step is the mean over windows.

    Args:
        model: embeds observations, without a head; its weights are drawn anew for each agent.
        loss: loss of one task.
        actions: actions of the environments, which must be discrete.
        baseline: predicts the reward that is left, for the outer policy gradient.
        tabular: whether agents are tables, for environments that count their observations.
        predictions: entries of the agents' prediction vectors.
        hidden: units of the meta-network's LSTM.
        embedding: hidden units of its embedding of a prediction.
        rate: learning rate of the agents, above 0.
        updates: updates of a lifetime in meta-training.
        eval_updates: the same in validation and test; None for ``updates``.
        window: updates through which the meta-gradient is taken; a divisor of ``updates``.
        streams: streams that an agent plays at once between two updates.
        episodes: episodes of a stream.
        outer_episodes: episodes after each window, for the outer policy gradient.
        discount: how much a reward counts that comes a step later, in (0, 1].
        prediction_weight: weight of the predictions in the agents' objective.
        entropy: weight of the entropy of the updated policy.
        prediction_entropy: weight of the entropy of its predictions.
        policy_penalty: weight of the squared targets of the policy.
        prediction_penalty: weight of the squared logits of the targets of predictions.
    """

    requires: ClassVar[Requirements] = Requirements(head=False, actions=True)
    curve_over: ClassVar[str] = "update"
    transductive = False

    def __init__(
        self,
        model: nn.Module,
        loss: TaskLoss,
        actions: Actions,
        baseline: ReturnBaseline,
        *,
        tabular: bool,
        predictions: int,
        hidden: int,
        embedding: int,
        rate: float,
        updates: int,
        eval_updates: int | None,
        window: int,
        streams: int,
        episodes: int,
        outer_episodes: int,
        discount: float,
        prediction_weight: float,
        entropy: float,
        prediction_entropy: float,
        policy_penalty: float,
        prediction_penalty: float,
    ) -> None:
        super().__init__()
        check_lifetimes(
            actions, predictions=predictions, hidden=hidden, embedding=embedding, updates=updates, eval_updates=eval_updates,
            window=window, streams=streams, episodes=episodes, outer_episodes=outer_episodes,
        )  # fmt: skip
        _check(rate, discount, updates, window)
        self.model, self.actions = model.requires_grad_(False), actions
        self.objective = LearnedObjective(predictions, hidden, embedding)
        self.agent = LinearAgent(FreshEmbedding(model, tabular), actions.count, predictions)
        self.estimator = AdvantageEstimator(baseline, discount, 1.0, standardize=False)
        self.rate, self.discount, self.prediction_weight = rate, discount, prediction_weight
        self.updates, self.eval_updates, self.window = updates, eval_updates or updates, window
        self.streams, self.episodes, self.outer_episodes = streams, episodes, outer_episodes
        self.entropy, self.prediction_entropy = entropy, prediction_entropy
        self.policy_penalty, self.prediction_penalty = policy_penalty, prediction_penalty
        self.over_tasks = Loop()  # unused: all tasks of a batch take a step at once
        self._meta = dict(self.objective.named_parameters(prefix="objective"))

    def check(self, ways: int) -> None:
        """See :meth:`Learner.check`; there are no classes."""

    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """See :meth:`Learner.adapt`; the queries are episodes of agents after their lifetimes, the answers returns."""
        refuse_unlabelled(unlabelled)
        lifetimes = self.lifetimes(support)
        update = self.update(lifetimes.world.environment)

        def updated(params: Params, streams: Streams) -> Params:
            return update(params, streams, learned=False)[0]

        return predictor_of(lifetimes, self._start(lifetimes), updated, self.eval_updates, lambda params: params)

    def lifetimes(self, support: Examples) -> Lifetimes:
        """The lifetimes in the tasks of a support set."""
        return lifetimes_of(support, self.actions, lambda *x: self.agent.outputs(*x)[0], self.streams, self.episodes)

    def update(self, environment: Environment) -> LearnedUpdate:
        """The update of agents in these environments."""
        return LearnedUpdate(self.objective, self.agent, environment, self.rate, self.discount, self.prediction_weight)

    def _start(self, lifetimes: Lifetimes) -> Params:
        like = next(iter(self._meta.values()))
        start = self.agent.start(lifetimes.world.environment, lifetimes.numbers)
        return {name: value.to(like.dtype) for name, value in start.items()}

    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """See :meth:`Learner.meta_loss`; lets agents live. The loss is minus their return after their lifetimes."""
        lifetimes = self.lifetimes(tasks.support)
        update, params = self.update(lifetimes.world.environment), self._start(lifetimes)
        windows = self.updates // self.window
        gradients = {name: torch.zeros_like(value) for name, value in self._meta.items()}
        for number in range(windows):
            with torch.enable_grad():
                targets = []
                for step in range(number * self.window, (number + 1) * self.window):
                    params, wanted = update(params, lifetimes.play(detached(params), step), learned=True)
                    targets.append(wanted)
                losses = self.losses(update, params, targets, self._played(lifetimes, params, number))
                slopes = torch.autograd.grad(losses.mean() / windows, list(self._meta.values()))
            gradients = {name: gradients[name] + slope for name, slope in zip(gradients, slopes, strict=True)}
            params = detached(params)
        returns = lifetimes.returns(params, lifetimes.world.episodes)
        per_step = -returns.mean(1, keepdim=True)
        return OuterLoss(with_gradient(per_step.mean(), self._meta, gradients), returns, per_step)

    def _played(self, lifetimes: Lifetimes, params: Params, window: int) -> PlayedEpisodes:
        policy = lifetimes.policy(detached(params))
        phase = MOST_UPDATES - 1 - window
        return gathered(lifetimes.world, lifetimes.numbers, policy, phase, self.outer_episodes, self.estimator)

    def losses(self, update: LearnedUpdate, params: Params, targets: list[Targets], played: PlayedEpisodes) -> Tensor:
        """The outer loss of a window (tasks,), whose gradient is the meta-gradient; minus equation 7 of Oh et al. 2020.

        Args:
            update: the update.
            params: of the agents after the window, differentiable in the meta-network.
            targets: of each update of the window.
            played: episodes of the agents after the window.
        """
        assert isinstance(played.x, Tensor)
        assert played.mask is not None
        logits, predictions = self.agent.outputs(params, update.environment, played.x)
        chosen = logits.log_softmax(-1).gather(-1, played.y[..., None])[..., 0]
        bonus = self.entropy * _entropy(logits) + self.prediction_entropy * _entropy(predictions)
        gain = ((chosen * played.advantages + bonus) * played.mask).sum(1) / played.mask.sum(1)
        policy = torch.stack([(wanted.policy**2).mean((1, 2)) for wanted in targets]).mean(0)
        prediction = torch.stack([(wanted.prediction**2).mean((1, 2, 3)) for wanted in targets]).mean(0)
        return -gain + self.policy_penalty * policy + self.prediction_penalty * prediction


def _entropy(logits: Tensor) -> Tensor:
    log_probabilities = logits.log_softmax(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def _check(rate: float, discount: float, updates: int, window: int) -> None:
    if not rate > 0:
        raise UserError(f"algorithm.rate={rate}: above 0")
    if not 0 < discount <= 1:
        raise UserError(f"algorithm.discount={discount}: above 0 and at most 1")
    if updates % window:
        raise UserError(f"algorithm.window={window}: a divisor of algorithm.updates={updates}")
    if updates + updates // window > MOST_UPDATES:
        raise UserError(
            f"algorithm.updates={updates}: with the windows of algorithm.window={window} at most {MOST_UPDATES}, the "
            f"numbers of the random streams of a task"
        )
