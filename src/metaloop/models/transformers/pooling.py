"""Pooling of an encoder's token states to one vector for each text."""

import torch
from torch import Tensor, nn

from metaloop.errors import UserError

POOLINGS = ("cls", "mean", "attention")


class Pooling(nn.Module):
    """One vector for each sequence of states, without padding.

    * ``cls``: the first token's state, as in BERT (Devlin et al. 2019).
    * ``mean``: the mean over tokens, as in Sentence-BERT (Reimers and Gurevych 2019).
    * ``attention``: a weighted mean, whose weights are the softmax of the states' dot products with a learned query (Yang et
      al. 2016, equations 5 to 7, without the layer before them). The query starts at zero, which gives the mean.
    """

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise UserError(f"model.pooling={kind!r}: one of {', '.join(POOLINGS)}")
        self.kind = kind
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(width))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Map ``states`` (examples, length, width) and ``real`` (examples, length), 0 for padding, to (examples, width)."""
        if self.kind == "cls":
            return states[:, 0]
        if self.kind == "mean":
            return (states * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        products: Tensor = states @ self.query
        scores = products / states.shape[-1] ** 0.5 + (1 - real) * torch.finfo(states.dtype).min
        pooled: Tensor = (states * scores.softmax(-1)[..., None]).sum(1)
        return pooled
