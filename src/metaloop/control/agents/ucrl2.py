"""UCRL2, for all tasks of a batch at once: plan with the best of all decision processes that are still plausible."""

import math

import torch
from torch import Tensor

from metaloop.control.agents.tabular import Experience, Planner
from metaloop.errors import UserError


class UCRL2(Planner):
    """Optimism in the face of uncertainty (Jaksch, Ortner and Auer 2010, figure 1).

    Plausible are mean rewards and transition probabilities within a distance of the observed ones. With N visits of an action
    in a state, after t steps in S states with A actions, these are, with the constants of the paper::

        mean reward             scale * 2 * sqrt(7 log(2 S A t / delta) / (2 max(1, N)))
        probabilities, 1-norm   scale * sqrt(14 S log(2 A t / delta) / max(1, N)), and any before the first visit

    It uses no prior. Different from the paper: rewards here have a standard deviation of 1, for which the distance of rewards
    in [0, 1] is doubled; it plans for the steps of an episode, by backward induction in the place of extended value iteration,
    and when an episode begins in the place of when the visits of an action have doubled, as Osband et al. 2013 do.

    Args:
        delta: probability with which the process may be implausible, above 0 and below 1.
        scale: factor of both distances, at least 0; 1 for those of the paper, which are far too large for short trials.
    """

    def __init__(self, delta: float, scale: float) -> None:
        if not 0 < delta < 1:
            raise UserError(f"algorithm.agent.delta={delta}: above 0 and below 1")
        if not scale >= 0:
            raise UserError(f"algorithm.agent.scale={scale}: at least 0")
        self.delta = delta
        self.scale = scale

    def distances(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """The distances within which mean rewards and probabilities are plausible, (tasks, states, actions) each."""
        visits = experience.visits
        _, states, actions = visits.shape
        time = max(1, int(visits[0].sum()))  # all tasks have taken as many steps
        of_rewards = 2 * math.sqrt(3.5 * math.log(2 * states * actions * time / self.delta)) / visits.clamp(min=1).sqrt()
        of_chances = math.sqrt(14 * states * math.log(2 * actions * time / self.delta)) / visits.clamp(min=1).sqrt()
        return self.scale * of_rewards, torch.where(visits > 0, self.scale * of_chances, 2.0)

    def plan(self, experience: Experience) -> list[Tensor]:
        """See :meth:`Planner.plan`; the values are those of the best plausible process."""
        visits = experience.visits.clamp(min=1)
        of_rewards, of_chances = self.distances(experience)
        rewards = experience.paid / visits + of_rewards
        observed = experience.moved / visits[..., None]
        unknown = torch.full_like(observed, 1 / observed.shape[-1])
        chances = torch.where(experience.visits[..., None] > 0, observed, unknown)
        values = [rewards]
        for _ in range(experience.horizon - 1):
            best = values[-1].amax(-1)
            values.append(rewards + (optimistic(chances, of_chances, best) * best[:, None, None]).sum(-1))
        return values


def optimistic(chances: Tensor, distance: Tensor, values: Tensor) -> Tensor:
    """Find the probabilities with the highest mean value within a distance (Jaksch et al. 2010, figure 2).

    The best state gets half of the distance more, which is taken from the worst ones.

    Args:
        chances: (tasks, states, actions, states), probabilities of the next states.
        distance: (tasks, states, actions), in the 1-norm.
        values: (tasks, states) of the next states.
    """
    order = values.argsort(-1, descending=True)[:, None, None].expand_as(chances)
    ordered = chances.gather(-1, order)
    first = (ordered[..., :1] + distance[..., None] / 2).clamp(max=1)
    room = 1 - first  # what is left for the others, which fill it in the order of their values
    before = torch.cat([torch.zeros_like(first), ordered[..., 1:-1].cumsum(-1)], -1)
    others = torch.minimum(ordered[..., 1:], (room - before).clamp(min=0))
    return torch.zeros_like(chances).scatter(-1, order, torch.cat([first, others], -1))
