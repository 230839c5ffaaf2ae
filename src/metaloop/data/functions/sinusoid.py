"""Tasks that are random functions: sinusoids (Finn et al. 2017, section 5.1) and harmonics (Lacoste et al. 2018)."""

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import Dataset, TaskDistribution, check_split
from metaloop.data.philox import Stream
from metaloop.data.pool import episode_masks
from metaloop.errors import UserError
from metaloop.problems.problem import Line
from metaloop.problems.regression import Regression
from metaloop.types import EpisodeSpec, Examples, Tasks, highest

_GRID = 200  # points of a function in a picture


class FunctionDistribution(TaskDistribution):
    """Tasks that are random functions of one variable; support and query points are uniform over ``domain``.

    Args:
        domain: (low, high) of x.
        noise: standard deviation of the noise at the support and query points, in the unit of y.
    """

    problem = Regression()
    input_shape = (1,)

    def __init__(self, domain: tuple[float, float], noise: float = 0.0) -> None:
        low, high = domain
        if not low < high:
            raise UserError(f"dataset.domain={list(domain)} must satisfy low < high")
        if not noise >= 0:
            raise UserError(f"dataset.noise={noise} must be a standard deviation of at least 0")
        self.domain = (float(low), float(high))
        self.noise = float(noise)

    @abstractmethod
    def at(self, stream: Stream, numbers: Tensor, x: Tensor) -> Tensor:
        """Noiseless function values (tasks, points) float64 of these episodes at ``x`` (tasks, points).

        The values at the first points must not depend on the points that follow.
        """

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError unless ways is 1."""
        if spec.ways != 1:
            raise UserError(f"{spec.said('ways')}: a regression task has no classes; use episode=regression or ways=1")

    def outputs(self, spec: EpisodeSpec) -> int:
        """One number for each point."""
        return 1

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`; x and y are float32 (tasks, points, 1)."""
        shots = highest(spec.shots)
        x = self._points(stream, numbers, spec)
        y = self.at(stream, numbers, x)
        if self.noise:
            y = y + self.noise * stream.normal(numbers, x.shape[1], "noise")
        x, y = x[..., None].float(), y[..., None].float()
        support_mask, query_mask = episode_masks(stream, numbers, spec)
        support, query = Examples(x[:, :shots], y[:, :shots], support_mask), Examples(x[:, shots:], y[:, shots:], query_mask)
        return Tasks(support, query, numbers)

    def line(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Line:
        """See :meth:`TaskDistribution.line`. The grid is even over the domain."""
        grid = torch.linspace(*self.domain, _GRID, device=numbers.device)
        return Line(grid, self.true_function(stream, numbers, grid, spec))

    def true_function(self, stream: Stream, numbers: Tensor, x: Tensor, spec: EpisodeSpec) -> Tensor:
        """Noiseless function values (tasks, points) of these episodes of size ``spec`` at ``x`` (points,), for plots."""
        drawn = self._points(stream, numbers, spec)
        return self.at(stream, numbers, torch.cat([drawn, x.expand(len(numbers), -1).double()], 1))[:, drawn.shape[1] :]

    def _points(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tensor:
        """The support and query points (tasks, shots + queries) of each episode, float64."""
        low, high = self.domain
        return low + (high - low) * stream.uniform(numbers, highest(spec.shots) + spec.queries, "points")

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution: functions are created on the device of the episode numbers."""
        return self


class ParametricFunctions(FunctionDistribution):
    """Functions given by a few random parameters."""

    @abstractmethod
    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """Parameters (tasks, parameters) float64 of the functions of these episodes."""

    @abstractmethod
    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Function values (tasks, points) float64 at ``x`` (tasks, points)."""

    def at(self, stream: Stream, numbers: Tensor, x: Tensor) -> Tensor:
        """See :meth:`FunctionDistribution.at`."""
        return self.values(self.parameters(stream, numbers), x)


class Sinusoids(ParametricFunctions):
    """Sinusoids ``y = a sin(w x - p)`` with uniform amplitude a, frequency w and phase p.

    Finn et al. have amplitudes in [0.1, 5.0], phases in [0, pi], x in [-5, 5] and the frequency 1; Li et al. 2017 (Meta-SGD)
    have frequencies in [0.8, 1.2]. The code of Finn et al. subtracts the phase.

    Args:
        amplitude: (low, high), in the unit of y.
        phase: (low, high), in radians.
        domain: (low, high) of x.
        frequency: (low, high), in radians per unit of x.
    """

    def __init__(
        self,
        amplitude: tuple[float, float],
        phase: tuple[float, float],
        domain: tuple[float, float],
        frequency: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__(domain)
        self.ranges = (tuple(amplitude), tuple(phase))
        self.frequency = tuple(frequency)

    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """Amplitude, phase and frequency (tasks, 3)."""
        u = stream.uniform(numbers, 2, "function")
        u = torch.cat([u, stream.uniform(numbers, 1, "frequency")], -1)  # apart, so that the other two do not depend on it
        return torch.stack([low + (high - low) * u[:, i] for i, (low, high) in enumerate((*self.ranges, self.frequency))], -1)

    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See :meth:`ParametricFunctions.values`."""
        amplitude, phase, frequency = parameters[:, :, None].unbind(1)
        return amplitude * torch.sin(frequency * x - phase)


class Harmonics(ParametricFunctions):
    """Sums of two harmonics ``y = a1 sin(w x + p1) + a2 sin(2 w x + p2)`` (Lacoste et al. 2018, section 5.1).

    Amplitudes are standard normal and phases uniform in [0, 2 pi]. Deviation from the paper: it also centres the inputs of
    each task and adds noise, which we leave out so that the true function is known.

    Args:
        frequency: (low, high) of w, drawn uniformly.
        domain: (low, high) of x.
    """

    def __init__(self, frequency: tuple[float, float], domain: tuple[float, float]) -> None:
        super().__init__(domain)
        self.frequency = tuple(frequency)

    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """Frequency, two amplitudes and two phases (tasks, 5)."""
        low, high = self.frequency
        u = stream.uniform(numbers, 3, "function")
        u = torch.cat([low + (high - low) * u[:, :1], 2 * torch.pi * u[:, 1:]], -1)
        return torch.cat([u[:, :1], stream.normal(numbers, 2, "amplitudes"), u[:, 1:]], -1)

    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See :meth:`ParametricFunctions.values`."""
        w, a1, a2, p1, p2 = parameters[:, :, None].unbind(1)
        return a1 * torch.sin(w * x + p1) + a2 * torch.sin(2 * w * x + p2)


class FunctionDataset(Dataset):
    """The same distribution of functions in every split; each split has its own random stream."""

    def __init__(self, distribution: FunctionDistribution) -> None:
        self.distribution = distribution

    def split(self, name: str) -> TaskDistribution:
        """See :meth:`Dataset.split`."""
        check_split(name)
        return self.distribution
