"""Cart-poles and pendulums are those of gymnasium, step by step."""

import math

import pytest
import torch
from torch import Tensor
from trials import tasks_of, world_of

from metaloop.control.environments.angles import sine_and_cosine, wrapped
from metaloop.control.environments.cart_pole import CartPole
from metaloop.control.environments.environment import Environment
from metaloop.control.environments.pendulum import Pendulum
from metaloop.errors import UserError
from metaloop.types import Params

CART_POLE = CartPole(500, 1.0, 0.1, 0.5, 10.0, reversed_share=0.0)
PENDULUM = Pendulum(200, 10.0, 1.0, 1.0)


def parameters_of(environment: Environment, dtype: torch.dtype) -> Params:
    """The parameters of a family of one task, without the rounding to float32."""
    parameters = world_of(tasks_of(environment, 1)).parameters
    return {name: (value.double() * 1000).round().to(dtype) / 1000 for name, value in parameters.items()}


def upright(state: Params) -> Tensor:
    """Pushes that keep a pole upright for a while."""
    return (3 * state["angle"] + state["turning"] + 0.1 * state["place"] + 0.3 * state["speed"] > 0).long()


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 60), (torch.float64, 300)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_cart_pole_moves_as_gymnasiums(dtype: torch.dtype, steps: int, seed: int) -> None:
    """By float64 for longer, because rounding grows fourteenfold in a second while the pole falls."""
    gymnasium = pytest.importorskip("gymnasium")
    theirs = gymnasium.make("CartPole-v1").unwrapped
    theirs.reset(seed=seed)
    place, speed, angle, turning = torch.tensor(theirs.state, dtype=dtype)[:, None]
    parameters = parameters_of(CART_POLE, dtype)
    state: Params = dict(CART_POLE.reset(parameters, torch.zeros(1, 4)), place=place, speed=speed, angle=angle, turning=turning)
    for time in range(steps):
        action = upright(state) if time < steps - 40 else torch.ones(1, dtype=torch.int64)  # at last to the right, to its fall
        seen, reward, ended, _, _ = theirs.step(int(action))
        result = CART_POLE.step(parameters, state, action, torch.empty(1, 0))
        state = result.state
        assert torch.allclose(CART_POLE.observe(parameters, state)[0].double(), torch.tensor(theirs.state), atol=1e-5, rtol=0)
        assert torch.allclose(torch.tensor(seen), CART_POLE.observe(parameters, state)[0].float(), atol=1e-5, rtol=0)
        assert result.reward.item() == reward
        assert result.done is not None
        assert result.done.item() == ended
        if ended:
            return
    raise AssertionError("the pole does not fall")


@pytest.mark.parametrize(("dtype", "steps"), [(torch.float32, 20), (torch.float64, 200)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_pendulum_swings_as_gymnasiums(dtype: torch.dtype, steps: int, seed: int) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=seed)
    angle, speed = torch.tensor(theirs.state, dtype=dtype)[:, None]
    state: Params = {"angle": angle, "speed": speed}
    parameters = parameters_of(PENDULUM, dtype)
    for action in 3 * torch.rand(steps, 1, 1, dtype=dtype, generator=torch.Generator().manual_seed(seed)) - 1.5:
        seen, reward, _, _, _ = theirs.step(2 * action[0].double().numpy())
        result = PENDULUM.step(parameters, state, action, torch.empty(1, 0))
        state = result.state
        assert torch.allclose(PENDULUM.observe(parameters, state)[0].double(), torch.tensor(seen).double(), atol=1e-5, rtol=0)
        assert result.reward.item() == pytest.approx(reward, abs=2e-5)


def test_starts_are_those_of_gymnasium() -> None:
    noise = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    start = CART_POLE.observe(
        parameters_of(CART_POLE, torch.float32), CART_POLE.reset(parameters_of(CART_POLE, torch.float32), noise)
    )
    assert torch.allclose(start, torch.tensor([[-0.05, -0.025, 0.0, 0.05]]))
    swung = PENDULUM.reset(parameters_of(PENDULUM, torch.float32), noise[:, [1, 3]])
    assert torch.allclose(torch.cat([swung["angle"], swung["speed"]]), torch.tensor([-math.pi / 2, 1.0]))


def test_a_fallen_pole_stands_still_and_an_episode_ends_in_time() -> None:
    parameters = parameters_of(CART_POLE, torch.float32)
    state = dict(CART_POLE.reset(parameters, torch.full((1, 4), 0.5)), turning=torch.ones(1), ended=torch.ones(1).bool())
    result = CART_POLE.step(parameters, state, torch.ones(1).long(), torch.empty(1, 0))
    assert torch.equal(result.state["angle"], state["angle"])
    late = dict(state, angle=torch.zeros(1), turning=torch.zeros(1), time=torch.full((1,), 499))
    done = CART_POLE.step(parameters, late, torch.ones(1).long(), torch.empty(1, 0)).done
    assert done is not None
    assert done.item()


def test_parameters_are_uniform_in_their_ranges_and_some_actions_are_exchanged() -> None:
    environment = CartPole(10, 1.5, [0.05, 0.2], [0.25, 1.0], [5.0, 15.0], reversed_share=0.3)
    parameters = world_of(tasks_of(environment, 4000)).parameters
    assert parameters["cart_mass"].unique().tolist() == [1.5]
    for name, (low, high) in {"pole_mass": (0.05, 0.2), "length": (0.25, 1.0), "force": (5.0, 15.0)}.items():
        values = parameters[name].abs()
        assert low <= values.min() < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.02 * high)
    assert (parameters["force"] < 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_angles() -> None:
    angles = torch.tensor([0.0, math.pi, 3 * math.pi, -math.pi / 2, 7.0], dtype=torch.float64)
    assert torch.allclose(wrapped(angles), torch.tensor([0, -math.pi, -math.pi, -math.pi / 2, 7 - 2 * math.pi]).double())
    sine, cosine = sine_and_cosine(angles.float())
    assert torch.allclose(sine, angles.sin().float(), atol=1e-6)
    assert torch.allclose(cosine, angles.cos().float(), atol=1e-6)


@pytest.mark.parametrize("length", [0, -1.0, [1.0, 0.5], [1.0], "long", None, [0.5, float("inf")], ["a", "b"]])
def test_a_range_that_is_none_is_refused_by_its_key(length: object) -> None:
    with pytest.raises(UserError, match=r"dataset\.environment\.length=.*a number, or a range \[low, high\]"):
        Pendulum(10, 10.0, 1.0, length)  # type: ignore[arg-type]
