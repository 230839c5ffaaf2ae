"""In-context learners: what they answer in regression, refusals, and the parts of their readers against plain definitions."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import MultiHead
from metaloop.learners.context.readers.processes import CrossAttention, Mean, Transformer
from metaloop.learners.context.readers.recurrent import LSTM, Memory, ReaderCell
from metaloop.learners.context.readers.set_transformer import AttentionBlock, SetTransformer
from metaloop.learners.context.readers.snail import Dense, Snail
from metaloop.learners.context.readers.versa import Versa
from metaloop.models.mlp import MLP
from metaloop.problems.task_loss import CrossEntropy, MeanSquaredError
from metaloop.types import Examples, Tasks

BUILDS: dict[str, Callable[..., Reader]] = {
    "mean": partial(Mean, width=8, layers=2),
    "cross attention": partial(CrossAttention, width=8, layers=2, heads=2),
    "transformer": partial(Transformer, width=8, layers=2, heads=2),
    "set transformer": partial(SetTransformer, width=8, layers=2, heads=2, inducing=3, seeds=2, norm=True),
    "snail": partial(Snail, filters=4, keys=[4, 4, 4], values=[3, 3, 3], horizon=4),
    "lstm": partial(LSTM, hidden=6, layers=2),
    "memory": partial(Memory, hidden=6, slots=5, width=4, heads=2, decay=0.9),
}


def regressor(reader: str, *, gaussian: bool, targets: int = 1, floor: float = 0.01, trained_on: str = "query") -> InContext:
    torch.manual_seed(1)
    model, build = MLP((1,), None, [8]), BUILDS[reader]
    learner = InContext(model, MeanSquaredError(), targets, build, Loop(), gaussian=gaussian, floor=floor, targets=trained_on)
    return learner.double()


def functions(targets: int = 1, shots: int = 5) -> Tasks:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, shots + 4, 1, generator=random).double()
    y = torch.cat([torch.sin(x + turn) for turn in range(targets)], -1)
    return Tasks(Examples(x[:, :shots], y[:, :shots]), Examples(x[:, shots:], y[:, shots:]), torch.arange(3))


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("reader", BUILDS)
def test_distributions_are_trained_by_their_likelihood(reader: str, targets: int) -> None:
    tasks = functions(targets)
    learner = regressor(reader, gaussian=True, targets=targets)
    outcome = learner.meta_loss(tasks)
    answers = learner.adapt(tasks.support)(tasks.query.x)
    assert answers.shape == (3, 4, targets, 2)
    torch.testing.assert_close(outcome.query_logits, answers)
    assert (answers[..., 1] > 0.01).all()
    density = torch.distributions.Normal(answers[..., 0], answers[..., 1]).log_prob(tasks.query.y)
    torch.testing.assert_close(outcome.loss, -density.mean())
    outcome.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in learner.parameters())


@pytest.mark.parametrize("reader", BUILDS)
def test_plain_values_are_trained_by_their_squared_error(reader: str) -> None:
    tasks = functions(2)
    learner = regressor(reader, gaussian=False, targets=2)
    answers = learner.adapt(tasks.support)(tasks.query.x)
    assert answers.shape == tasks.query.y.shape
    torch.testing.assert_close(learner.meta_loss(tasks).loss, ((answers - tasks.query.y) ** 2).mean())


@pytest.mark.parametrize("reader", BUILDS)
def test_a_query_is_answered_alone_from_the_support(reader: str) -> None:
    """Also where it is itself among the support: no leak of one query into another, none of labels."""
    tasks = functions()
    learner = regressor(reader, gaussian=True)
    answer = learner.adapt(tasks.support)
    torch.testing.assert_close(answer(tasks.query.x)[:, 1:2], answer(tasks.query.x[:, 1:2]))
    moved = Examples(tasks.support.x, tasks.support.y + 1)
    assert not torch.allclose(learner.adapt(moved)(tasks.query.x), answer(tasks.query.x))


@pytest.mark.parametrize("masked", [False, True])
def test_C8_conditional_neural_processes_are_trained_as_in_their_code(masked: bool) -> None:
    """Mean log density of context and target points, with standard deviations of 0.1 + 0.9 softplus; gradients, too."""
    tasks = functions(2)
    mask = torch.ones(3, 5, dtype=torch.bool)
    if masked:
        mask[0, 3:] = mask[1, 4:] = False
        support = Examples(tasks.support.x * mask[..., None], tasks.support.y * mask[..., None], mask)
        tasks = Tasks(support, tasks.query, tasks.index)
    learner = regressor("mean", gaussian=True, targets=2, floor=0.1, trained_on="all")
    found = learner.meta_loss(tasks)
    losses = []
    for i in range(3):
        x, y = tasks.support.x[i][mask[i]], tasks.support.y[i][mask[i]]
        inputs, targets = torch.cat([x, tasks.query.x[i]]), torch.cat([y, tasks.query.y[i]])
        code = learner.reader.encoder(torch.cat([learner.model(x), y], 1)).mean(0)
        outputs = learner.reader.decoder(torch.cat([learner.model(inputs), code.expand(len(inputs), -1)], 1))
        mean, spread = outputs.chunk(2, 1)
        density = torch.distributions.Normal(mean, 0.1 + 0.9 * F.softplus(spread)).log_prob(targets)
        losses.append(-density.mean(1).mean())
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found.loss, expected)
    found.loss.backward()
    gradients = torch.autograd.grad(expected, list(learner.parameters()))
    for ours, theirs in zip(learner.parameters(), gradients, strict=True):
        torch.testing.assert_close(ours.grad, theirs)
    assert found.query_logits.shape == (3, 4, 2, 2)


def test_C8_presets_have_their_papers_floor_targets_dilations_and_gate() -> None:
    presets = conf_dir() / "algorithm"
    made = {name: OmegaConf.load(presets / f"{name}.yaml") for name in ("cnp", "anp")}
    assert {(preset.floor, preset.targets) for preset in made.values()} == {(0.1, "all")}
    snail = OmegaConf.load(presets / "reader" / "snail.yaml")
    reader = instantiate(snail, horizon=26)(features=1, labels=1, outputs=1)
    dilations = [block.dilation for block in reader.blocks if isinstance(block, Dense)]
    assert dilations == 2 * [2, 4, 8, 16, 32]  # 2^i for i = 1 to ceil(log2 26), as in the paper's pseudocode
    memory = instantiate(OmegaConf.load(presets / "reader" / "memory.yaml"))(features=1, labels=1, outputs=1)
    assert memory.alpha.shape == ()
    assert memory.gate is None


@pytest.mark.parametrize("alpha", [-50.0, 0.3, 50.0])
def test_C8_the_memorys_write_weights_are_equation_5(alpha: float) -> None:
    """A step from a filled memory: the slots that were read last and the least used one, mixed by one gate for all heads."""
    reader = Memory(features=2, labels=2, outputs=2, hidden=4, slots=6, width=3, heads=1, decay=0.9).double()
    torch.nn.init.constant_(reader.alpha, alpha)
    output, cell, read, memory = (torch.randn(*shape).double() for shape in ((1, 4), (1, 4), (1, 3), (6, 3)))
    usage, weights = torch.rand(6).double(), torch.rand(1, 6).double().softmax(1)
    x = torch.randn(1, 4).double()
    found = reader._step(x, (output, cell, read, memory, usage, weights))
    key = reader.keys(found[0])
    least = F.one_hot(usage.argmin(), 6).double()
    gate = 1 / (1 + math.exp(-alpha))
    written = gate * weights[0] + (1 - gate) * least
    expected = memory.clone()
    expected[usage.argmin()] = 0.0
    expected = expected + written[:, None] * key
    torch.testing.assert_close(found[3], expected)
    torch.testing.assert_close(found[4], 0.9 * usage + found[5][0] + written)


def test_a_neural_process_learns_functions() -> None:
    learner, tasks = regressor("cross attention", gaussian=True), functions(shots=8)
    learner.over_tasks = Vmap()
    adam = torch.optim.Adam(learner.parameters(), lr=0.01)
    first = learner.meta_loss(tasks).loss.item()
    for _ in range(60):
        adam.zero_grad()
        loss = learner.meta_loss(tasks).loss
        loss.backward()
        adam.step()
    assert loss.item() < first - 1


def test_mistakes_are_said() -> None:
    learner = InContext(MLP((2,), None, [4]), CrossEntropy(), 3, BUILDS["mean"], Loop(), gaussian=True)
    learner.check(3)
    with pytest.raises(UserError, match=r"episode\.ways=4: .* made for 3 ways; train with episode\.train\.ways=4"):
        learner.check(4)
    with pytest.raises(UserError, match=r"episode\.ways=1"):
        learner.check(1)
    with pytest.raises(UserError, match="attribute features"):
        InContext(nn.Linear(1, 1), CrossEntropy(), 3, BUILDS["mean"], Loop(), gaussian=True)
    with pytest.raises(UserError, match=r"heads=3: .* divides algorithm\.reader\.width=8"):
        MultiHead(8, 3)
    versa = partial(Versa, width=4, layers=2, draws=2)
    with pytest.raises(UserError, match="algorithm=versa makes a classifier"):
        InContext(MLP((1,), None, [4]), MeanSquaredError(), 1, versa, Loop(), gaussian=False).check(1)
    for floor, trained_on, key in ((1.0, "all", "floor=1.0"), (0.1, "support", "targets='support': one of query, all")):
        with pytest.raises(UserError, match=f"algorithm.{key}"):
            regressor("mean", gaussian=True, floor=floor, trained_on=trained_on)
    with pytest.raises(UserError, match=r"algorithm\.reader\.first_dilation=0: at least 1"):
        BUILDS["snail"](features=1, labels=1, outputs=1, first_dilation=0)
    for bad in ({"heads": 3}, {"inducing": 0}, {"seeds": 0}, {"layers": 0}):
        with pytest.raises(UserError, match=rf"algorithm\.reader\.{next(iter(bad))}"):
            BUILDS["set transformer"](features=1, labels=1, outputs=1, **bad)
    for bad in ({"heads": 6}, {"decay": 1.0}, {"gate": "open"}):
        with pytest.raises(UserError, match=rf"algorithm\.reader\.{next(iter(bad))}"):
            BUILDS["memory"](features=1, labels=1, outputs=1, **bad)


def test_attention_is_torchs() -> None:
    ours, keys, queries = MultiHead(8, 2), torch.randn(5, 8), torch.randn(3, 8)
    real = torch.tensor([True, True, False, True, True])
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(8), ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    expected, _ = theirs(queries, keys, keys, key_padding_mask=~real)
    torch.testing.assert_close(ours(queries, keys, keys, real[None]), expected)


def test_the_cell_is_torchs() -> None:
    ours, theirs = ReaderCell(3, 4), nn.LSTMCell(3, 4)
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.gates.weight[:, :3])
        theirs.weight_hh.copy_(ours.gates.weight[:, 3:])
        theirs.bias_ih.copy_(ours.gates.bias)
        theirs.bias_hh.copy_(F.pad(torch.ones(4), (4, 8)))  # of the forget gates
    x, state = torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4))
    torch.testing.assert_close(ours(x, *state), theirs(x, state))


def test_snail_answers_a_query_as_the_last_of_one_sequence() -> None:
    """The support computed once for all queries is the whole network run on each sequence: the last place is causal."""
    torch.manual_seed(0)
    reader = Snail(features=3, labels=2, outputs=2, filters=4, keys=[4, 4, 4], values=[3, 3, 3], horizon=4).double()
    support, labels, query = torch.randn(6, 3).double(), torch.randn(6, 2).double(), torch.randn(4, 3).double()
    found = reader(support, labels, torch.ones(6, dtype=torch.bool), query, None)
    for one, answer in zip(query, found, strict=True):
        whole = torch.cat([torch.cat([support, labels], 1), F.pad(one, (0, 2))[None]])
        last = whole[-1:]
        for block in reader.blocks:
            whole, last = block(whole, last, torch.ones(len(whole), 1).double())
        torch.testing.assert_close(reader.answer(whole)[-1], answer)


def test_the_memory_reads_what_was_written_where_least_was_used() -> None:
    reader = Memory(features=2, labels=2, outputs=2, hidden=4, slots=6, width=3, heads=2, decay=0.9)
    state = reader._start(torch.zeros(1))
    places = []
    for _ in range(3):
        before = state[3]
        with torch.no_grad():
            reader.alpha.fill_(-50.0)  # writes go to the least used slots alone
            state = reader._step(torch.randn(1, 4), state)
        changed = (state[3] != before).any(1).nonzero().flatten().tolist()
        places.append(changed)
        keys = reader.keys(state[0]).view(2, 3)
        torch.testing.assert_close(state[3][changed], keys)
    assert sorted(place for each in places for place in each) == list(range(6))  # every slot once before any is used again


def by_lee(block: AttentionBlock, x: Tensor, y: Tensor) -> Tensor:
    """MAB(X, Y), head by head and row by row."""
    queries, keys, values = block.query(x), block.key(y), block.value(y)
    size = queries.shape[1] // block.heads
    rows = []
    for query in queries:
        parts = []
        for head in range(block.heads):
            here = slice(head * size, (head + 1) * size)
            scores = torch.stack([(query[here] * key[here]).sum() for key in keys]) / math.sqrt(queries.shape[1])
            parts.append(query[here] + sum(w * value[here] for w, value in zip(scores.softmax(0), values, strict=True)))
        rows.append(torch.cat(parts))
    summed = block.norms[0](torch.stack(rows))
    return block.norms[1](summed + F.relu(F.linear(summed, block.out.weight, block.out.bias)))


@pytest.mark.parametrize("norm", [False, True])
def test_C2_the_set_transformer_is_its_equations(norm: bool) -> None:
    """Induced blocks over the real pairs, pooling by seeds, self-attention among them; with padding, in float64."""
    torch.manual_seed(0)
    reader = SetTransformer(3, 2, 2, width=8, layers=2, heads=2, inducing=3, seeds=2, norm=norm).double()
    real = torch.tensor([True, True, False, True, True])
    support, labels = torch.randn(5, 3).double() * real[:, None], torch.randn(5, 2).double() * real[:, None]
    query = torch.randn(4, 3).double()
    found = reader(support, labels, real, query, None)
    pairs, queries = (reader.place(support) + F.linear(labels, reader.label.weight))[real], reader.place(query)
    for block in reader.blocks:
        points = by_lee(block.induced, block.points[0], pairs)
        pairs, queries = by_lee(block.answered, pairs, points), by_lee(block.answered, queries, points)
    code = by_lee(reader.pool, reader.seeds[0], pairs)
    code = by_lee(reader.among, code, code).flatten()
    for one, read, answer in zip(query, queries, found, strict=True):
        own = by_lee(reader.pool, read[None], pairs)[0]
        torch.testing.assert_close(answer, reader.decoder(torch.cat([one, own, code])[None])[0])
    order = torch.tensor([4, 0, 2, 1, 3])
    torch.testing.assert_close(reader(support[order], labels[order], real[order], query, None), found)
    assert reader.blocks[0].points.shape == (1, 3, 8)
    assert torch.equal(reader.pool.key.weight, reader.pool.query.weight)  # at the start


def test_versa_averages_probabilities_over_draws_of_each_class() -> None:
    torch.manual_seed(0)
    reader = Versa(features=3, labels=2, outputs=2, width=4, layers=2, draws=20000).double()
    support, query = torch.randn(4, 3).double(), torch.randn(5, 3).double()
    labels = F.one_hot(torch.tensor([0, 0, 1, 1]), 2).double()
    with torch.no_grad():
        reader.log_variance.layers[-1].bias.fill_(4.0)  # variances of about one, which the average must feel
        found = reader(support, labels, torch.ones(4, dtype=torch.bool), query, torch.tensor(7))
        means = torch.stack([support[:2].mean(0), support[2:].mean(0)])
        weights, deviation = reader.mean(means), ((reader.log_variance(means) - 4) / 2).exp()
        drawn = weights + deviation * torch.randn(20000, 2, 4).double()
        logits = torch.einsum("qf,dcf->dqc", F.pad(query, (0, 1), value=1.0), drawn)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(5).double())
    torch.testing.assert_close(found.exp(), logits.softmax(-1).mean(0), atol=0.01, rtol=0)
    assert math.isclose(float(found.exp()[0].sum()), 1.0, rel_tol=1e-9)


def test_class_names_permute_versas_answers_but_for_its_draws() -> None:
    reader = Versa(features=3, labels=3, outputs=3, width=4, layers=2, draws=20000).double()
    support, query, order = torch.randn(3, 3).double(), torch.randn(4, 3).double(), torch.tensor([2, 0, 1])

    def answers(labels: Tensor) -> Tensor:
        return reader(support, labels, torch.ones(3, dtype=torch.bool), query, torch.tensor(1))

    plain, renamed = answers(torch.eye(3).double()), answers(torch.eye(3).double()[order])
    torch.testing.assert_close(renamed[:, order].exp(), plain.exp(), atol=0.01, rtol=0)
