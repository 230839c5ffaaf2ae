"""The check of environments finds each broken law, and passes the families that come with metaloop."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from metaloop.control.environments.environment import Environment, Step
from metaloop.data.philox import Stream
from metaloop.problems.control import Actions
from metaloop.testing import BrokenLaw, check_environment
from metaloop.types import Params

sys.path.append(str(Path(__file__).parents[1] / "control"))
from trials import ALL_FAMILIES


class Levers(Environment):
    """Two levers, one of which pays; ``fault`` says which law it breaks."""

    def __init__(self, pulls: int = 4, fault: str = "") -> None:
        super().__init__(Actions(2), horizon=pulls, input_shape=(1,), title="two levers")
        self.fault = fault
        self.calls = 0

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        if self.fault == "same tasks":
            return {"pays": torch.zeros_like(numbers)}
        if self.fault == "random tasks":
            return {"pays": torch.randint(0, 2, numbers.shape)}
        return {"pays": stream.integers(numbers, 1, "which lever pays", 2)[:, 0]}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        return {"pulled": torch.zeros_like(parameters["pays"])}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        seen = state["pulled"].float()[:, None]
        return seen / 0 if self.fault == "observes nan" else seen

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        self.calls += 1
        reward = (actions == parameters["pays"]).float()
        if self.fault == "in place":
            state["pulled"].add_(1)
        if self.fault == "tasks beside":
            reward = reward - reward.mean()
        if self.fault == "nan":
            reward = reward / 0
        if self.fault == "whole numbers":
            reward = reward.long()
        done = torch.zeros(len(actions), dtype=torch.bool) if self.fault == "never ends" else None
        return Step({"pulled": state["pulled"] + 1}, reward, done)

    def best_return(self, parameters: Params) -> Tensor:
        best = 0 if self.fault == "wrong best" else self.horizon
        return torch.full((len(parameters["pays"]),), float(best))


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES)
def test_families_pass(family: Environment) -> None:
    check_environment(family)


def test_the_example_of_the_documentation_passes() -> None:
    check_environment(Levers())


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        ("same tasks", "are all the same"),
        ("random tasks", "a function of its number alone"),
        ("observes nan", "observations must be finite"),
        ("in place", "must not be changed in place"),
        ("tasks beside", "must not depend on the tasks beside it"),
        ("nan", r"the reward of task \d+ .* (nan|inf) \(episode 0, step 0"),
        ("whole numbers", "it must be float"),
        ("never ends", r"episodes do not end.*at most horizon=4 steps \(episode 0, step 3"),
        ("wrong best", "best_return: random actions earn [12]"),
    ],
)
def test_a_broken_law_is_named(fault: str, law: str) -> None:
    with pytest.raises(BrokenLaw, match=law):
        check_environment(Levers(fault=fault))


@pytest.mark.parametrize("horizon", [0, 10**9])
def test_an_episode_without_an_end_is_refused(horizon: int) -> None:
    with pytest.raises(BrokenLaw, match=f"horizon={horizon}: an episode must have an end"):
        check_environment(Levers(pulls=horizon))
