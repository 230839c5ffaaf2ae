"""Text encoders of the transformers library, made fit for an inner loop."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from metaloop.errors import UserError
from metaloop.models.norm import with_own_layer_norms

INPUTS = ("input_ids", "attention_mask")


class TextClassifier(nn.Module):
    """A bidirectional encoder, the mean of its last hidden states over real tokens, and a linear head.

    What differs from the encoder as it comes: attention is the eager implementation (the fused ones have no double backward on
    CPU), layer norms are ours (the native ones are wrong in second order under vmap), the unused pooler is dropped, weights are
    float32, and dropout is off unless asked for, because the inner loop's gradients should not be noisy.

    Args:
        input_shape: (length,) of a token sequence.
        outputs: numbers of the linear head; None for no head, so that the network answers features.
        name_or_path: a folder that ``save_pretrained`` wrote, or the name of a model in the local Hugging Face cache. Nothing
            is downloaded here.
        config: of a randomly initialised encoder: ``model_type`` and any of its configuration's fields.
        dropout: probability of all dropout layers in training.

    Raises:
        UserError: neither ``name_or_path`` nor ``config`` is given, the encoder cannot be found or is none, or
            sequences are too long for it.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        name_or_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # A YAML file cannot drop the default config, so a name wins over it.
        settings = _found(name_or_path) if name_or_path is not None else _described(config)
        _check(settings, input_shape)
        for key in vars(settings):
            if "dropout" in key or key.endswith("pdrop"):
                setattr(settings, key, dropout)
        encoder = _encoder(settings, name_or_path).float()
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
        for layer in encoder.modules():
            # It hides a gradient from plain autograd, not from vmap. Padding is masked, so that its gradient is zero anyway.
            if isinstance(layer, nn.Embedding):
                layer.padding_idx = None
        self.encoder = with_own_layer_norms(encoder)
        self.features = settings.hidden_size
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """``input_ids`` and ``attention_mask`` (examples, length) to (examples, outputs), or (examples, features).

        ``attention_mask`` is 1 for real tokens, 0 for padding.
        """
        if isinstance(x, Tensor) or not set(INPUTS) <= set(x):
            raise UserError("this model reads token ids: the data set's inputs must be a mapping with " + ", ".join(INPUTS))
        real = x["attention_mask"].to(self._dtype)
        # The library's own mask helper fails under vmap; a 4-D mask that is added to the scores passes through untouched.
        scores = (1 - real)[:, None, None, :] * torch.finfo(self._dtype).min
        hidden = self.encoder(input_ids=x["input_ids"], attention_mask=scores).last_hidden_state
        pooled = (hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        return pooled if self.head is None else self.head(pooled)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.encoder.parameters()).dtype


def _described(config: Mapping[str, Any] | None) -> PretrainedConfig:
    fields = dict(config or {})
    if "model_type" not in fields:
        raise UserError("model: give name_or_path=FOLDER, or config with a model_type such as bert and its fields")
    kind = fields.pop("model_type")
    try:
        return AutoConfig.for_model(kind, **fields)
    except (ValueError, TypeError) as error:
        raise UserError(f"model.config: {' '.join(str(error).split())[:300]}") from error


def _found(name_or_path: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(name_or_path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _absent(name_or_path) from error


def _encoder(settings: PretrainedConfig, name_or_path: str | None) -> PreTrainedModel:
    if name_or_path is None:
        return AutoModel.from_config(settings, attn_implementation="eager")
    try:
        return AutoModel.from_pretrained(name_or_path, config=settings, local_files_only=True, attn_implementation="eager")
    except (OSError, ValueError) as error:
        raise _absent(name_or_path) from error


def _absent(name_or_path: str) -> UserError:
    return UserError(
        f"model.name_or_path={name_or_path!r} is neither a folder with a config and weights nor a model in the local Hugging "
        f"Face cache, and nothing is downloaded during a run. Where there is a network: hf download {name_or_path} "
        "--local-dir FOLDER, read the licence in its model card, then model.name_or_path=FOLDER"
    )


def _check(settings: PretrainedConfig, input_shape: tuple[int, ...]) -> None:
    if settings.is_encoder_decoder or getattr(settings, "is_decoder", False):
        raise UserError(f"model: {settings.model_type} is not an encoder; take bert, roberta, electra or the like")
    if len(input_shape) != 1:
        raise UserError(f"this model reads token ids (length,); the data set gives {tuple(input_shape)}; try model=conv4")
    longest = getattr(settings, "max_position_embeddings", None)
    if longest is not None and input_shape[0] > longest:
        raise UserError(f"sequences of {input_shape[0]} tokens; the encoder takes at most {longest}: cut them")
