"""Matching networks: attention over single support examples."""

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.rules.coordinates import LSTMCell
from metaloop.learners.metric.comparison import Comparison, Embedding, Scale, belongs, cosines
from metaloop.problems.task_loss import restricted
from metaloop.types import Examples


def attended(scores: Tensor, labels: Examples) -> Tensor:
    """(queries, ways): the logarithm of what each class gets of the attention ``scores`` (queries, examples), unnormalised."""
    return restricted(scores[:, None], belongs(labels)).logsumexp(-1)


class Matching(Comparison):
    """A softmax over the cosines to all support examples, whose shares are summed by class (Vinyals et al. 2016, eq. 1).

    Args:
        scale: of the cosines. The paper has 1, under which the loss has a floor well above 0.
        learn_scale: whether it is a meta-parameter.
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

    A bidirectional LSTM passes over the support set, so a support example's embedding depends on the others and on their order,
    which is class by class, as data sets give it: where shots are fixed, an example's position tells its class. An LSTM that
    attends to the support set reads each query several times. Padding is passed over.

    Args:
        embedding: what the model answers.
        reads: of each query.
        scale: of the cosines, as in :class:`Matching`.
        learn_scale: whether it is a meta-parameter.
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
        self.reader = LSTMCell(2 * width, width, dtype)  # of the query and what was last attended to

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        real = torch.ones_like(labels.y, dtype=torch.bool) if labels.mask is None else labels.mask
        forth = _passed(self.forth, support, real)
        back = _passed(self.back, support.flip(0), real.flip(0)).flip(0)
        context = torch.where(real[:, None], support + forth + back, 0.0)
        return attended(self.scale(cosines(self._read(query, context, real), context)), labels)

    def _read(self, query: Tensor, context: Tensor, real: Tensor) -> Tensor:
        """(queries, features): the queries as the reader knows them after its last look."""
        output = cell = read = torch.zeros_like(query)
        for _ in range(self.reads):
            output, cell = self.reader(torch.cat([query, read], -1), output, cell)
            output = output + query
            read = restricted(output @ context.T, real).softmax(-1) @ context
        return output


def _passed(lstm: LSTMCell, sequence: Tensor, real: Tensor) -> Tensor:
    """(examples, features): an LSTM's output at each example of ``sequence``; at those that are not real it stands still."""
    output = cell = torch.zeros_like(sequence[:1])
    outputs = []
    for x, here in zip(sequence.split(1), real.split(1), strict=True):
        after = lstm(x, output, cell)
        output, cell = (torch.where(here, new, old) for new, old in zip(after, (output, cell), strict=True))
        outputs.append(output)
    return torch.cat(outputs)
