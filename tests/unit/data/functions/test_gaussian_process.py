"""Functions from Gaussian processes against scikit-learn, and the posterior of the process that drew them."""

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, ExpSineSquared, Kernel, Matern

from metaloop.data.episodes import Episodes
from metaloop.data.functions.gaussian_process import KERNELS, GaussianProcesses
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.metrics.regression import episode_scores
from metaloop.types import EpisodeSpec

STREAM, NUMBERS = Stream(0, "train"), torch.arange(4000)
SPEC = EpisodeSpec(1, (3, 12), 10)


def processes(*kernels: str, noise: float = 0.1) -> GaussianProcesses:
    return GaussianProcesses(kernels or tuple(KERNELS), (0.5, 0.9), (0.4, 1.2), (1.0, 2.0), (-2.0, 2.0), noise)


def scikit_learns(name: str, scale: float, amplitude: float, period: float) -> Kernel:
    return (
        ConstantKernel(amplitude**2, "fixed")
        * {
            "rbf": RBF(scale, "fixed"),
            "matern32": Matern(scale, "fixed", nu=1.5),
            "matern52": Matern(scale, "fixed", nu=2.5),
            "periodic": ExpSineSquared(scale, period, "fixed", "fixed"),
        }[name]
    )


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_and_posterior_are_scikit_learns(name: str) -> None:
    functions = processes(name)
    tasks = functions.draw(STREAM, NUMBERS[:5], SPEC)
    found = functions.posterior(STREAM, tasks)
    settings = [part[:, 0, 0].tolist() for part in functions._hyperparameters(STREAM, NUMBERS[:5])]
    for task, (scale, amplitude, period) in enumerate(zip(*settings, strict=True)):
        kernel = scikit_learns(name, scale, amplitude, period)
        real = tasks.support.mask[task]
        x, y = (part[task][real].double().numpy() for part in (tasks.support.x, tasks.support.y))
        asked = tasks.query.x[task].double()
        ours = functions.covariance(STREAM, NUMBERS[task : task + 1], asked[None, :, 0], asked[None, :, 0])
        torch.testing.assert_close(ours[0], torch.from_numpy(kernel(asked.numpy())))
        fitted = GaussianProcessRegressor(kernel, alpha=0.1**2 + 1e-6 * amplitude**2, optimizer=None).fit(x, y)
        mean, deviation = fitted.predict(asked.numpy(), return_std=True)
        torch.testing.assert_close(found[task, :, 0, 0], torch.from_numpy(mean.reshape(-1)), rtol=1e-6, atol=1e-6)
        wide = torch.from_numpy((deviation.reshape(-1) ** 2 + 0.1**2) ** 0.5)
        torch.testing.assert_close(found[task, :, 0, 1], wide, rtol=1e-4, atol=1e-5)


def test_draws_have_the_kernels_covariance() -> None:
    functions = GaussianProcesses(["matern32"], (0.7, 0.7), (0.8, 0.8), (1.0, 1.0), (-2.0, 2.0), 0.1)
    x = torch.tensor([-1.0, -0.5, 0.0, 1.5]).double()
    values = functions.at(STREAM, NUMBERS, x.expand(len(NUMBERS), -1))
    expected = functions.covariance(STREAM, NUMBERS[:1], x[None], x[None])[0]
    assert values.mean(0).abs().max() < 0.05
    torch.testing.assert_close(values.T @ values / len(NUMBERS), expected, atol=0.05, rtol=0)


def test_the_plotted_function_goes_through_the_points() -> None:
    functions = processes(noise=1e-4)
    tasks = functions.draw(STREAM, NUMBERS[:6], SPEC)
    for n in range(6):
        x = tasks.query.x[n, :, 0].double()
        truth = functions.true_function(STREAM, NUMBERS[n : n + 1], x, SPEC)[0]
        torch.testing.assert_close(tasks.query.y[n, :, 0].double(), truth, atol=0.02, rtol=0)  # x was rounded to float32


def test_all_kernels_are_drawn_and_tasks_differ() -> None:
    drawn = STREAM.integers(NUMBERS[:100], 1, "kernel", len(KERNELS))
    assert set(drawn.flatten().tolist()) == set(range(len(KERNELS)))
    y = processes().draw(STREAM, NUMBERS[:50], SPEC).query.y
    assert len({round(value, 6) for value in y[:, 0, 0].tolist()}) == 50


def test_the_oracle_is_calibrated_and_padding_tells_it_nothing() -> None:
    functions = processes()
    tasks = Episodes(functions, SPEC, STREAM).tasks(NUMBERS[:400])
    answers = functions.posterior(STREAM, tasks)
    scores = episode_scores(answers, tasks.query.y)
    assert 0.88 < scores["coverage"].mean() < 0.92
    for other in (0.7, 1.4):  # any other width is less likely
        wrong = answers * torch.tensor([1.0, other])
        assert episode_scores(wrong, tasks.query.y)["log_likelihood"].mean() < scores["log_likelihood"].mean()
    tasks.support.y[~tasks.support.mask] = 100.0
    torch.testing.assert_close(functions.posterior(STREAM, tasks), answers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kernels": ["rfb"]}, r"kernels=\['rfb'\] must be one or more of rbf, matern32"),
        ({"kernels": []}, "one or more of"),
        ({"amplitude": (0.0, 1.0)}, r"amplitude=\[0.0, 1.0\] must satisfy 0 < low"),
        ({"noise": 0.0}, "noise=0.0 must be above 0"),
    ],
)
def test_bad_settings(change: dict[str, object], said: str) -> None:
    good = {"kernels": ["rbf"], "length_scale": (1, 1), "amplitude": (1, 1), "period": (1, 1), "domain": (-1, 1), "noise": 0.1}
    with pytest.raises(UserError, match=said):
        GaussianProcesses(**(good | change))
