"""Proposals of a search from finished sweeps on other data sets: a portfolio first, then a meta-learned surrogate."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from metaloop.learners.selection.policy import greedy_portfolio
from metaloop.sweeps.search.finished_sweeps import FinishedSweep, Params, drawn, encoded, normal_scores
from metaloop.sweeps.search.search import Parameter
from metaloop.sweeps.search.sweep_process import SweepProcess

PORTFOLIO, PROCESS = "portfolio", "process"  # where a proposal comes from
_PORTFOLIO = 5  # most settings of the portfolio
_LENGTH, _NOISE = 0.2, 0.1  # of the smoother: per root of the encoded dimensions, and variance of scores
_RANDOM, _BEST = 128, 3  # random settings among which the surrogate chooses, uniform ones and near each of the best
_TURN = 3  # every third trial is the sampler's
_STEPS = 600  # training of the surrogate
_ENOUGH = 3  # finished trials that the surrogate needs


class WarmStart:
    """Proposals from finished sweeps.

    The first trials are a portfolio: settings of which, greedily chosen, the best does well on all finished sweeps. A sweep
    has not tried the others' settings, so their scores there are filled in by a Gaussian process. Further trials are settings
    with the highest expected improvement (Jones et al. 1998) by a neural process that was meta-learned on these sweeps. Every
    third one comes from the search's sampler, which does not depend on what was learned.

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
        if len(done) < _ENOUGH or number % _TURN == 0:
            return None
        return self._improvement(number, tried, *zip(*done, strict=True)), PROCESS

    def _improvement(self, number: int, tried: Sequence[Params], done: Sequence[Params], scores: Sequence[float]) -> Params:
        """The setting with the highest expected improvement, of random ones and those of finished sweeps."""
        if self._process is None:
            data = [(encoded(each.params, self.space), each.scores) for each in self.sweeps]
            self._process = SweepProcess(data, self.seed, _STEPS)
        random = np.random.default_rng([self.seed, number])
        best = [done[place] for place in np.argsort(scores)[::-1][:_BEST]]
        candidates = [drawn(self.space, random, near) for near in (*best, None) for _ in range(_RANDOM)]
        candidates += [params for sweep in self.sweeps for params in sweep.params if params not in tried]
        y = normal_scores(np.array(scores))
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
        return np.asarray(np.exp(-((a[:, None] - b[None]) ** 2).mean(-1) / (2 * _LENGTH**2)))

    return np.asarray(kernel(queries, x) @ np.linalg.solve(kernel(x, x) + _NOISE * np.eye(len(x)), y))
