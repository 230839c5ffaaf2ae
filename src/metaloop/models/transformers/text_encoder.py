"""Text encoders of the transformers library, adapted to inner loops."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from metaloop.errors import UserError
from metaloop.models.model import KeepsFiles, Model, ReadsTexts
from metaloop.models.norm import with_own_layer_norms
from metaloop.models.projection import projection_to
from metaloop.models.transformers.blocks import agree, blocks_of, first_moving, stand_alone, states_before, states_from
from metaloop.models.transformers.encoder_check import check_encoder, two_texts
from metaloop.models.transformers.files import drop_pooler, encoder_of, settings_of, tokenizer_of
from metaloop.models.transformers.padding import MASK, by_length
from metaloop.models.transformers.pooling import Pooling
from metaloop.models.transformers.tokenizers import HashingTokenizer, StoredTokenizer
from metaloop.types import Inputs

INPUTS = ("input_ids", MASK)
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")  # models that number positions from padding's token id + 1
PLACE = "place"  # input of word tasks: the position of the word's first token in its sentence
_STATES, _FEATURES = "states before ", "features"  # inputs that the network accepts in the place of tokens


class TextClassifier(nn.Module, Model, ReadsTexts, KeepsFiles):
    """A bidirectional encoder, its last states pooled over real tokens, and a linear head.

    Differences from the library's encoder: attention is the eager implementation (the fused ones have no double backward on
    CPU), layer norms are ours (the native ones are wrong in second order under vmap), the unused pooler is dropped, weights are
    float32, and dropout is off by default, so that the inner loop's gradients are not noisy.

    Args:
        input_shape: (length,) of a token sequence.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        name_or_path: a folder that ``save_pretrained`` wrote, ``package:NAME/FOLDER`` for a folder in an installed Python
            package, or a model's name in the local Hugging Face cache or on the hub, from where it is downloaded once.
        config: configuration of a randomly initialised encoder: ``model_type`` and any of its fields.
        dropout: probability of all dropout layers in training.
        pooling: "mean", "cls" or "attention", see :class:`Pooling`.
        frozen: whether the encoder never changes; it then reads every text once, and learners get features.
        projection: width of a meta-trained linear map between pooling and head; None for no map.

    Raises:
        UserError: neither ``name_or_path`` nor ``config`` is given, the encoder cannot be found, is no encoder or reads
            padding (:func:`check_encoder`), sequences are too long for it, or arguments exclude each other.
    """

    encoder: PreTrainedModel

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        name_or_path: str | None = None,
        config: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        pooling: str = "mean",
        frozen: bool = False,
        projection: int | None = None,
    ) -> None:
        super().__init__()
        # A YAML file cannot remove the default config, so a name takes precedence.
        settings = settings_of(name_or_path) if name_or_path is not None else _described(config)
        _check(settings, input_shape)
        if frozen and pooling == "attention":
            raise UserError("model.pooling=attention learns a query, but model.frozen=true; take pooling=mean or cls")
        for key, value in vars(settings).items():
            if ("dropout" in key or key.endswith("pdrop")) and not isinstance(value, bool):
                setattr(settings, key, dropout)
        # Stored encoders are loaded in evaluation mode, without dropout.
        encoder = encoder_of(settings, name_or_path)
        encoder.train()
        encoder.float()  # type: ignore[no-untyped-call]  # the library declares no types for it
        drop_pooler(encoder)
        for layer in encoder.modules():
            # ``padding_idx`` drops a gradient in plain autograd, not under vmap. Padding is masked, so that gradient is zero.
            if isinstance(layer, nn.Embedding):
                layer.padding_idx = None
        self.encoder = with_own_layer_norms(encoder).requires_grad_(not frozen)
        check_encoder(self.encoder, self._states, input_shape[0])
        self.pooling = Pooling(pooling, settings.hidden_size)
        self.projection = projection_to(projection, settings.hidden_size)
        self.features = projection or settings.hidden_size
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None
        self._noisy = dropout > 0
        self._length = input_shape[0]
        self._splits: dict[int, bool] = {}

    @classmethod
    def tokenizer(cls, settings: Mapping[str, Any]) -> StoredTokenizer | HashingTokenizer:
        """Return the stored model's tokenizer, or hashed words for random weights."""
        name_or_path = settings.get("name_or_path")
        if name_or_path is not None:
            return StoredTokenizer(tokenizer_of(name_or_path), name_or_path)
        return HashingTokenizer(_described(settings.get("config")).vocab_size)

    @staticmethod
    def keep(name_or_path: str, folder: Path) -> None:
        """Write the configuration and tokenizer of a stored model into ``folder``, without its weights."""
        settings_of(name_or_path).save_pretrained(folder)
        tokenizer_of(name_or_path).save_pretrained(folder)

    def described(self) -> str:
        """See :meth:`Model.described`: the stored configuration and the library's version."""
        return f"{transformers.__version__} {self.encoder.config.to_json_string()}"

    def forward(self, x: Inputs) -> Tensor:
        """Map ``input_ids`` and ``attention_mask`` (examples, length) to (examples, outputs), or (examples, features).

        ``attention_mask`` is 1 for real tokens and 0 for padding. With ``place`` (examples, 1) an example is the word at this
        position: its features are the last state of its first token, nothing is pooled, and consecutive words of one text share
        one reading of it. Results of :meth:`constant_part` are accepted in the place of these inputs.
        """
        pooled = x[_FEATURES] if not isinstance(x, Tensor) and _FEATURES in x else self._pooled(x)
        pooled = pooled if self.projection is None else self.projection(pooled)
        return pooled if self.head is None else self.head(pooled)

    def constant_part(self, moving: Collection[str]) -> Callable[[Inputs], Inputs] | None:
        """See :meth:`Model.constant_part`."""
        if self._noisy and self.training:
            return None
        below_head = [name for name in moving if name.startswith(("encoder.", "pooling."))]
        if not below_head:
            return self._constant_features
        name, blocks = blocks_of(self.encoder)
        in_blocks = [name for name in below_head if not name.startswith("pooling.")]
        count = first_moving(in_blocks, f"encoder.{name}.", len(blocks))
        return partial(self._constant_states, count) if count > 0 and self._splits_at(count) else None

    def _constant_features(self, x: Inputs) -> dict[str, Tensor]:
        return {_FEATURES: self._pooled(x)}

    def _constant_states(self, count: int, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the states before block ``count``, and the mask."""
        blocks = blocks_of(self.encoder)[1]

        def read(part: Mapping[str, Tensor]) -> Tensor:
            return states_before(lambda: self._states(part), blocks, count)

        if PLACE in x:  # places are positions in the whole length
            return {f"{_STATES}{count}": read(x), MASK: x[MASK], PLACE: x[PLACE]}
        return {f"{_STATES}{count}": by_length(read, {name: x[name] for name in INPUTS}), MASK: x[MASK]}

    def _splits_at(self, count: int) -> bool:
        """Return whether the blocks from ``count`` on can be called by themselves, without other state of the encoder."""
        if count not in self._splits:
            device = next(self.parameters()).device
            x = {name: value.to(device) for name, value in two_texts(self.encoder.config, self._length).items()}
            real = x[MASK] > 0
            self._splits[count] = stand_alone(
                lambda: self._states(x), self._scores(x), blocks_of(self.encoder)[1], count
            ) and agree(lambda: self._states(self._constant_states(count, x))[real], lambda: self._states(x)[real])
        return self._splits[count]

    def _pooled(self, x: Inputs) -> Tensor:
        if isinstance(x, Tensor) or not (set(INPUTS) <= set(x) or any(name.startswith(_STATES) for name in x)):
            raise UserError("this model reads token ids: the data set's inputs must be a mapping with " + ", ".join(INPUTS))
        if PLACE in x:
            return self._of_words(x)
        if not _traced():
            return by_length(self._whole, x)
        return self._whole(x)

    def _whole(self, x: Mapping[str, Tensor]) -> Tensor:
        pooled: Tensor = self.pooling(self._states(x), x[MASK].to(self._dtype))
        return pooled

    def _of_words(self, x: Mapping[str, Tensor]) -> Tensor:
        """Return the states (words, width) of words in sentences."""
        place = x[PLACE][..., None].long()
        if "input_ids" not in x or _traced():
            states = self._states(x)
        else:
            _, sentence = torch.unique_consecutive(x["input_ids"], return_inverse=True, dim=0)
            first = torch.searchsorted(sentence, torch.arange(int(sentence[-1]) + 1, device=sentence.device))
            states = self._states({name: x[name][first] for name in INPUTS})[sentence]
        return states.gather(1, place.expand(-1, -1, states.shape[-1]))[:, 0]

    def _states(self, x: Mapping[str, Tensor]) -> Tensor:
        """Return the last states (examples, length, width)."""
        scores = self._scores(x)
        key = next((name for name in x if name.startswith(_STATES)), None)
        if key is not None:
            return states_from(x[key], scores, blocks_of(self.encoder)[1], int(key.removeprefix(_STATES)))
        states: Tensor = self.encoder(input_ids=x["input_ids"].long(), attention_mask=scores).last_hidden_state
        return states

    def _scores(self, x: Mapping[str, Tensor]) -> Tensor:
        """Return the mask (examples, 1, 1, length) that is added to the attention scores; 0 for real tokens."""
        # The library's own mask helper fails under vmap; it leaves a 4-D mask of this kind unchanged.
        return (1 - x[MASK].to(self._dtype))[:, None, None, :] * torch.finfo(self._dtype).min

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(self.encoder.parameters()).dtype
        return dtype


def _traced() -> bool:
    """Return whether vmap or a compiler traces the call; shapes must then not depend on values."""
    return bool(torch._C._are_functorch_transforms_active()) or torch.compiler.is_compiling()


def _described(config: Mapping[str, Any] | None) -> PretrainedConfig:
    fields = dict(config or {})
    if "model_type" not in fields:
        raise UserError("model: give name_or_path=FOLDER, or config with a model_type such as bert and its fields")
    kind = fields.pop("model_type")
    attention = fields.get("attn_implementation", fields.get("_attn_implementation", "eager"))
    if attention != "eager":
        raise UserError(
            f"model.config.attn_implementation={attention!r}: only eager attention has second derivatives on every device and "
            f"works under vmap; take eager, or leave the key out"
        )
    try:
        return AutoConfig.for_model(kind, **fields)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"model.config: {' '.join(str(error).split())[:300]}") from error


def _check(settings: PretrainedConfig, input_shape: tuple[int, ...]) -> None:
    if settings.is_encoder_decoder or getattr(settings, "is_decoder", False):
        raise UserError(f"model: {settings.model_type} is not an encoder; take bert, roberta, electra or the like")
    if len(input_shape) != 1:
        raise UserError(f"this model reads token ids (length,); the data set gives {tuple(input_shape)}; try model=conv4")
    longest = getattr(settings, "max_position_embeddings", None)
    if longest is not None and settings.model_type in _AFTER_PADDING:
        longest -= settings.pad_token_id + 1
    if longest is not None and input_shape[0] > longest:
        raise UserError(f"sequences of {input_shape[0]} tokens; the encoder takes at most {longest}: lower dataset.length")
