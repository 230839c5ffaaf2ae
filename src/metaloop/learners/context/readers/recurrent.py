"""Readers with a state: an LSTM and a memory-augmented network over (x, label of the one before)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader

State = tuple[Tensor, ...]


class ReaderCell(nn.Module):
    """An LSTM cell (Hochreiter and Schmidhuber 1997, with forget gates) of plain operations, which vmap takes.

    Args:
        inputs: numbers of an input.
        hidden: units.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise UserError(f"algorithm.reader.hidden={hidden}: at least 1")
        self.hidden = hidden
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)

    def start(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Output and cell (1, hidden) before anything was read."""
        return like.new_zeros(1, self.hidden), like.new_zeros(1, self.hidden)

    def forward(self, x: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Output and cell (n, hidden) after reading ``x`` (n, inputs)."""
        come, forget, new, show = self.gates(torch.cat([x, output], 1)).chunk(4, 1)
        cell = torch.sigmoid(forget + 1) * cell + torch.sigmoid(come) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(cell), cell


class Recurrent(Reader):
    """A network that reads x with the label of the example before it, and learns to learn in its state.

    Padding leaves the state as it is. The papers ask for an answer at every step; we train on the queries alone.
    """

    def shifted(self, support: Tensor, labels: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(examples, features + labels), each with the label of the real one before; and the last real label (labels,)."""
        before, found = torch.zeros_like(labels[0]), []
        for x, label, counts in zip(support, labels, real, strict=True):
            found.append(torch.cat([x, before]))
            before = torch.where(counts, label, before)
        return torch.stack(found), before


def _kept(new: State, old: State, counts: Tensor) -> State:
    """``new`` where the example ``counts``, else ``old``."""
    return tuple(torch.where(counts, a, b) for a, b in zip(new, old, strict=True))


class LSTM(Recurrent):
    """A sequence-to-sequence meta-learner: layers of LSTMs (Hochreiter et al. 2001).

    It reads the support set class by class, as data sets give it, not in a random order; see :class:`Reader`.

    Args:
        features, labels, outputs: see :class:`Reader`.
        hidden: units of a layer.
        layers: of the network.
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
        nothing = support.new_zeros(1, self.hidden)
        states: list[State] = [(nothing, nothing)] * len(self.cells)
        for x, counts in zip(sequence, real, strict=True):
            states = [_kept(*pair, counts) for pair in zip(self._read(x[None], states), states, strict=True)]
        asked = torch.cat([query, last.expand(len(query), -1)], 1)
        every = [tuple(part.expand(len(query), -1) for part in state) for state in states]
        return self.answer(self._read(asked, every)[-1][0])

    def _read(self, x: Tensor, states: list[State]) -> list[State]:
        found: list[State] = []
        for cell, state in zip(self.cells, states, strict=True):
            found.append(cell(x, *state))
            x = found[-1][0]
        return found


class Memory(Recurrent):
    """A memory-augmented network: an LSTM that writes to the least recently used slots (Santoro et al. 2016, section 3).

    Each of the read heads has a key of its own and writes it between the slots that it read last and one least used slot
    (equations 5 to 8). Where several slots are used equally little, as all are at the start, each head takes another one; the
    paper's equation 6 would take them all. The paper presents examples in random order; here they come class by class, as data
    sets give them, see :class:`Reader`.

    Args:
        features, labels, outputs: see :class:`Reader`.
        hidden: units of the controller (200 in the paper).
        slots: of the memory (128 in the paper).
        width: of a slot (40 in the paper).
        heads: that read and write (4 in the paper).
        decay: of the slots' usage in each step (0.99 in the paper).
    """

    ordered: ClassVar[bool] = True

    def __init__(
        self, features: int, labels: int, outputs: int, hidden: int, slots: int, width: int, heads: int, decay: float
    ) -> None:
        super().__init__()
        if not 1 <= heads <= slots or width < 1:
            raise UserError(
                f"algorithm.reader.heads={heads}, slots={slots}, width={width}: at least 1 each, and no more heads than slots"
            )
        if not 0 < decay < 1:
            raise UserError(f"algorithm.reader.decay={decay}: between 0 and 1")
        self.slots, self.width, self.heads, self.decay = slots, width, heads, decay
        self.cell = ReaderCell(features + labels + heads * width, hidden)
        self.keys = nn.Linear(hidden, heads * width)
        self.gate = nn.Linear(hidden, heads)
        self.answer = nn.Linear(hidden + heads * width, outputs)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`; a query reads, and writes nothing."""
        sequence, last = self.shifted(support, labels, real)
        state = self._start(support)
        for x, counts in zip(sequence, real, strict=True):
            state = _kept(self._step(x[None], state), state, counts)
        output, cell, read, memory, _, _ = state
        count = len(query)
        asked = torch.cat([query, last.expand(count, -1), read.expand(count, -1)], 1)
        output, _ = self.cell(asked, output.expand(count, -1), cell.expand(count, -1))
        weights = self._weights(self.keys(output).unflatten(1, (self.heads, self.width)), memory)
        return self.answer(torch.cat([output, (weights @ memory).flatten(1)], 1))

    def _start(self, like: Tensor) -> State:
        """Output, cell, read (1, heads * width), memory (slots, width), usage (slots,) and read weights (heads, slots)."""
        memory = like.new_full((self.slots, self.width), 1e-6)  # zeros have no direction
        nothing = like.new_zeros(1, self.heads * self.width)
        return *self.cell.start(like), nothing, memory, like.new_zeros(self.slots), like.new_zeros(self.heads, self.slots)

    def _step(self, x: Tensor, state: State) -> State:
        output, cell, read, memory, usage, weights = state
        output, cell = self.cell(torch.cat([x, read], 1), output, cell)
        keys = self.keys(output).view(self.heads, self.width)
        order = torch.argsort(usage.detach(), stable=True)[: self.heads]
        least = (order[:, None] == torch.arange(self.slots, device=usage.device)).to(usage.dtype)  # (heads, slots)
        gate = torch.sigmoid(self.gate(output)).view(self.heads, 1)
        written = gate * weights + (1 - gate) * least
        memory = memory * (1 - least.sum(0))[:, None] + written.transpose(0, 1) @ keys
        weights = self._weights(keys, memory)
        usage = self.decay * usage + (weights + written).sum(0)
        return output, cell, (weights @ memory).view(1, -1), memory, usage, weights

    def _weights(self, keys: Tensor, memory: Tensor) -> Tensor:
        """(..., heads, slots): softmax of the cosines of keys (..., heads, width) with slots (slots, width)."""
        return (F.normalize(keys, dim=-1) @ F.normalize(memory, dim=-1).transpose(0, 1)).softmax(-1)
