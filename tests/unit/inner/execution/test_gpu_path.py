"""What a GPU needs of the outer step, seen without one.

The "meta" device stands in for the GPU: its tensors have no values, so whatever would make the host wait for one (``item``,
``tolist``, ``nonzero``, a boolean index, a branch) raises, and so does an operation between devices.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from metaloop.config.build import build_dataset, build_learner, episode_specs
from metaloop.config.composition import DEFAULTS
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution import recording
from metaloop.inner.execution.over_tasks import Vmap
from metaloop.learners.learner import Learner
from metaloop.types import EpisodeSpec, Examples, Params, Tasks
from pairwise import covering, each_once

sys.path.append(str(Path(__file__).parents[3] / "golden"))
from golden_losses import ACTING, CONF, DETECTORS, PRESETS, SELECTORS, WITH, pool

OVERRIDES = ("model=conv4", "model.filters=4", "model.downsample=stride")
# Scikit-learn works on the CPU, and so do learners of meta-features; rollouts check that rewards are finite.
READS_VALUES = ("estimator", *SELECTORS, *ACTING)
TABLES = "tabular_transformer"  # in a loop it reads how many rows and columns a table has, to cut off what is padded
WORLDS = [
    "bernoulli_bandits",
    "tabular_mdps",
    "point_navigation",
    "key_to_door",
    "catch",
    "cart_pole",
    "pendulum",
    "pixel_maze",
]
SPEC = EpisodeSpec(ways=3, shots=2, queries=3)


def learner(preset: str, strategy: str) -> Learner:
    with initialize_config_dir(str(CONF), **DEFAULTS):
        words = [f"algorithm={preset}", f"algorithm/over_tasks={strategy}", *OVERRIDES, *WITH.get(preset, ())]
        if strategy == "vmap":
            words.append("algorithm.over_tasks.checked=false")  # the check of the first step compares values
        composed = compose("train", words)
    config = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("algorithm", "model")}
    if preset != "learned_optimizer" and "steps" in config["algorithm"]:  # its windows are of three steps
        config["algorithm"]["steps"] = 2  # further ones do what the second does
    return build_learner(config | {"seed": 0}, pool(), SPEC)


def step_without_values(made: Learner) -> None:
    """Draw, adapt, differentiate, descend: all on a device whose values nobody can see."""
    made = on_meta(made)
    tasks = next(Episodes(pool().to("meta"), SPEC, Stream(0, "train")).batches(0, 2, 2, "meta"))
    assert tasks.support.x.device.type == "meta"
    sgd = torch.optim.SGD(made.parameters(), lr=0.1)
    outcome = made.meta_loss(tasks)
    if made.learns:
        outcome.loss.backward()
        sgd.step()
    assert outcome.loss.device.type == "meta"


def on_meta(made: Learner) -> Learner:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # parameters keep their identity, as on the way to a GPU
    try:
        return made.to("meta")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


@covering(
    ("preset", "strategy"),
    [each for each in PRESETS if each not in (*READS_VALUES, *DETECTORS, TABLES)],
    ["vmap", "loop"],
    select=each_once,
)
def test_an_outer_step_waits_for_nothing(preset: str, strategy: str) -> None:
    step_without_values(learner(preset, strategy))


def test_an_outer_step_of_tables_waits_for_nothing_under_vmap() -> None:
    step_without_values(learner(TABLES, "vmap"))


@pytest.mark.parametrize("episode", ["5w1s", "variable", "regression", "optimise", "trial"])
@pytest.mark.parametrize(
    "dataset", ["glyphs", "noisy_glyphs", "sinusoid", "harmonic", "quadratics", "optimise_glyphs", *WORLDS]
)
def test_episodes_are_drawn_on_the_device_and_wait_for_nothing(dataset: str, episode: str) -> None:
    with initialize_config_dir(str(CONF), **DEFAULTS):
        composed = compose("train", [f"dataset={dataset}", f"episode={episode}"])
    config = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("dataset", "episode")}
    split = build_dataset(config).split("train")
    try:
        split.check(episode_specs(config["episode"])[0])
    except UserError:
        pytest.skip("this data set has no such episodes")
    drawn = next(Episodes(split.to("meta"), episode_specs(config["episode"])[0], Stream(0, "train")).batches(0, 6, 3, "meta"))
    tensors = []
    drawn.map(lambda tensor: tensors.append(tensor) or tensor)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


class Task:
    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        loss = ((support.x * meta["w"]).sum() - query.x.sum()) ** 2
        return loss, {"loss": loss}


def test_results_of_a_replayed_graph_are_not_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CUDA graph returns lies in memory that its next replay fills."""
    held: list[Tensor] = []

    def replayed(graph: Callable[..., list[Tensor]], *, dynamic: bool, mode: str | None) -> Callable[..., list[Tensor]]:
        assert mode == "reduce-overhead"

        def replay(*leaves: Tensor) -> list[Tensor]:
            results = graph(*leaves)
            held.extend(result.clone() for result in results if not held or len(held) < len(results))
            return [there.copy_(result) for there, result in zip(held, results, strict=True)]

        return replay

    monkeypatch.setattr(torch, "compile", replayed)
    monkeypatch.setattr(recording, "_on_gpu", lambda leaves: True)
    examples = Examples(torch.randn(4, 3), torch.zeros(4, 3), None, 1)
    tasks = Tasks(examples, examples, torch.arange(4))
    meta = {"w": torch.randn(3)}
    expected, losses = Vmap(chunk=2).mean_gradient(Task(), meta, tasks)
    found, graphed = Vmap(chunk=2, compiled=True).mean_gradient(Task(), meta, tasks)
    torch.testing.assert_close((found, graphed), (expected, losses))


def test_the_graph_mode_compiles_and_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_on_gpu", lambda leaves: True)
    examples = Examples(torch.randn(4, 3), torch.zeros(4, 3), None, 1)
    tasks = Tasks(examples, examples, torch.arange(4))
    meta = {"w": torch.randn(3)}
    expected = Vmap().mean_gradient(Task(), meta, tasks)
    torch.testing.assert_close(Vmap(compiled=True).mean_gradient(Task(), meta, tasks), expected)
