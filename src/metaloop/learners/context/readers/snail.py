"""SNAIL: temporal convolutions and causal attention over the sequence of support pairs (Mishra et al. 2018)."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import attend


class Dense(nn.Module):
    """A dense block: appends the output of one gated causal convolution of size two (Mishra et al. 2018, figure 2a).

    Args:
        channels: number of input channels.
        filters: number of channels that are appended.
        dilation: distance, in examples, between the two inputs of the convolution.
    """

    def __init__(self, channels: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.value, self.gate = nn.Linear(2 * channels, filters), nn.Linear(2 * channels, filters)

    def forward(self, sequence: Tensor, query: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Append channels to a sequence (examples, channels) and to queries (queries, channels).

        Each query is treated as the next element of the sequence. ``real`` (examples, 1) is 0 for padding.
        """
        past = F.pad(sequence, (0, 0, self.dilation, 0))  # zeros precede the first example
        length = len(sequence)
        sequence = torch.cat([sequence, self._convolved(sequence, past[:length]) * real], 1)
        return sequence, torch.cat([query, self._convolved(query, past[length].expand(len(query), -1))], 1)

    def _convolved(self, current: Tensor, earlier: Tensor) -> Tensor:
        both = torch.cat([current, earlier], 1)
        return torch.tanh(self.value(both)) * torch.sigmoid(self.gate(both))


class Attention(nn.Module):
    """An attention block: appends the output of causal attention over the sequence (Mishra et al. 2018, figure 2c).

    Args:
        channels: number of input channels.
        keys: size of keys and queries.
        values: number of channels that are appended.
    """

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(channels, keys), nn.Linear(channels, values)
        self.key = nn.Linear(
            channels, keys, bias=False
        )  # a bias would add the same number to all of a query's scores, which softmax ignores

    def forward(self, sequence: Tensor, query: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Dense.forward`; a query attends to the support and to itself."""
        keys, values, length = self.key(sequence), self.value(sequence), len(sequence)
        causal = torch.ones(length, length, dtype=torch.bool, device=sequence.device).tril() & (real[:, 0] > 0)
        attended = attend(self.query(sequence), keys, values, causal) * real
        query_key, query_value = self.key(query)[:, None], self.value(query)[:, None]
        count = len(query)
        all_keys = torch.cat([keys.expand(count, -1, -1), query_key], 1)
        all_values = torch.cat([values.expand(count, -1, -1), query_value], 1)
        allowed = torch.cat([real[:, 0] > 0, real.new_ones(1, dtype=torch.bool)])
        answers = attend(self.query(query)[:, None], all_keys, all_values, allowed)[:, 0]
        return torch.cat([sequence, attended], 1), torch.cat([query, answers], 1)


class Snail(Reader):
    """SNAIL (Mishra et al. 2018, section 3 and figure 3): attention, convolutions, attention, convolutions, attention.

    The sequence holds the support pairs in the order of the support set, which data sets give class by class (see
    :class:`Reader`). The last element is a query with a label of zeros. Activations of the support do not depend on the query,
    so they are computed once for all queries. Padding is moved before the first example, where it acts like the zeros there.

    Args:
        features, labels, outputs: see :class:`Reader`.
        filters: number of filters of each convolution (128 in the paper).
        keys, values: sizes of the keys (64, 256, 512 in the paper) and values (32, 128, 256) of the three attention blocks.
        horizon: length T of the sequences that a group of convolutions is made for, which has ceil(log2 T) of them.
        first_dilation: distance that the first of a group reaches back; each other reaches back twice as far as the one before.
            2 in the paper's pseudocode.
    """

    ordered: ClassVar[bool] = True

    def __init__(
        self,
        features: int,
        labels: int,
        outputs: int,
        filters: int,
        keys: list[int],
        values: list[int],
        horizon: int,
        first_dilation: int = 2,
    ) -> None:
        super().__init__()
        if horizon < 2 or filters < 1:
            raise UserError(
                f"algorithm.reader.horizon={horizon}, algorithm.reader.filters={filters}: at least 2 and at least 1"
            )
        if first_dilation < 1:
            raise UserError(f"algorithm.reader.first_dilation={first_dilation}: at least 1")
        if len(keys) != 3 or len(values) != 3:
            raise UserError(f"algorithm.reader.keys={keys}, algorithm.reader.values={values}: three numbers each")
        self.blocks = nn.ModuleList()
        channels = features + labels
        for number, (key, value) in enumerate(zip(keys, values, strict=True)):
            self.blocks.append(Attention(channels, key, value))
            channels += value
            for power in range(math.ceil(math.log2(horizon)) if number < 2 else 0):
                self.blocks.append(Dense(channels, filters, first_dilation * 2**power))
                channels += filters
        self.answer = nn.Linear(channels, outputs)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        padding_first = torch.argsort(real.to(torch.int8), stable=True)
        sequence = torch.cat([support, labels], 1)[padding_first]
        query = torch.cat([query, query.new_zeros(len(query), labels.shape[1])], 1)
        counts = real[padding_first].to(support.dtype)[:, None]
        for block in self.blocks:
            sequence, query = block(sequence, query, counts)
        answers: Tensor = self.answer(query)
        return answers
