"""Vision models of the transformers library, adapted to inner loops."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from metaloop.errors import UserError
from metaloop.models.model import KeepsFiles, Model
from metaloop.models.norm import (
    OF_EXAMPLES,
    LayerNorm,
    Network,
    Norm,
    own_layer_norm,
    with_own_layer_norms,
    with_replaced_layers,
)
from metaloop.models.transformers.files import drop_pooler, random_weights, stored_weights

NORMS = (*OF_EXAMPLES, "running", "none")  # modes that can replace a batch norm with the meaning of its parameters
_CLASS_TOKENS = ("cls_token", "class_embedding")  # names of a class token's parameter
ADVICE = "With a network: hf download {name} --local-dir FOLDER, read the licence, then set model.name_or_path=FOLDER"


class ImageClassifier(nn.Module, Model, KeepsFiles):
    """A vision backbone (such as ViT, ResNet or ConvNeXt), its pooled features, and a linear head.

    Differences from the library's backbone: attention is the eager implementation (the fused ones have no double backward on
    CPU), batch norms are ours in the mode ``norm``, layer norms are ours (the native ones are wrong in second order under
    vmap), a ViT's unused pooler is dropped, weights are float32, and dropout is off by default.

    Features are the last state of the class token if the network has one (ViT, DeiT, DINOv2), else the mean over tokens or
    places (Swin, SigLIP, Segformer). Networks without attention use their own pooling (ConvNeXt, ResNet).

    Args:
        input_shape: (channels, height, width) of an image; a patch-based model is built for this size or interpolates to it.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        name_or_path: a folder that ``save_pretrained`` wrote, or the name of a model in the local Hugging Face cache. Nothing
            is downloaded.
        config: configuration of a randomly initialised network: ``model_type`` and any of its fields.
        norm: mode of :class:`metaloop.models.norm.Norm` for batch norms; other norms keep their kind.
        dropout: probability of all dropout layers in training.
        mean, std: mean and standard deviation of each channel, in [0, 1], with which images are standardised for the weights.

    Raises:
        UserError: neither ``name_or_path`` nor ``config`` is given, the network cannot be found or does not read such
            images, or an argument is out of range.
    """

    takes_weight = True
    encoder: PreTrainedModel
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        name_or_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        norm: str = "batch",
        dropout: float = 0.0,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        _check(input_shape, norm, dropout, mean, std)
        self._read(name_or_path, config, input_shape, dropout)
        self.encoder = with_own_batch_norms(with_own_channel_norms(with_own_layer_norms(self.encoder)), norm)
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)
        try:
            with torch.no_grad():
                features = self.eval()._features(torch.zeros(2, *input_shape))
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise UserError(f"model: this network does not read images of shape {tuple(input_shape)}: {error}") from error
        if features.ndim != 2:
            raise UserError(f"model: this network returns {tuple(features.shape)} for 2 images; it must return one vector each")
        self.features = features.shape[1]
        self.train()
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None

    def _read(
        self, name_or_path: str | None, config: Mapping[str, Any] | None, input_shape: tuple[int, ...], dropout: float
    ) -> None:
        # A YAML file cannot remove the default config, so a name takes precedence.
        settings = _stored(name_or_path) if name_or_path is not None else _described(config, input_shape)
        for key in vars(settings):
            if "dropout" in key or key in ("drop_path_rate", "hidden_dropout_prob"):
                setattr(settings, key, dropout)
        if hasattr(settings, "vision_use_head"):
            settings.vision_use_head = False  # SigLIP's pooler
        self.encoder = _encoder(settings, name_or_path)
        self.encoder.float()  # type: ignore[no-untyped-call]  # the library declares no types for it
        # Position embeddings of trained weights are interpolated to the size of the data set's images.
        size = getattr(settings, "image_size", None)
        self._interpolate = size is not None and tuple(input_shape[1:]) != (
            (size, size) if isinstance(size, int) else tuple(size)
        )
        names = {name.rpartition(".")[2] for name, _ in self.encoder.named_parameters()}
        self._class_token = not names.isdisjoint(_CLASS_TOKENS)
        self._attends = hasattr(settings, "num_attention_heads")
        if self._attends:
            drop_pooler(self.encoder)

    @staticmethod
    def keep(name_or_path: str, folder: Path) -> None:
        """Write the configuration of a stored model into ``folder``, without its weights."""
        _stored(name_or_path).save_pretrained(folder)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, channels, height, width) in [0, 1] to (examples, outputs), or (examples, features).

        ``weight`` (examples,): see :meth:`metaloop.models.norm.Norm.forward`.
        """
        with weighing(self.encoder, weight):
            x = self._features(x)
        return x if self.head is None else self.head(x)

    def _features(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        options = {"interpolate_pos_encoding": True} if self._interpolate else {}
        outputs = self.encoder(x, **options)
        hidden: Tensor = outputs.last_hidden_state
        if not self._attends and outputs.get("pooler_output") is not None:
            hidden = outputs.pooler_output  # the mean over places, which ConvNeXt also normalizes
        elif hidden.ndim == 3:
            hidden = hidden[:, 0] if self._class_token else hidden.mean(1)
        return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden


class WeighedNorm(Norm):
    """A norm inside a network that passes no weights on; :func:`weighing` sets them."""

    def __init__(self, channels: int, mode: str, eps: float, momentum: float) -> None:
        super().__init__(channels, mode, eps=eps, momentum=momentum)
        self.example_weight: Tensor | None = None

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """See :meth:`Norm.forward`."""
        return super().forward(x, self.example_weight if weight is None else weight)


@contextmanager
def weighing(model: nn.Module, weight: Tensor | None) -> Iterator[None]:
    """Weight the examples by ``weight`` (examples,) in the batch norms of ``model`` inside this context."""
    layers = [layer for layer in model.modules() if isinstance(layer, WeighedNorm)]
    for layer in layers:
        layer.example_weight = weight
    try:
        yield
    finally:
        for layer in layers:
            layer.example_weight = None


class ChannelNorm(LayerNorm):
    """Layer norm over the channels of (examples, channels, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x`` over channels and apply the affine map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def with_own_channel_norms(model: Network) -> Network:
    """Replace ConvNeXt's layer norms, which have two orders of axes, by ours, in place, and return the model."""

    def replacement(layer: nn.Module) -> nn.Module | None:
        if not (isinstance(layer, nn.LayerNorm) and hasattr(layer, "data_format")):  # an attribute of ConvNeXt's class
            return None
        return own_layer_norm(layer, ChannelNorm if layer.data_format == "channels_first" else LayerNorm)

    return with_replaced_layers(model, replacement)


def with_own_batch_norms(model: Network, mode: str) -> Network:
    """Replace every ``torch.nn.BatchNorm2d`` of ``model`` by ours, in place, and return the model.

    Parameters and running averages are kept.
    """

    def replacement(layer: nn.Module) -> nn.Module | None:
        if type(layer) is not nn.BatchNorm2d:
            return None
        norm = WeighedNorm(layer.num_features, mode, layer.eps, layer.momentum or 0.1)
        if mode != "none":
            norm.weight, norm.bias = layer.weight, layer.bias
        if mode == "running" and layer.running_mean is not None and layer.running_var is not None:
            norm.running_mean, norm.running_var = layer.running_mean, layer.running_var
        return norm

    return with_replaced_layers(model, replacement)


def _described(config: Mapping[str, Any] | None, input_shape: tuple[int, ...]) -> PretrainedConfig:
    fields = {"image_size": input_shape[1], "num_channels": input_shape[0], **(config or {})}
    kind = fields.pop("model_type", None)
    if kind is None:
        raise UserError("model: give name_or_path=FOLDER, or config with a model_type such as vit, resnet or convnext")
    try:
        return AutoConfig.for_model(kind, **fields)
    except (ValueError, TypeError) as error:
        raise UserError(f"model.config: {' '.join(str(error).split())[:300]}") from error


def _stored(name: str) -> PretrainedConfig:
    try:
        settings: PretrainedConfig = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _absent(name) from error
    return settings


def _encoder(settings: PretrainedConfig, name: str | None) -> PreTrainedModel:
    try:
        if name is not None:
            return stored_weights(name, config=settings, local_files_only=True)
        return random_weights(settings)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        if name is not None:
            raise _absent(name) from error
        raise UserError(f"model.config: {' '.join(str(error).split())[:300]}") from error


def _absent(name: str) -> UserError:
    return UserError(
        f"model.name_or_path={name!r} is neither a folder with a config and weights nor a model in the local Hugging Face "
        f"cache, and nothing is downloaded during a run. {ADVICE.format(name=name)}"
    )


def _check(input_shape: tuple[int, ...], norm: str, dropout: float, mean: Sequence[float], std: Sequence[float]) -> None:
    if len(input_shape) != 3:
        raise UserError(
            f"this model reads images (channels, height, width); the data set gives {tuple(input_shape)}; try model=mlp"
        )
    if norm not in NORMS:
        raise UserError(f"model.norm={norm!r}: one of {', '.join(NORMS)}")
    if not 0 <= dropout < 1:
        raise UserError(f"model.dropout={dropout!r}: a probability from 0 to below 1")
    if len(mean) not in (1, input_shape[0]) or len(std) not in (1, input_shape[0]) or min(std) <= 0:
        raise UserError(f"model.mean={list(mean)}, model.std={list(std)}: {input_shape[0]} numbers each, std above 0")
