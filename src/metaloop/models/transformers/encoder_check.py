"""A check by trial that an encoder is bidirectional, takes an additive mask and ignores padding."""

from collections.abc import Callable, Mapping
from itertools import chain, cycle, islice

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from metaloop.errors import UserError
from metaloop.models.transformers.padding import MASK

_MOST = 4  # most tokens of a trial text
# Relative to the largest state. On MiniLM rounding is a hundredth of it; the weakest leak of padding seen is three times it.
_TOLERANCE = 2e-5
States = Callable[[Mapping[str, Tensor]], Tensor]


def two_texts(settings: PretrainedConfig, length: int) -> dict[str, Tensor]:
    """Return ``input_ids`` and ``attention_mask`` (2, tokens) of distinct words.

    The second text has padding if ``length`` allows it.
    """
    tokens, size = min(_MOST, length), settings.vocab_size
    special = {value for key, value in vars(settings).items() if key.endswith("_token_id")}
    # Stored vocabularies have their special tokens at an end, so words are taken from the middle.
    from_middle = chain(range(size // 2, size), range(size // 2))
    words = list(islice((number for number in from_middle if number not in special), 2 * tokens)) or [0]
    ids = torch.tensor(list(islice(cycle(words), 2 * tokens))).view(tokens, 2).T.contiguous()
    mask = torch.ones_like(ids)
    mask[1, (tokens + 1) // 2 :] = 0
    padding = getattr(settings, "pad_token_id", None) or 0
    return {"input_ids": ids.where(mask > 0, torch.tensor(padding)), MASK: mask}


def check_encoder(encoder: PreTrainedModel, states: States, length: int) -> None:
    """Raise a UserError unless ``states`` are those of a bidirectional encoder that ignores padding.

    The check reads a few tokens, which takes milliseconds. It is skipped for an encoder on the meta device.

    Args:
        encoder: encoder of the transformers library, in float32.
        states: calls the encoder with an additive mask; maps inputs (texts, tokens) to (texts, tokens, width).
        length: most tokens of a text.
    """
    if next(encoder.parameters()).device.type == "meta":
        return
    training = encoder.training
    encoder.train(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            fault = _fault(encoder, states, length)
    except Exception as error:  # encoders refuse such a mask, or so few tokens, with many kinds of error
        fault = f"it fails on a short text ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    finally:
        encoder.train(training)
    if fault is not None:
        raise UserError(
            f"model: model_type={encoder.config.model_type} cannot be used as a text encoder here: {fault}; take bert, "
            f"roberta, electra, distilbert, albert, mpnet or the like"
        )


def _fault(encoder: PreTrainedModel, states: States, length: int) -> str | None:
    x = two_texts(encoder.config, length)
    ids, real = x["input_ids"], x[MASK][1] > 0
    result = states(x)
    if result.shape[:-1] != ids.shape:
        return f"its states of {tuple(ids.shape)} tokens have the shape {tuple(result.shape)}"
    whole, padded = result[0], result[1, real]
    if not (whole.isfinite().all() and padded.isfinite().all()):
        return "its states are not finite"
    if not torch.equal(ids[0, real], ids[1, real]) and _close(padded, whole[real]):
        return "different texts have the same states"
    if not _close(encoder(input_ids=ids[:1]).last_hidden_state[0], whole):
        return "it sees no later tokens (a decoder), or takes masks of another kind"
    short = ids[1:, real]
    return None if _close(padded, states({"input_ids": short, MASK: torch.ones_like(short)})[0]) else "it reads padding"


def _close(result: Tensor, expected: Tensor) -> bool:
    return bool((result - expected).abs().max() <= _TOLERANCE * expected.abs().max())  # false if a number is NaN
