"""A replay buffer of transitions, task by task, whose contents are in the checkpoint and equal on all ranks."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metaloop.control.rollouts import Rollouts
from metaloop.errors import UserError
from metaloop.learners.control.pearl.soft_actor_critic import Batch

_FIELDS = ("observations", "actions", "rewards", "after", "ended")


class TaskReplay(nn.Module):
    """The last transitions of a number of tasks. Task *i* has the place ``i % places``, where a new task replaces an old one.

    All that it holds are buffers of the module, so that a checkpoint has them and a run that is resumed goes on exactly.

    Args:
        places: number of tasks.
        capacity: transitions of each task that are kept, the latest.
        features: width of an observation.
        count: entries of an action.
    """

    transitions: Tensor
    task: Tensor
    size: Tensor
    written: Tensor
    recent: Tensor
    reward: Tensor

    def __init__(self, places: int, capacity: int, features: int, count: int) -> None:
        super().__init__()
        self.widths = {"observations": features, "actions": count, "rewards": 1, "after": features, "ended": 1}
        self.places, self.capacity = places, capacity
        self.register_buffer("transitions", torch.zeros(places, capacity, sum(self.widths.values())))
        self.register_buffer("task", torch.full((places,), -1))  # number of the task; -1: free
        self.register_buffer("size", torch.zeros(places, dtype=torch.int64))  # transitions that are kept
        self.register_buffer("written", torch.zeros(places, dtype=torch.int64))  # transitions ever written
        self.register_buffer("recent", torch.zeros(places, dtype=torch.int64))  # those of the last trial
        self.register_buffer("reward", torch.zeros(places))  # total reward of the last trial

    def place(self, tasks: Tensor) -> Tensor:
        """Return the places of tasks with these numbers."""
        return tasks % self.places

    def add(self, tasks: Tensor, rollouts: Rollouts, largest: float) -> None:
        """Add the trials of tasks with these numbers, those of all ranks.

        Args:
            tasks: (tasks,) int64, numbers of the tasks.
            rollouts: their trials.
            largest: the size of an entry of an action that counts as 1.

        Raises:
            UserError: a trial has more steps than are kept.
        """
        if len(rollouts.rewards) > self.capacity:
            raise UserError(
                f"algorithm.capacity={self.capacity}: a trial has up to {len(rollouts.rewards)} steps, which must all be kept; "
                f"take at least as many, or fewer episodes (episode.queries)"
            )
        horizon = len(rollouts.rewards) // rollouts.episodes
        last = torch.arange(len(rollouts.rewards), device=tasks.device)[:, None] % horizon == horizon - 1
        parts = {
            "observations": rollouts.observations.flatten(2),
            "actions": rollouts.actions / largest,
            "rewards": rollouts.rewards[..., None],
            "after": rollouts.after.flatten(2),
            "ended": (rollouts.done & ~last)[..., None],
        }
        joined = torch.cat([parts[name].to(self.transitions) for name in _FIELDS], -1)
        for number, steps, real in _of_all_ranks(tasks, joined.transpose(0, 1), rollouts.real.T):
            self._write(int(number), steps[real])

    def _write(self, number: int, steps: Tensor) -> None:
        place, count = number % self.places, len(steps)
        if int(self.task[place]) != number:
            self.task[place], self.size[place], self.written[place] = number, 0, 0
        written = int(self.written[place])
        self.transitions[place, (written + torch.arange(count, device=steps.device)) % self.capacity] = steps
        self.written[place], self.recent[place] = written + count, count
        self.size[place] = min(int(self.size[place]) + count, self.capacity)
        self.reward[place] = self._split(steps)["rewards"].sum()

    def chosen(self, uniform: Tensor) -> Tensor:
        """Choose a place that is in use for each of the uniform numbers (rows,)."""
        used = (self.size > 0).nonzero()[:, 0]
        return used[(uniform.double() * len(used)).long().clamp(max=len(used) - 1)]

    def batch(self, places: Tensor, uniform: Tensor) -> Batch:
        """Draw transitions of places (rows,) by uniform numbers (rows, batch), from all that is kept."""
        size = self.size[places, None]
        return self._at(places, (uniform.double() * size).long().clamp(max=size - 1))

    def context(self, places: Tensor, uniform: Tensor) -> Batch:
        """Draw transitions as :meth:`batch`, from the last trial of each place."""
        recent = self.recent[places, None]
        back = (uniform.double() * recent).long().clamp(max=recent - 1)
        return self._at(places, (self.written[places, None] - 1 - back) % self.capacity)

    def _at(self, places: Tensor, entries: Tensor) -> Batch:
        parts = self._split(self.transitions[places[:, None], entries])
        return Batch(**{name: value[..., 0] if name in ("rewards", "ended") else value for name, value in parts.items()})

    def _split(self, steps: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(_FIELDS, torch.split(steps, list(self.widths.values()), -1), strict=True))


def _of_all_ranks(*values: Tensor) -> list[tuple[Tensor, ...]]:
    """The rows of tensors (tasks, ...) of all ranks, in the order of the meta-batch."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return list(zip(*values, strict=True))
    shares: list[list[Tensor]] = [[]] * dist.get_world_size()
    dist.all_gather_object(shares, [value.cpu() for value in values])
    device = values[0].device
    return [tuple(row.to(device) for row in rows) for share in shares for rows in zip(*share, strict=True)]
