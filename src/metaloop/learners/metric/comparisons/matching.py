"""Matching networks: attention over single support examples."""

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.rules.coordinates import LSTMCell
from metaloop.learners.metric.comparison import Comparison, Embedding, Scale, belongs, cosines
from metaloop.problems.task_loss import restricted
from metaloop.types import Examples


def attended(scores: Tensor, labels: Examples) -> Tensor:
    """Logarithm of each class's unnormalised attention, (queries, ways), from ``scores`` (queries, examples)."""
    return restricted(scores[:, None], belongs(labels)).logsumexp(-1)


class Matching(Comparison):
    """Attention to all support examples by cosine, summed by class (Vinyals et al. 2016, eq. 1).

    Args:
        scale: factor of the cosines. The paper has 1, with which the loss cannot get near 0.
        learn_scale: whether the scale is a meta-parameter.
    """

    def __init__(self, scale: float = 10.0, learn_scale: bool = False) -> None:
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        return attended(self.scale(cosines(query, support)), labels)


class MatchingInContext(Comparison):
    """Matching networks with full context embeddings (Vinyals et al. 2016, section 2.1.2 and appendix A.1 and A.2).

    A bidirectional LSTM reads the support set, so a support example's embedding depends on the others and on their order. Data
    sets give the support set class by class: with fixed shots, an example's position reveals its class. A second LSTM, which
    attends to the support set, reads each query several times. Padding is skipped.

    Args:
        embedding: size of the model's output.
        reads: number of times that a query is read.
        scale: factor of the cosines, as in :class:`Matching`.
        learn_scale: whether the scale is a meta-parameter.
    """

    def __init__(self, embedding: Embedding, reads: int = 5, scale: float = 10.0, learn_scale: bool = False) -> None:
        super().__init__()
        if reads < 1:
            raise UserError(f"algorithm.comparison.reads={reads}: at least 1")
        width, dtype = embedding.width(), torch.get_default_dtype()
        self.reads = reads
        self.scale = Scale(scale, learn_scale)
        self.forth = LSTMCell(width, width, dtype)
        self.back = LSTMCell(width, width, dtype)
        self.reader = LSTMCell(2 * width, width, dtype)  # reads the query and what it attended to last

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        real = torch.ones_like(labels.y, dtype=torch.bool) if labels.mask is None else labels.mask
        forward = _lstm_outputs(self.forth, support, real)
        backward = _lstm_outputs(self.back, support.flip(0), real.flip(0)).flip(0)
        context = torch.where(real[:, None], support + forward + backward, 0.0)
        return attended(self.scale(cosines(self._read(query, context, real), context)), labels)

    def _read(self, query: Tensor, context: Tensor, real: Tensor) -> Tensor:
        """Embed queries by reading them ``reads`` times: (queries, features)."""
        output = cell = read = torch.zeros_like(query)
        for _ in range(self.reads):
            output, cell = self.reader(torch.cat([query, read], -1), output, cell)
            output = output + query
            read = restricted(output @ context.T, real).softmax(-1) @ context
        return output


def _lstm_outputs(lstm: LSTMCell, sequence: Tensor, real: Tensor) -> Tensor:
    """Run an LSTM over ``sequence``: (examples, features). Examples that are not real do not change its state."""
    output = cell = torch.zeros_like(sequence[:1])
    outputs = []
    for x, counts in zip(torch.split(sequence, 1), torch.split(real, 1), strict=True):
        after = lstm(x, output, cell)
        output, cell = (torch.where(counts, new, old) for new, old in zip(after, (output, cell), strict=True))
        outputs.append(output)
    return torch.cat(outputs)
