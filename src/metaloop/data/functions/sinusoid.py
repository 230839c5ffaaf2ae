"""Tasks that are random functions: sinusoids (Finn et al. 2017, section 5.1) and harmonics (Lacoste et al. 2018)."""

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import SPLITS, Dataset, TaskDistribution
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
        noise: standard deviation of what is added to the function at the support and query points, in the unit of y.
    """

    problem = Regression()
    input_shape = (1,)

    def __init__(self, domain: tuple[float, float], noise: float = 0.0) -> None:
        low, high = domain
        if not low < high:
            raise UserError(f"dataset.domain={list(domain)}: needs low < high")
        if not noise >= 0:
            raise UserError(f"dataset.noise={noise}: a standard deviation of at least 0")
        self.domain = (float(low), float(high))
        self.noise = float(noise)

    @abstractmethod
    def at(self, stream: Stream, numbers: Tensor, x: Tensor) -> Tensor:
        """(tasks, points) float64: the noiseless functions of these episodes at ``x`` (tasks, points).

        What it answers at the first points does not depend on the points that follow.
        """

    def check(self, spec: EpisodeSpec) -> None:
        """Regression has no classes, and every point is a new one."""
        if spec.ways != 1:
            raise UserError(f"episode.ways={spec.ways}: regression tasks have no classes; take episode=regression, or ways=1")

    def outputs(self, spec: EpisodeSpec) -> int:
        """One number a point."""
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
        """See :meth:`TaskDistribution.line`; the grid is even over the domain."""
        grid = torch.linspace(*self.domain, _GRID, device=numbers.device)
        return Line(grid, self.true_function(stream, numbers, grid, spec))

    def true_function(self, stream: Stream, numbers: Tensor, x: Tensor, spec: EpisodeSpec) -> Tensor:
        """(tasks, points) the noiseless functions of these episodes, of size ``spec``, at ``x`` (points,), for plots."""
        own = self._points(stream, numbers, spec)
        return self.at(stream, numbers, torch.cat([own, x.expand(len(numbers), -1).double()], 1))[:, own.shape[1] :]

    def _points(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tensor:
        """(tasks, shots + queries) float64: where an episode looks at its function."""
        low, high = self.domain
        return low + (high - low) * stream.uniform(numbers, highest(spec.shots) + spec.queries, "points")

    def to(self, device: torch.device | str) -> Self:
        """Functions are made on the device of the episode numbers; nothing to move."""
        return self


class ParametricFunctions(FunctionDistribution):
    """Functions that a few random numbers describe."""

    @abstractmethod
    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """(tasks, parameters) float64: the functions of these episodes."""

    @abstractmethod
    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(tasks, points) float64: the functions at ``x`` (tasks, points)."""

    def at(self, stream: Stream, numbers: Tensor, x: Tensor) -> Tensor:
        """See :meth:`FunctionDistribution.at`."""
        return self.values(self.parameters(stream, numbers), x)


class Sinusoids(ParametricFunctions):
    """``y = a sin(x - p)``, amplitude a and phase p uniform.

    The paper writes amplitude in [0.1, 5.0], phase in [0, pi], x in [-5, 5]; the authors' code subtracts the phase.
    """

    def __init__(self, amplitude: tuple[float, float], phase: tuple[float, float], domain: tuple[float, float]) -> None:
        super().__init__(domain)
        self.ranges = (tuple(amplitude), tuple(phase))

    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """(tasks, 2): amplitude and phase."""
        u = stream.uniform(numbers, 2, "function")
        return torch.stack([low + (high - low) * u[:, i] for i, (low, high) in enumerate(self.ranges)], -1)

    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See :meth:`ParametricFunctions.values`."""
        return parameters[:, :1] * torch.sin(x - parameters[:, 1:])


class Harmonics(ParametricFunctions):
    """``y = a1 sin(w x + p1) + a2 sin(2 w x + p2)``, the two-harmonic tasks of Lacoste et al. 2018 (section 5.1).

    Amplitudes are standard normal, phases uniform in [0, 2 pi], the frequency uniform over ``frequency``; the paper also
    centres the inputs of each task anew and adds noise, which we leave out so that the true function is known.
    """

    def __init__(self, frequency: tuple[float, float], domain: tuple[float, float]) -> None:
        super().__init__(domain)
        self.frequency = tuple(frequency)

    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """(tasks, 5): frequency, two amplitudes, two phases."""
        low, high = self.frequency
        u = stream.uniform(numbers, 3, "function")
        u = torch.cat([low + (high - low) * u[:, :1], 2 * torch.pi * u[:, 1:]], -1)
        return torch.cat([u[:, :1], stream.normal(numbers, 2, "amplitudes"), u[:, 1:]], -1)

    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See :meth:`ParametricFunctions.values`."""
        w, a1, a2, p1, p2 = parameters[:, :, None].unbind(1)
        return a1 * torch.sin(w * x + p1) + a2 * torch.sin(2 * w * x + p2)


class FunctionDataset(Dataset):
    """The same distribution of functions in every split; the splits' streams differ."""

    def __init__(self, distribution: FunctionDistribution) -> None:
        self.distribution = distribution

    def split(self, name: str) -> TaskDistribution:
        """See :meth:`Dataset.split`."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        return self.distribution
