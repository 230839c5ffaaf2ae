"""A data set whose examples were read once by an encoder that never changes: what is drawn are its features."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.outside import WithOutside
from metaloop.data.pool import ClassPool
from metaloop.data.texts.word_pool import WordPool
from metaloop.data.user.own_tasks import Columns, OwnExamples, OwnRows, OwnTasks
from metaloop.errors import UserError
from metaloop.system.cache import cached
from metaloop.types import Inputs, map_inputs

Pool = ClassPool | WordPool
_BATCH = 128  # examples that are encoded at once


@dataclass(frozen=True)
class Encoder:
    """What reads the examples.

    Attributes:
        key: everything that its features depend on beside the examples: weights, settings.
        width: of a feature vector.
        device: where it computes.
        encode: (examples, *input), as a model gets them, to (examples, width) float32, both on ``device``.
        weights: SHA-256 of the weights alone, wherever they lie.
    """

    key: str
    width: int
    device: torch.device
    encode: Callable[[Inputs], Tensor]
    weights: str


class EncodedDataset(OwnExamples):
    """Another data set's classes and episodes with features for inputs.

    The features of a split are made when it is first asked for, kept in a file by the checksum of encoder and examples, and
    from then on mapped into memory, so that processes share them.

    Args:
        dataset: of pools of examples.
        encoder: makes the encoder, knowing an example's shape.
        folder: for the files; one that cannot be written costs the time of encoding at every start.
    """

    def __init__(self, dataset: Dataset, encoder: Callable[[tuple[int, ...]], Encoder], folder: Path) -> None:
        self._dataset = dataset
        self._make = encoder
        self._folder = folder
        self._encoder: Encoder | None = None
        self._shape: tuple[int, ...] = ()
        self._splits: dict[str, Pool | WithOutside] = {}

    def split(self, name: str) -> Pool | WithOutside:
        """See :meth:`Dataset.split`."""
        if name not in self._splits:
            found = self._dataset.split(name)
            if isinstance(found, WithOutside):
                count = len(found.outside if isinstance(found.outside, Tensor) else next(iter(found.outside.values())))
                outside = ClassPool(found.outside, [count], ["outside"], split=f"{name} (outside)")
                base = self._of_features(found.base)
                assert isinstance(base, ClassPool)
                self._splits[name] = WithOutside(base, self._of_features(outside).inputs, found.asked)
            else:
                self._splits[name] = self._of_features(_checked(found))
        return self._splits[name]

    def _of_features(self, pool: Pool) -> Pool:
        _checked(pool)
        return pool.of(self._features(pool, self._made(pool.input_shape)))

    def _made(self, input_shape: tuple[int, ...]) -> Encoder:
        if self._encoder is None:
            self._encoder, self._shape = self._make(input_shape), tuple(input_shape)
        return self._encoder

    @property
    def encoded_by(self) -> dict[str, Any] | None:
        """The encoder that has read examples, as plain data: SHA-256 of its weights, an example's shape; None before it has."""
        made = self._encoder
        return None if made is None else {"weights": made.weights, "input_shape": list(self._shape)}

    def check_encoder(self, before: Mapping[str, Any], whose: str) -> None:
        """Raise a UserError where the weights are no longer those of ``before``, what :attr:`encoded_by` was of ``whose``."""
        found = self._made(tuple(before["input_shape"])).weights
        if found != before["weights"]:
            raise UserError(
                f"the weights of the frozen encoder (model.name_or_path) have changed: their SHA-256 is {found[:12]}..., and "
                f"{before['weights'][:12]}... made the features of {whose}, which do not go with those of other weights. Put "
                f"these weights back, or make {whose} anew"
            )

    def read_own(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> OwnRows:
        """See :meth:`OwnTasks.read_own`: features of the examples as the data set prepares them."""
        if not isinstance(self._dataset, OwnTasks):
            raise UserError(f"the run's data set, {type(self._dataset).__name__}, cannot prepare files of one's own")
        rows = self._dataset.read_own(path, columns, input_shape, labelled=labelled)
        pool = ClassPool(rows.inputs, [len(rows)], [path.name], split="own")
        return replace(rows, inputs=torch.from_numpy(_encoded(pool, self._made(pool.input_shape))))

    def _features(self, pool: Pool, encoder: Encoder) -> Tensor:
        key = _key(pool.inputs, encoder.key)
        return torch.from_numpy(cached(self._folder, "features", key, lambda: {"rows": _encoded(pool, encoder)})["rows"])


def check_encoder(dataset: object, before: Mapping[str, Any] | None, whose: str) -> None:
    """Raise a UserError where ``dataset`` is encoded by other weights than ``before`` says; None, as older runs say, is any."""
    if before is not None and isinstance(dataset, EncodedDataset):
        dataset.check_encoder(before, whose)


def _checked(pool: TaskDistribution) -> Pool:
    """The split, if one feature vector an example says all that its episodes could show."""
    if not isinstance(pool, Pool):
        raise UserError(
            "model.frozen=true: features are made once of each example, but this data set is no pool of examples; "
            "take model.frozen=false, and algorithm/adapted=head to keep the encoder as it is in a task"
        )
    if isinstance(pool, ClassPool) and pool.rotations != "none":
        raise UserError(
            f"model.frozen=true: features are made once of each example, not of its turns; dataset.rotations={pool.rotations} "
            f"needs model.frozen=false, or take dataset.rotations=none"
        )
    if isinstance(pool, ClassPool) and pool.augmentation is not None:
        raise UserError(
            "model.frozen=true: features are made once of each example as it is stored; take dataset/augmentation=none, or "
            "model.frozen=false"
        )
    return pool


def _key(inputs: Inputs, encoder: str) -> str:
    digest = hashlib.sha256(encoder.encode())
    for name, tensor in {"": inputs}.items() if isinstance(inputs, Tensor) else sorted(inputs.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def _encoded(pool: Pool, encoder: Encoder) -> np.ndarray:
    """(examples, width) float32. Texts are read in the order of their lengths, so that hardly any padding is."""
    first = pool.inputs if isinstance(pool.inputs, Tensor) else next(iter(pool.inputs.values()))
    mask = None if isinstance(pool.inputs, Tensor) else pool.inputs.get("attention_mask")
    lengths = torch.zeros(len(first)) if mask is None else mask.sum(1)
    rows = np.empty((len(first), encoder.width), np.float32)
    parts = lengths.argsort(descending=True, stable=True).split(_BATCH)
    said = f"encoding the {pool.split} split's {len(first)} examples"
    console = Console(stderr=True)
    for part in track(parts, said, console=console, transient=True, disable=len(parts) < 2 or not console.is_terminal):
        x = map_inputs(lambda tensor, part=part: tensor[0].to(encoder.device), pool.gather(part[None]))  # type: ignore[misc]
        if mask is not None:
            longest = max(1, int(lengths[part].max()))
            x = map_inputs(lambda tensor, longest=longest: tensor[:, :longest], x)  # type: ignore[misc]
        rows[part.numpy()] = encoder.encode(x).cpu().numpy()
    return rows
