"""Catch: a ball falls, and a paddle must be under it (Mnih et al. 2014; a task of bsuite, Osband et al. 2020)."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.control.environments.drawings import BALL, PADDLE, Drawing, drawings
from metaloop.control.environments.environment import Environment, Step, at_least
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import Params

_MOVES = (-1, 0, 1)
_MEANINGS = tuple(itertools.permutations(_MOVES))


class Catch(Environment):
    """A ball starts in a random column of the top row and falls by a row a step; the paddle in the bottom row moves.

    The board is that of bsuite: the last step pays 1 if the ball falls onto the paddle, which starts in the middle, and else
    -1. A task says which of the three actions moves the paddle to the left, to the right and not at all, and how the wind blows
    in each row: to the left, to the right or not at all. A ball that the wind blows against a wall stays in its column.

    Args:
        rows: height of the board; an episode has a step for each but the first.
        columns: width of the board.
        wind: probability that there is wind in a row, in [0, 1].
    """

    start_noise = 1

    def __init__(self, rows: int, columns: int, wind: float) -> None:
        at_least({"rows": (rows, 2), "columns": (columns, 2)})
        if not 0 <= wind <= 1:
            raise UserError(f"dataset.environment.wind={wind}: a probability, between 0 and 1")
        super().__init__(Actions(len(_MOVES)), rows - 1, (1, rows, columns), f"catch {rows}x{columns}")
        self.rows, self.columns, self.wind = rows, columns, wind

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``moves`` (tasks, 3) of the actions, and ``wind`` (tasks, rows - 1)."""
        meaning = stream.integers(numbers, 1, "meaning of the actions", len(_MEANINGS))[:, 0]
        uniform = stream.uniform(numbers, self.rows - 1, "wind")
        wind = (uniform < self.wind / 2).long() - (uniform >= 1 - self.wind / 2).long()
        return {"moves": torch.tensor(_MEANINGS, device=numbers.device)[meaning], "wind": wind}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        ball = (noise[:, 0] * self.columns).long()
        return {"row": torch.zeros_like(ball), "ball": ball, "paddle": torch.full_like(ball, self.columns // 2)}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`; the board (tasks, 1, rows, columns) with ones at ball and paddle."""
        ball = F.one_hot(state["row"] * self.columns + state["ball"], self.rows * self.columns)
        paddle = F.one_hot((self.rows - 1) * self.columns + state["paddle"], self.rows * self.columns)
        return torch.maximum(ball, paddle).float().view(-1, *self.input_shape)

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        move = parameters["moves"].gather(1, actions[:, None])[:, 0]
        paddle = (state["paddle"] + move).clamp(0, self.columns - 1)
        drift = parameters["wind"].gather(1, state["row"].clamp(max=self.rows - 2)[:, None])[:, 0]
        ball, row = (state["ball"] + drift).clamp(0, self.columns - 1), (state["row"] + 1).clamp(max=self.rows - 1)
        last = row == self.rows - 1
        reward = torch.where(last, torch.where(ball == paddle, 1.0, -1.0), 0.0)
        return Step({"row": row, "ball": ball, "paddle": paddle}, reward)

    def best_return(self, parameters: Params) -> Tensor:
        """See :meth:`Environment.best_return`; exact, the mean over the columns in which a ball can start."""
        start = torch.arange(self.columns, device=parameters["wind"].device).expand(len(parameters["wind"]), -1)
        landing = self._landing(parameters["wind"], start, torch.zeros_like(start[:, :1]))
        caught = (landing - self.columns // 2).abs() <= self.rows - 1
        return (2 * caught.float() - 1).mean(1)

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """See :meth:`Environment.best_actions`; straight to the column in which the ball lands."""
        landing = self._landing(parameters["wind"], state["ball"][:, None], state["row"][:, None])[:, 0]
        return (parameters["moves"] == (landing - state["paddle"]).sign()[:, None]).long().argmax(1)

    def drawings(self, parameters: Params, state: Params) -> list[Drawing]:
        """See :meth:`Environment.drawings`; a ball that is caught hides the paddle."""
        paddle = (PADDLE, torch.full_like(state["row"], self.rows - 1), state["paddle"])
        return drawings(self.rows, self.columns, [paddle, (BALL, state["row"], state["ball"])])

    def _landing(self, wind: Tensor, ball: Tensor, row: Tensor) -> Tensor:
        """The columns in which balls land, as ``ball`` (tasks, n), from rows (tasks, 1)."""
        for place in range(self.rows - 1):
            blown = (ball + wind[:, place, None]).clamp(0, self.columns - 1)
            ball = torch.where(row <= place, blown, ball)
        return ball
