"""Whether an encoder reads texts as ours are read: both ways, behind an additive mask, whatever pads them. Found by trying."""

from collections.abc import Callable, Mapping
from itertools import chain, cycle, islice

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from metaloop.errors import UserError
from metaloop.models.transformers.padding import MASK

_MOST = 4  # tokens of a text that is tried
# Of the greatest state; rounding is a hundredth of it on MiniLM, the weakest leak of padding that was seen three times it.
_TOLERANCE = 2e-5
States = Callable[[Mapping[str, Tensor]], Tensor]


def two_texts(settings: PretrainedConfig, length: int) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` (2, tokens) of distinct words; the second has padding if ``length`` allows it."""
    tokens, size = min(_MOST, length), settings.vocab_size
    special = {value for key, value in vars(settings).items() if key.endswith("_token_id")}
    # Stored vocabularies keep their special tokens at an end.
    upwards = chain(range(size // 2, size), range(size // 2))
    words = list(islice((number for number in upwards if number not in special), 2 * tokens)) or [0]
    ids = torch.tensor(list(islice(cycle(words), 2 * tokens))).view(tokens, 2).T.contiguous()
    mask = torch.ones_like(ids)
    mask[1, (tokens + 1) // 2 :] = 0
    padding = getattr(settings, "pad_token_id", None) or 0
    return {"input_ids": ids.where(mask > 0, torch.tensor(padding)), MASK: mask}


def check_encoder(encoder: nn.Module, states: States, length: int) -> None:
    """Raise a UserError unless ``states`` are those of a bidirectional encoder that sees nothing of padding.

    A few tokens are read, for milliseconds; nothing is read of an encoder on the meta device.

    Args:
        encoder: of the transformers library, in float32.
        states: calls it with an additive mask; inputs (texts, tokens) to (texts, tokens, width).
        length: the most tokens of a text.
    """
    if next(encoder.parameters()).device.type == "meta":
        return
    training = encoder.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            fault = _fault(encoder.eval(), states, length)
    except Exception as error:  # encoders refuse such a mask, or so few tokens, in many ways
        fault = f"it fails on a short text ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    finally:
        encoder.train(training)
    if fault is not None:
        raise UserError(
            f"model: model_type={encoder.config.model_type} cannot be used as a text encoder here: {fault}; take bert, "
            f"roberta, electra, distilbert, albert, mpnet or the like"
        )


def _fault(encoder: nn.Module, states: States, length: int) -> str | None:
    x = two_texts(encoder.config, length)
    ids, real = x["input_ids"], x[MASK][1] > 0
    found = states(x)
    if found.shape[:-1] != ids.shape:
        return f"its states of {tuple(ids.shape)} tokens have the shape {tuple(found.shape)}"
    whole, padded = found[0], found[1, real]
    if not (whole.isfinite().all() and padded.isfinite().all()):
        return "its states are not finite"
    if not torch.equal(ids[0, real], ids[1, real]) and _close(padded, whole[real]):
        return "different texts have the same states"
    if not _close(encoder(input_ids=ids[:1]).last_hidden_state[0], whole):
        return "it sees no later tokens (a decoder), or takes masks of another kind"
    short = ids[1:, real]
    return None if _close(padded, states({"input_ids": short, MASK: torch.ones_like(short)})[0]) else "it reads padding"


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * other.abs().max())  # false of what is not a number
