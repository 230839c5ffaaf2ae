"""Proposals of a search from finished sweeps on other data sets: a portfolio first, then a meta-learned surrogate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metaloop.learners.selection.policy import greedy_portfolio
from metaloop.sweeps.search.finished_sweeps import FinishedSweep, Params, encoded
from metaloop.sweeps.search.search import Parameter
from metaloop.sweeps.search.sweep_process import SweepProcess

PORTFOLIO, PROCESS = "portfolio", "process"  # where a proposal comes from
_PORTFOLIO = 5  # most settings of the portfolio
_LENGTH, _NOISE = 0.2, 0.1  # of the smoother: in units of the encoded space, and variance of scores
_RANDOM = 256  # random settings among which the surrogate chooses
_STEPS = 600  # training of the surrogate
_ENOUGH = 3  # finished trials that the surrogate needs


class WarmStart:
    """Proposals from finished sweeps.

    The first trials are a portfolio: settings of which, greedily chosen, the best does well on all finished sweeps. A sweep
    has not tried the others' settings, so their scores there are filled in by a Gaussian process. Then every second trial is
    the setting with the highest expected improvement (Jones et al. 1998) by a neural process that was meta-learned on the
    sweeps; the others come from the search's sampler, which corrects it where the new data set is different.

    Args:
        sweeps: at least one finished sweep.
        space: parameters by key.
        seed: of all random draws.
    """

    def __init__(self, sweeps: Sequence[FinishedSweep], space: Mapping[str, Parameter], seed: int) -> None:
        self.space, self.seed = space, seed
        self.sweeps = list(sweeps)
        self.portfolio = _portfolio(self.sweeps, space)
        self._process: SweepProcess | None = None

    def propose(self, number: int, tried: Sequence[Params], scores: Sequence[float | None]) -> tuple[Params, str] | None:
        """Propose a setting.

        Args:
            number: of the new trial; the proposal depends on it and the other arguments alone.
            tried: settings of the earlier trials.
            scores: their scores, higher is better; None for trials that have not ended or have failed.

        Returns:
            The setting and where it comes from; None to leave the trial to the sampler.
        """
        for params in self.portfolio:
            if params not in tried:
                return params, PORTFOLIO
        done = [(params, score) for params, score in zip(tried, scores, strict=True) if score is not None]
        if len(done) < _ENOUGH or number % 2:
            return None
        return self._improvement(number, tried, *zip(*done, strict=True)), PROCESS

    def _improvement(self, number: int, tried: Sequence[Params], done: Sequence[Params], scores: Sequence[float]) -> Params:
        """The setting with the highest expected improvement."""
        if self._process is None:
            data = [(encoded(each.params, self.space), each.scores) for each in self.sweeps]
            self._process = SweepProcess(data, self.seed, _STEPS)
        random = np.random.default_rng([self.seed, number])
        candidates: list[Params] = [_random(self.space, random) for _ in range(_RANDOM)]
        candidates += [params for sweep in self.sweeps for params in sweep.params if params not in tried]
        y = np.array(scores)
        mean, deviation = self._process.predict(encoded(done, self.space), y, encoded(candidates, self.space))
        return candidates[int(expected_improvement(mean, deviation, float(y.max())).argmax())]


def expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Expected improvement over ``best`` of normal scores with these means and standard deviations."""
    z = (mean - best) / deviation
    below = 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    return np.asarray((mean - best) * below + deviation * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))


def _portfolio(sweeps: Sequence[FinishedSweep], space: Mapping[str, Parameter]) -> list[Params]:
    """At most five settings in the order in which they should be tried."""
    candidates = [params for sweep in sweeps for params in sweep.params]
    x = encoded(candidates, space)
    table = np.stack([_filled_in(encoded(sweep.params, space), sweep.scores, x) for sweep in sweeps])
    return [candidates[column] for column in greedy_portfolio(table, 1.0)[:_PORTFOLIO]]


def _filled_in(x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Mean (n,) of a Gaussian process with a squared-exponential kernel and unit variance, given scores at ``x``."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * _LENGTH**2)))

    return np.asarray(kernel(queries, x) @ np.linalg.solve(kernel(x, x) + _NOISE * np.eye(len(x)), y))


def _random(space: Mapping[str, Parameter], random: np.random.Generator) -> dict[str, Any]:
    """A setting drawn uniformly, on the scale of each parameter."""
    params: dict[str, Any] = {}
    for key, one in space.items():
        if one.kind == "choice":
            params[key] = one.choices[int(random.integers(len(one.choices)))]
            continue
        u = random.random()
        value = one.low * (one.high / one.low) ** u if one.log else one.low + u * (one.high - one.low)
        if one.kind == "int":
            step = int(one.step or 1)
            value = min(one.low + step * round((value - one.low) / step), one.high - (one.high - one.low) % step)
        elif one.step:
            value = min(one.low + one.step * round((value - one.low) / one.step), one.high)
        params[key] = int(value) if one.kind == "int" else float(value)
    return params
