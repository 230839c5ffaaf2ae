"""Recurrent readers: an LSTM and a memory-augmented network, which read each x with the previous example's label."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader

State = tuple[Tensor, ...]
GATES = ("scalar", "controller")


class ReaderCell(nn.Module):
    """An LSTM cell of plain operations, which vmap supports (Hochreiter and Schmidhuber 1997, with forget gates).

    Args:
        inputs: size of an input.
        hidden: number of units.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise UserError(f"algorithm.reader.hidden={hidden}: at least 1")
        self.hidden = hidden
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)

    def start(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the initial output and cell, (1, hidden) each."""
        return like.new_zeros(1, self.hidden), like.new_zeros(1, self.hidden)

    def forward(self, x: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Read ``x`` (n, inputs), and return the new output and cell, (n, hidden) each."""
        input_gate, forget_gate, new, output_gate = self.gates(torch.cat([x, output], 1)).chunk(4, 1)
        cell = torch.sigmoid(forget_gate + 1) * cell + torch.sigmoid(input_gate) * torch.tanh(new)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell


class Recurrent(Reader):
    """A network that reads each x with the label of the example before it, and stores what it learns in its state.

    Padding does not change the state. The papers train on an answer at every step; here only the queries are trained on.
    """

    def shifted(self, support: Tensor, labels: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Join each x with the previous real label: (examples, features + labels), and the last real label (labels,)."""
        previous, rows = torch.zeros_like(labels[0]), []
        for x, label, counts in zip(support, labels, real, strict=True):
            rows.append(torch.cat([x, previous]))
            previous = torch.where(counts, label, previous)
        return torch.stack(rows), previous


def _updated(new: State, old: State, counts: Tensor) -> State:
    """Return ``new`` if the example ``counts``, otherwise ``old``."""
    return tuple(torch.where(counts, a, b) for a, b in zip(new, old, strict=True))


class LSTM(Recurrent):
    """Stacked LSTMs that read the support set and answer queries (Hochreiter et al. 2001).

    They read the support set class by class, as data sets give it, not in random order; see :class:`Reader`.

    Args:
        features, labels, outputs: see :class:`Reader`.
        hidden: number of units of a layer.
        layers: number of layers.
    """

    ordered: ClassVar[bool] = True

    def __init__(self, features: int, labels: int, outputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"algorithm.reader.layers={layers}: at least 1")
        self.hidden = hidden
        self.cells = nn.ModuleList(ReaderCell(features + labels if not layer else hidden, hidden) for layer in range(layers))
        self.answer = nn.Linear(hidden, outputs)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        sequence, last = self.shifted(support, labels, real)
        zeros = support.new_zeros(1, self.hidden)
        states: list[State] = [(zeros, zeros)] * len(self.cells)
        for x, counts in zip(sequence, real, strict=True):
            states = [_updated(*pair, counts) for pair in zip(self._read(x[None], states), states, strict=True)]
        queries = torch.cat([query, last.expand(len(query), -1)], 1)
        query_states = [tuple(part.expand(len(query), -1) for part in state) for state in states]
        answers: Tensor = self.answer(self._read(queries, query_states)[-1][0])
        return answers

    def _read(self, x: Tensor, states: list[State]) -> list[State]:
        new_states: list[State] = []
        for cell, state in zip(self.cells, states, strict=True):
            new_states.append(cell(x, *state))
            x = new_states[-1][0]
        return new_states


class Memory(Recurrent):
    """A memory-augmented network: an LSTM that writes to the least recently used slots (Santoro et al. 2016, section 3).

    Each head has its own key. It writes the key to a mixture of the slots that it read last and one least used slot (equations
    5 to 8). If several slots are used equally little, as all are at the start, each head takes a different one; equation 6 of
    the paper would take them all. The paper presents examples in random order; here they come class by class, as data sets give
    them, see :class:`Reader`.

    Args:
        features, labels, outputs: see :class:`Reader`.
        hidden: number of units of the controller (200 in the paper).
        slots: number of slots of the memory (128 in the paper).
        width: size of a slot (40 in the paper).
        heads: number of heads, which read and write (4 in the paper).
        decay: factor of the slots' usage in each step (0.99 in the paper).
        gate: where the write gate of equation 5 comes from: "scalar", one learned number as in the paper, or "controller", one
            for each head and example from the controller's output.
    """

    ordered: ClassVar[bool] = True

    def __init__(
        self,
        features: int,
        labels: int,
        outputs: int,
        hidden: int,
        slots: int,
        width: int,
        heads: int,
        decay: float,
        gate: str = "scalar",
    ) -> None:
        super().__init__()
        if gate not in GATES:
            raise UserError(f"algorithm.reader.gate={gate!r}: one of {', '.join(GATES)}")
        if not 1 <= heads <= slots or width < 1:
            raise UserError(
                f"algorithm.reader.heads={heads}, slots={slots}, width={width}: at least 1 each, and no more heads than slots"
            )
        if not 0 < decay < 1:
            raise UserError(f"algorithm.reader.decay={decay}: between 0 and 1")
        self.slots, self.width, self.heads, self.decay = slots, width, heads, decay
        self.cell = ReaderCell(features + labels + heads * width, hidden)
        self.keys = nn.Linear(hidden, heads * width)
        self.gate = nn.Linear(hidden, heads) if gate == "controller" else None
        self.alpha = nn.Parameter(torch.zeros(())) if gate == "scalar" else None
        self.answer = nn.Linear(hidden + heads * width, outputs)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`; a query reads the memory and does not write to it."""
        sequence, last = self.shifted(support, labels, real)
        state = self._start(support)
        for x, counts in zip(sequence, real, strict=True):
            state = _updated(self._step(x[None], state), state, counts)
        output, cell, read, memory, _, _ = state
        count = len(query)
        queries = torch.cat([query, last.expand(count, -1), read.expand(count, -1)], 1)
        output, _ = self.cell(queries, output.expand(count, -1), cell.expand(count, -1))
        weights = self._weights(self.keys(output).unflatten(1, (self.heads, self.width)), memory)
        answers: Tensor = self.answer(torch.cat([output, (weights @ memory).flatten(1)], 1))
        return answers

    def _start(self, like: Tensor) -> State:
        """Return output, cell, read (1, heads * width), memory (slots, width), usage (slots,) and weights (heads, slots)."""
        memory = like.new_full((self.slots, self.width), 1e-6)  # not 0, since cosines need a direction
        read = like.new_zeros(1, self.heads * self.width)
        return *self.cell.start(like), read, memory, like.new_zeros(self.slots), like.new_zeros(self.heads, self.slots)

    def _step(self, x: Tensor, state: State) -> State:
        output, cell, read, memory, usage, weights = state
        output, cell = self.cell(torch.cat([x, read], 1), output, cell)
        keys = self.keys(output).view(self.heads, self.width)
        order = torch.argsort(usage.detach(), stable=True)[: self.heads]
        least = (order[:, None] == torch.arange(self.slots, device=usage.device)).to(usage.dtype)  # (heads, slots)
        gate = torch.sigmoid(self._gate(output))
        written = gate * weights + (1 - gate) * least
        memory = memory * (1 - least.sum(0))[:, None] + written.transpose(0, 1) @ keys
        weights = self._weights(keys, memory)
        usage = self.decay * usage + (weights + written).sum(0)
        return output, cell, (weights @ memory).view(1, -1), memory, usage, weights

    def _gate(self, output: Tensor) -> Tensor:
        """Return the write gate before its sigmoid: (heads, 1), or a scalar."""
        if self.alpha is not None:
            return self.alpha
        assert self.gate is not None
        gate: Tensor = self.gate(output)
        return gate.view(self.heads, 1)

    def _weights(self, keys: Tensor, memory: Tensor) -> Tensor:
        """Softmax of the cosines of keys (..., heads, width) with slots (slots, width): (..., heads, slots)."""
        return (F.normalize(keys, dim=-1) @ F.normalize(memory, dim=-1).transpose(0, 1)).softmax(-1)
