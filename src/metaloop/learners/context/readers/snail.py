"""Temporal convolutions and causal attention over the sequence of support pairs (Mishra et al. 2018)."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import attend


class Dense(nn.Module):
    """A dense block: one gated causal convolution of size two, its output appended (Mishra et al. 2018, figure 2a).

    Args:
        channels: of the input.
        filters: that are appended.
        dilation: how far back the convolution looks.
    """

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.value, self.gate = nn.Linear(2 * channels, filters), nn.Linear(2 * channels, filters)

    def forward(self, sequence: Tensor, query: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(examples, channels) and queries (queries, channels), each as the next of the sequence, to the same with filters."""
        past = F.pad(sequence, (0, 0, self.dilation, 0))  # zeros before the first
        length = len(sequence)
        sequence = torch.cat([sequence, self._new(sequence, past[:length]) * real], 1)
        return sequence, torch.cat([query, self._new(query, past[length].expand(len(query), -1))], 1)

    def _new(self, now: Tensor, then: Tensor) -> Tensor:
        both = torch.cat([now, then], 1)
        return torch.tanh(self.value(both)) * torch.sigmoid(self.gate(both))


class Attention(nn.Module):
    """A causal look at the sequence so far, its outcome appended (Mishra et al. 2018, figure 2c).

    Args:
        channels: of the input.
        keys: size of keys and queries.
        values: that are appended.
    """

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(channels, keys), nn.Linear(channels, values)
        self.key = nn.Linear(channels, keys, bias=False)  # one would add the same to all scores of a query

    def forward(self, sequence: Tensor, query: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Dense.forward`; a query looks at the support and at itself."""
        keys, values, length = self.key(sequence), self.value(sequence), len(sequence)
        earlier = torch.ones(length, length, dtype=torch.bool, device=sequence.device).tril() & (real[:, 0] > 0)
        found = attend(self.query(sequence), keys, values, earlier) * real
        own_key, own_value = self.key(query)[:, None], self.value(query)[:, None]
        count = len(query)
        all_keys = torch.cat([keys.expand(count, -1, -1), own_key], 1)
        all_values = torch.cat([values.expand(count, -1, -1), own_value], 1)
        seen = torch.cat([real[:, 0] > 0, real.new_ones(1, dtype=torch.bool)])
        answers = attend(self.query(query)[:, None], all_keys, all_values, seen)[:, 0]
        return torch.cat([sequence, found], 1), torch.cat([query, answers], 1)


class Snail(Reader):
    """SNAIL (Mishra et al. 2018, section 3 and figure 3): attention, convolutions, attention, convolutions, attention.

    The support pairs come in the order of the support set, which data sets give class by class (see :class:`Reader`), a query
    last with a label of zeros. What the network computes for the support does not depend on the query, so it is computed once
    for all queries, each of which then is the last of a sequence of its own. Padding counts as if it stood before the first
    example.

    Args:
        features, labels, outputs: see :class:`Reader`.
        filters: of each convolution (128 in the paper).
        keys, values: sizes of the three attentions' keys (64, 256, 512 in the paper) and values (32, 128, 256).
        horizon: how many examples back the convolutions of one block reach; rounded up to a power of two.
    """

    ordered: ClassVar[bool] = True

    def __init__(
        self, features: int, labels: int, outputs: int, filters: int, keys: list[int], values: list[int], horizon: int
    ) -> None:
        super().__init__()
        if horizon < 2 or filters < 1:
            raise UserError(f"algorithm.reader.horizon={horizon}, algorithm.reader.filters={filters}: at least 2 and 1")
        if len(keys) != 3 or len(values) != 3:
            raise UserError(f"algorithm.reader.keys={keys}, algorithm.reader.values={values}: three numbers each")
        self.blocks = nn.ModuleList()
        channels = features + labels
        for number, (key, value) in enumerate(zip(keys, values, strict=True)):
            self.blocks.append(Attention(channels, key, value))
            channels += value
            for power in range(math.ceil(math.log2(horizon)) if number < 2 else 0):
                self.blocks.append(Dense(channels, filters, 2**power))
                channels += filters
        self.answer = nn.Linear(channels, outputs)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        first_padding = torch.argsort(real.to(torch.int8), stable=True)
        sequence = torch.cat([support, labels], 1)[first_padding]
        query = torch.cat([query, query.new_zeros(len(query), labels.shape[1])], 1)
        counts = real[first_padding].to(support.dtype)[:, None]
        for block in self.blocks:
            sequence, query = block(sequence, query, counts)
        return self.answer(query)
