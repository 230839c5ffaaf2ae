"""The published weights of Disco103."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metaloop.errors import UserError

PREDICTIONS, HIDDEN, META_HIDDEN = 600, 256, 128  # entries of y and z, units of the two LSTMs
_INPUTS = 27  # numbers that both LSTMs read of a transition
_META = "~/meta_lstm/~unroll/"
SOURCE = "update_rules/weights/disco_103.npz of github.com/google-deepmind/disco_rl, 2.8 MB, CC BY 4.0"


def _layer(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    convolution = "conv1_d" in name
    return {f"lstm/{name}/w": ((1, inputs, outputs) if convolution else (inputs, outputs)), f"lstm/{name}/b": (outputs,)}


def _readers(prefix: str) -> dict[str, tuple[int, ...]]:
    """Shapes of what makes one vector of a transition: embeddings of y, of z and of each action."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in ("mlp", "mlp_1"):
        shapes |= _layer(f"{prefix}{part}/~/linear_0", PREDICTIONS, 16) | _layer(f"{prefix}{part}/~/linear_1", 16, 1)
    return shapes | _layer(f"{prefix}sequential/conv1_d", 18, 16) | _layer(f"{prefix}sequential/conv1_d_1", 32, 2)


SHAPES = (
    _readers("")
    | _readers(_META)
    | _layer("lstm/linear", _INPUTS + HIDDEN, 4 * HIDDEN)
    | _layer("linear", META_HIDDEN, HIDDEN)
    | _layer("linear_1", HIDDEN, 1)
    | _layer("linear_2", HIDDEN, PREDICTIONS)
    | _layer("linear_3", HIDDEN, PREDICTIONS)
    | _layer("sequential_1/conv1_d", 2 * (HIDDEN + 2), 16)
    | _layer("linear_4", 16, 1)
    | _layer(f"{_META}mlp_2/~/linear_0", _INPUTS + 2, 16)
    | _layer(f"{_META}lstm/linear", 16 + META_HIDDEN, 4 * META_HIDDEN)
)


def load_weights(path: str) -> dict[str, Tensor]:
    """Read the weights by the names that the authors gave them, without the ``lstm/`` in front.

    Args:
        path: the file ``disco_103.npz``.

    Raises:
        UserError: the file is missing, or holds other names or shapes than those of Disco103.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"algorithm.weights={path}: the weights of Disco103 are not there; they are {SOURCE}")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            values = {name: torch.from_numpy(arrays[name]) for name in arrays}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"algorithm.weights={path}: cannot be read ({error}); it must be {SOURCE}") from error
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    wrong = sorted(name for name in shapes.keys() | SHAPES.keys() if shapes.get(name) != SHAPES.get(name))
    if wrong:
        raise UserError(f"algorithm.weights={path}: other weights than those of Disco103 ({wrong[0]}); it must be {SOURCE}")
    return {name.removeprefix("lstm/"): value.float() for name, value in values.items()}


class Layers:
    """Layers of the meta-network, read from its weights.

    Args:
        weights: the weights by name.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        """An affine map; also a convolution over actions whose filters see one action."""
        weight = self.weights[f"{name}/w"]
        return x @ weight.view(weight.shape[-2:]) + self.weights[f"{name}/b"]

    def network(self, name: str, x: Tensor) -> Tensor:
        """Two layers with a ReLU between."""
        return self.linear(f"{name}/~/linear_1", self.linear(f"{name}/~/linear_0", x).relu())

    def over_actions(self, name: str, x: Tensor) -> Tensor:
        """A layer (..., actions, outputs) of each action's inputs (..., actions, inputs) beside their mean over actions."""
        mean = x.mean(-2, keepdim=True).expand_as(x)
        return self.linear(name, torch.cat([x, mean], -1)).relu()

    def memory(self, name: str, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A step of an LSTM as in Haiku: gates in the order input, cell, forget (with 1 added), output; hidden and cell."""
        hidden, cell = state
        into, new, forget, out = self.linear(f"{name}/linear", torch.cat([x, hidden], -1)).chunk(4, -1)
        cell = (forget + 1).sigmoid() * cell + into.sigmoid() * new.tanh()
        return out.sigmoid() * cell.tanh(), cell
