"""Disco103: its meta-network and losses against loops over single transitions, its values by definition, and its file."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from made_rule import write_rule
from metaloop.control.environments.catch import Catch
from metaloop.control.environments.grids import DarkRoom
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.learners.control.update_rules.disco.learner import Disco103
from metaloop.learners.control.update_rules.disco.network import MetaNetwork, Seen, taken
from metaloop.learners.control.update_rules.disco.rule import DiscoUpdate, Lifetime, estimated, losses
from metaloop.learners.control.update_rules.disco.values import (
    DISCOUNT,
    MovingAverage,
    hyperbolic,
    parabolic,
    retrace,
    two_hot,
    value_of,
)
from metaloop.learners.control.update_rules.disco.weights import SHAPES, Layers, load_weights
from metaloop.models.cells import Cells
from metaloop.models.mlp import MLP
from metaloop.problems.control import Regret
from metaloop.types import EpisodeSpec, Tasks
from small_runs import trained

BOARD = Catch(rows=4, columns=3, wind=0.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rule(tmp_path_factory.mktemp("rl"))


def made(file: str, environment: Catch | DarkRoom = BOARD, tabular: bool = False, updates: int = 2) -> Disco103:
    model = Cells(environment.input_shape, None) if tabular else MLP(environment.input_shape, None, [6])
    return Disco103(
        model, Regret(), environment.actions, weights=file, tabular=tabular, units=4, hidden=5, rate=0.01, updates=updates,
        streams=3, episodes=2,
    )  # fmt: skip


def tasks_of(environment: Catch | DarkRoom, count: int) -> Tasks:
    return Episodes(environment, EpisodeSpec(1, 1, 4), Stream(0, "test")).tasks(torch.arange(count))


def lived(learner: Disco103, count: int, updates: int) -> tuple[DiscoUpdate, Lifetime, Seen, Tensor]:
    """Lifetimes after some updates, what the meta-network then reads, and the targets of values."""
    lifetimes = learner.lifetimes(tasks_of(BOARD, count).support)
    update = DiscoUpdate(learner.network(), learner.agent, BOARD, 0.05)
    life = update.start(lifetimes.numbers)
    for number in range(updates):
        life = update(life, lifetimes.play(life.params, number))
    streams = lifetimes.play(life.params, updates)
    with torch.no_grad():
        agent, target = (learner.agent.outputs(params, BOARD, streams.observations) for params in (life.params, life.target))
        estimates, wanted, _ = estimated(streams, agent, agent.logits, target, life.advantages)
    return update, life, Seen(streams, agent, agent.logits, target, estimates), wanted


class Reference:
    """The meta-network on one transition after the other, in NumPy, from the authors' description."""

    def __init__(self, file: str) -> None:
        self.weights = {name: value.astype(np.float64) for name, value in np.load(file).items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        weight = self.weights[f"lstm/{name}/w"]
        return x @ weight.reshape(weight.shape[-2:]) + self.weights[f"lstm/{name}/b"]

    def mlp(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.linear(f"{name}/~/linear_1", np.maximum(self.linear(f"{name}/~/linear_0", x), 0))

    def block(self, name: str, x: np.ndarray) -> np.ndarray:
        return np.maximum(self.linear(name, np.concatenate([x, np.tile(x.mean(0), (len(x), 1))], 1)), 0)

    def lstm(self, name: str, x: np.ndarray, hidden: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def sigmoid(value: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-value))

        i, g, f, o = np.split(self.linear(f"{name}/linear", np.concatenate([x, hidden])), 4)
        cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(cell), cell

    def inputs(self, prefix: str, seen: Seen, task: int, stream: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        def squeezed(x: float | np.ndarray) -> np.ndarray:
            return np.sign(x) * np.log1p(np.abs(x))

        def at(tensor: Tensor, shift: int = 0) -> np.ndarray:
            return tensor[task, stream, step + shift].double().numpy()

        def softmax(x: np.ndarray) -> np.ndarray:
            e = np.exp(x - x.max(-1, keepdims=True))
            return e / e.sum(-1, keepdims=True)

        a = int(seen.streams.actions[task, stream, step])
        policies = [softmax(at(x)) for x in (seen.agent.logits, seen.behaviour, seen.target.logits)]
        e = seen.estimates
        row = [policies[0][a], policies[1][a], squeezed(at(seen.streams.rewards)), 1 - at(seen.streams.terminal)]
        row += [squeezed(at(e.state)), squeezed(at(e.state, 1)), squeezed(at(e.advantage)), at(e.normalized_advantage)]
        row += [policies[2][a]]
        for outputs in (seen.agent, seen.target):
            row += [self.mlp(f"{prefix}mlp", softmax(at(outputs.y, shift)))[0] for shift in (0, 1)]
        for outputs in (seen.agent, seen.target):
            now, later = (self.mlp(f"{prefix}mlp_1", softmax(at(outputs.z, shift)))[:, 0] for shift in (0, 1))
            weights = [softmax(at(seen.agent.logits, shift)) for shift in (0, 1)]
            row += [now[a], (now * weights[0]).sum(), (later * weights[1]).sum(), now.max(), later.max()]
        columns = [*policies]
        columns += [self.mlp(f"{prefix}mlp_1", softmax(at(outputs.z)))[:, 0] for outputs in (seen.agent, seen.target)]
        columns += [squeezed(at(e.action)), squeezed(at(e.action_advantage)), at(e.normalized_action_advantage)]
        columns += [np.eye(len(policies[0]))[a]]
        block = self.block(f"{prefix}sequential/conv1_d", np.stack(columns, 1))
        block = self.block(f"{prefix}sequential/conv1_d_1", block)
        return np.concatenate([np.array(row, dtype=np.float64), block.mean(0), block[a]]), block

    def __call__(
        self, seen: Seen, task: int, hidden: np.ndarray, cell: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        _, streams, steps = seen.streams.actions.shape
        policy, y, z, read = {}, {}, {}, []
        gate = self.linear("linear", hidden)
        for stream in range(streams):
            h, c = np.zeros(256), np.zeros(256)
            for step in reversed(range(steps)):
                if seen.streams.terminal[task, stream, step]:
                    h, c = np.zeros(256), np.zeros(256)
                x, actions = self.inputs("", seen, task, stream, step)
                h, c = self.lstm("lstm", x, h, c)
                f = h * gate
                y[stream, step], z[stream, step] = self.linear("linear_2", f), self.linear("linear_3", f)
                wide = np.concatenate([np.tile(f, (len(actions), 1)), actions], 1)
                policy[stream, step] = self.linear("linear_4", self.block("sequential_1/conv1_d", wide))[:, 0]
                prefix = "~/meta_lstm/~unroll/"
                target = np.exp(y[stream, step]) / np.exp(y[stream, step]).sum()
                meta, _ = self.inputs(prefix, seen, task, stream, step)
                meta = np.concatenate([meta, self.linear("linear_1", f), self.mlp(f"{prefix}mlp", target)])
                read.append(self.linear(f"{prefix}mlp_2/~/linear_0", meta))
        after = self.lstm("~/meta_lstm/~unroll/lstm", np.mean(read, 0), hidden, cell)
        return *(np.array([[each[s, t] for t in range(steps)] for s in range(streams)]) for each in (policy, y, z)), after  # type: ignore[return-value]


def test_the_meta_network_is_that_of_the_authors_one_transition_at_a_time(file: str) -> None:
    _, life, seen, _ = lived(made(file), 2, 2)
    assert life.memory[0].abs().max() > 0.01
    targets, memory = MetaNetwork(Layers(load_weights(file)))(seen, life.memory)
    reference = Reference(file)
    for task in range(2):
        policy, y, z, after = reference(seen, task, *(part[task].double().numpy() for part in life.memory))
        for found, expected in ((targets.policy, policy), (targets.y, y), (targets.z, z)):
            assert np.allclose(found[task].numpy(), expected, atol=1e-4)
        for part, expected in zip(memory, after, strict=True):
            assert np.allclose(part[task].numpy(), expected, atol=1e-5)


def test_targets_of_actions_do_not_depend_on_how_actions_are_numbered(file: str) -> None:
    update, life, seen, wanted = lived(made(file), 2, 1)
    order = torch.tensor([2, 0, 1])

    def renamed(outputs: object) -> object:
        changed = {n: v if n == "y" else v[:, :, :, order] for n, v in vars(outputs).items()}
        return type(outputs)(**changed)

    streams = type(seen.streams)(**{**vars(seen.streams), "actions": order.argsort()[seen.streams.actions]})
    agent, target = renamed(seen.agent), renamed(seen.target)
    estimates, again, _ = estimated(streams, agent, agent.logits, target, life.advantages)  # type: ignore[arg-type, attr-defined]
    assert torch.allclose(again, wanted, atol=1e-4)
    other = Seen(streams, agent, agent.logits, target, estimates)  # type: ignore[arg-type, attr-defined]
    first, second = update.network(seen, life.memory)[0], update.network(other, life.memory)[0]
    assert torch.allclose(second.policy, first.policy[..., order], atol=1e-4)
    assert torch.allclose(second.y, first.y, atol=1e-4)


def test_values_are_means_of_bins_and_their_targets_are_retraced() -> None:
    values = torch.tensor([-250.0, -3.3, 0.0, 0.4, 17.0, 50_000.0], dtype=torch.float64)
    assert torch.allclose(parabolic(hyperbolic(values)), values)
    assert torch.allclose(value_of(two_hot(values).clamp(min=1e-30).log()), values)
    random = torch.Generator().manual_seed(0)
    rewards, chosen, traces = (torch.rand(5, generator=random) for _ in range(3))
    states, discounts = torch.rand(6, generator=random), torch.tensor([0.9, 0.9, 0.0, 0.9, 0.9])
    found = retrace(rewards, discounts, states, chosen, traces)
    for start in range(5):
        expected, weight = chosen[start].clone(), torch.tensor(1.0)
        for step in range(start, 5):  # Munos et al. 2016, equation 3: corrected differences, weighed by traces
            expected += weight * (rewards[step] + discounts[step] * states[step + 1] - chosen[step])
            if step < 4:
                weight = weight * discounts[step] * traces[step + 1]
        assert torch.allclose(found[start], expected, atol=1e-6)


def test_moving_averages_begin_without_a_bias() -> None:
    batches = [torch.randn(2, 30, generator=torch.Generator().manual_seed(number)) * 3 + 1 for number in range(3)]
    averages = MovingAverage(torch.zeros(2), torch.zeros(2), 1.0)
    for batch in batches:
        averages = averages.updated(batch.mean(1), (batch**2).mean(1))
    weights = np.array([0.99**2, 0.99, 1.0])
    weights /= weights.sum()
    mean = sum(w * b.mean(1) for w, b in zip(weights, batches, strict=True))
    square = sum(w * (b**2).mean(1) for w, b in zip(weights, batches, strict=True))
    expected = (batches[2] - mean[:, None]) / (square - mean**2).sqrt()[:, None]  # type: ignore[index, operator]
    assert torch.allclose(averages.normalized(batches[2]), expected, atol=1e-4)


def test_the_loss_is_the_sum_of_four_divergences_and_that_of_the_values(file: str) -> None:
    update, life, seen, wanted = lived(made(file), 2, 2)
    targets = update.network(seen, life.memory)[0]
    found = losses(seen.streams, seen.agent, targets, wanted)

    def divergence(first: Tensor, second: Tensor) -> float:
        return float(F.kl_div(second.log_softmax(-1), first.log_softmax(-1), reduction="sum", log_target=True))

    agent, streams = seen.agent, seen.streams
    for task, stream, step in [(0, 0, 0), (0, 1, 2), (1, 2, 4), (1, 0, 5)]:
        place, a = (task, stream, step), int(streams.actions[task, stream, step])
        total = divergence(targets.policy[place], agent.logits[place]) + divergence(targets.y[place], agent.y[place])
        total += divergence(targets.z[place], agent.z[place][a])
        if not streams.terminal[place]:
            total += divergence(agent.logits[task, stream, step + 1], agent.next_policy[place][a])
        total += 0.2 * float(F.cross_entropy(agent.values[place][a], two_hot(wanted[place])))
        assert float(found[place]) == pytest.approx(total, rel=1e-4)


def test_an_update_is_a_clipped_step_of_adam_and_moves_the_target_agent_by_a_tenth(file: str) -> None:
    learner = made(file)
    lifetimes = learner.lifetimes(tasks_of(BOARD, 1).support)
    update = DiscoUpdate(learner.network(), learner.agent, BOARD, 0.01)
    lives = [update.start(lifetimes.numbers)]
    slopes = []
    for number in range(3):
        streams = lifetimes.play(lives[-1].params, number)
        lives.append(update(lives[-1], streams))
        slopes.append({name: (lives[-1].first[name] - 0.9 * lives[-2].first[name]) / 0.1 for name in lives[-1].first})
    leaf = lives[0].params["policy.weight"].clone().requires_grad_()
    adam = torch.optim.Adam([leaf], lr=0.01)
    for number, slope in enumerate(slopes):
        leaf.grad = slope["policy.weight"]
        adam.step()
        assert torch.allclose(leaf, lives[number + 1].params["policy.weight"], atol=1e-5)
    for before, after in itertools.pairwise(lives):
        expected = 0.9 * before.target["policy.weight"] + 0.1 * before.params["policy.weight"]
        assert torch.allclose(after.target["policy.weight"], expected)


def test_a_task_does_not_depend_on_the_tasks_beside_and_agents_can_be_tables(file: str) -> None:
    learner, tasks = made(file), tasks_of(BOARD, 3)
    together = learner.adapt(tasks.support)
    assert together.curve_steps == (0, 1, 2)
    curve = together.curve(tasks.query.x)
    assert curve.shape == (3, 3, 4)
    assert torch.allclose(curve[:, 1:2], learner.adapt(tasks[1:2].support).curve(tasks[1:2].query.x))
    room = DarkRoom(3, 4)
    table = made(file, room, tabular=True)
    assert table.adapt(tasks_of(room, 2).support).curve(tasks_of(room, 2).query.x).shape == (3, 2, 4)
    assert not any("rule_" in name for name in table.state_dict())  # checkpoints do not hold the published weights


def test_a_file_that_is_missing_or_other_is_refused(file: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"algorithm\.weights=.*are not there; they are update_rules/weights/disco_103\.npz"):
        load_weights(str(tmp_path / "disco_103.npz"))
    (tmp_path / "text.npz").write_text("no weights")
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(str(tmp_path / "text.npz"))
    arrays = dict(np.load(file))
    np.savez(tmp_path / "fewer.npz", **{name: value for name, value in arrays.items() if name != "lstm/linear_1/w"})
    with pytest.raises(UserError, match=r"other weights than those of Disco103 \(lstm/linear_1/w\)"):
        load_weights(str(tmp_path / "fewer.npz"))
    np.savez(tmp_path / "more.npz", **arrays, rest=np.zeros(3))
    with pytest.raises(UserError, match=r"\(rest\)"):
        load_weights(str(tmp_path / "more.npz"))


def test_the_parameters_of_the_rule_are_as_many_as_those_published() -> None:
    assert len(SHAPES) == 42
    assert sum(int(np.prod(shape)) for shape in SHAPES.values()) == 754_778


def test_taken_picks_entries_of_actions() -> None:
    values, actions = torch.arange(24.0).view(1, 1, 2, 3, 4), torch.tensor([[[2, 0]]])
    assert torch.equal(taken(values, actions)[0, 0], torch.stack([values[0, 0, 0, 2], values[0, 0, 1, 0]]))
    assert DISCOUNT == 0.997


def test_a_run_takes_one_outer_step_and_tests_agents(file: str, tmp_path: Path) -> None:
    words = (
        "name=small", "algorithm=disco103", f"algorithm.weights={file}", "algorithm.updates=2", "algorithm.streams=2",
        "dataset=catch", "dataset.score=mean", "model=mlp", "model.hidden=[4]", "episode=trial", "episode.queries=3",
        "validation.episodes=2", "evaluation.episodes=2", "log_every=1",
    )  # fmt: skip
    record = trained(tmp_path, small=words)
    assert record["training"]["steps"] == 1
    assert [point["step"] for point in record["test"]["curve"]] == [0, 1, 2]
