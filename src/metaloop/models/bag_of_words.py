"""TF-IDF, the baseline of text classification without training."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords
from metaloop.models.model import Model, ReadsTexts
from metaloop.types import Inputs


class BagOfWords(nn.Module, Model, ReadsTexts):
    """Term frequency times inverse document frequency, scaled to unit length, and a linear head.

    The inverse document frequency of a token is ``ln((1 + n) / (1 + d)) + 1`` for the ``d`` of the ``n`` meta-training texts
    that contain it (scikit-learn's smoothed form; Sparck Jones 1972, "A statistical interpretation of term specificity"), so
    that texts of held-out classes do not change it. It is a buffer, not a parameter.

    Args:
        input_shape: (length,) of a token sequence.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        examples: the meta-training texts, ``input_ids`` and ``attention_mask`` (examples, length); set by the program.
        size: number of token ids.

    Raises:
        UserError: the data set's examples are not whole texts.
    """

    needs_examples: ClassVar[bool] = True
    features: int
    idf: Tensor

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None, examples: Inputs, size: int) -> None:
        super().__init__()
        if len(input_shape) != 1 or isinstance(examples, Tensor) or "input_ids" not in examples:
            raise UserError(f"this model reads token ids (length,); the data set gives {tuple(input_shape)}; try model=conv4")
        if "place" in examples:
            raise UserError(
                "model=tfidf counts a whole text's words; this data set's examples are single words: try model=minilm"
            )
        self.features = size
        self.register_buffer("idf", _inverse_document_frequency(examples, size))
        self.head = nn.Linear(size, outputs) if outputs is not None else None

    @classmethod
    def tokenizer(cls, settings: Mapping[str, object]) -> HashedWords:
        """See :meth:`ReadsTexts.tokenizer`."""
        size = settings["size"]
        if not isinstance(size, int):
            raise UserError(f"model.size={size!r}: a whole number of at least 2")
        return HashedWords(size)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Map ``input_ids`` and ``attention_mask`` (examples, length) to (examples, outputs), or (examples, features)."""
        weighted = _counts(x, self.features, self.idf.dtype) * self.idf
        features: Tensor = weighted / weighted.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return features if self.head is None else self.head(features)


def _counts(x: Mapping[str, Tensor], size: int, dtype: torch.dtype) -> Tensor:
    """Count the occurrences of each token: (examples, size)."""
    ids, real = x["input_ids"].long(), x["attention_mask"].to(dtype)
    return torch.zeros(len(ids), size, dtype=dtype, device=ids.device).scatter_add(1, ids, real)


def _inverse_document_frequency(examples: Mapping[str, Tensor], size: int) -> Tensor:
    """Return the inverse document frequencies (size,); a token counts once in each text."""
    real = examples["attention_mask"].cpu().bool()
    ids = examples["input_ids"].cpu().long()
    text = torch.arange(len(ids))[:, None] * size
    documents = (torch.unique((text + ids)[real]) % size).bincount(minlength=size)
    return torch.log((1 + len(ids)) / (1 + documents)) + 1
