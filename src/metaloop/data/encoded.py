"""A data set of features: a frozen encoder reads every example once."""

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
from metaloop.data.out_of_scope import WithOutOfScope
from metaloop.data.pool import ClassPool
from metaloop.data.texts.word_pool import WordPool
from metaloop.data.user.tasks import Columns, UserExampleDataset, UserFileDataset, UserRows
from metaloop.errors import UserError
from metaloop.records.contents import SplitContents
from metaloop.records.schema import ExampleCounts
from metaloop.system.cache import cached
from metaloop.types import Inputs, map_inputs

Pool = ClassPool | WordPool
_BATCH = 128  # examples that are encoded together


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder.

    Attributes:
        key: identifies everything besides the examples that the features depend on, such as weights and settings.
        width: width of a feature vector.
        device: device of the computation.
        encode: maps model inputs (examples, *input) to features (examples, width) float32, both on ``device``.
        weights: SHA-256 of the weights alone, independent of their path.
    """

    key: str
    width: int
    device: torch.device
    encode: Callable[[Inputs], Tensor]
    weights: str


class EncodedDataset(UserExampleDataset):
    """The classes and episodes of another data set, with features as inputs.

    The features of a split are computed when the split is first requested, and kept in a file named by the checksum of encoder
    and examples. The file is mapped into memory, so that processes share it.

    Args:
        dataset: the data set of the examples; its splits must be pools.
        encoder: creates the encoder for the given shape of an example.
        folder: folder of the files. If it cannot be written, the examples are encoded at every start.
    """

    def __init__(self, dataset: Dataset, encoder: Callable[[tuple[int, ...]], Encoder], folder: Path) -> None:
        self._dataset = dataset
        self._create_encoder = encoder
        self._folder = folder
        self._encoder: Encoder | None = None
        self._shape: tuple[int, ...] = ()
        self._splits: dict[str, Pool | WithOutOfScope] = {}

    def split(self, name: str) -> Pool | WithOutOfScope:
        """See :meth:`Dataset.split`."""
        if name not in self._splits:
            split = self._dataset.split(name)
            if isinstance(split, WithOutOfScope):
                examples = split.out_of_scope
                count = len(examples if isinstance(examples, Tensor) else next(iter(examples.values())))
                pool = ClassPool(examples, [count], ["out of scope"], split=f"{name} (out of scope)")
                base = self._of_features(split.base)
                assert isinstance(base, ClassPool)
                self._splits[name] = WithOutOfScope(base, self._of_features(pool).inputs, split.count)
            else:
                self._splits[name] = self._of_features(_checked(split))
        return self._splits[name]

    def counts(self) -> Mapping[str, ExampleCounts]:
        """See :meth:`Dataset.counts`; those of the other data set."""
        return self._dataset.counts()

    def contents(self, name: str) -> SplitContents | None:
        """See :meth:`Dataset.contents`: features may differ in their last digits between machines."""
        return self._dataset.contents(name)

    def _of_features(self, pool: Pool) -> Pool:
        _checked(pool)
        return pool.of(self._features(pool, self._get_encoder(pool.input_shape)))

    def _get_encoder(self, input_shape: tuple[int, ...]) -> Encoder:
        if self._encoder is None:
            self._encoder, self._shape = self._create_encoder(input_shape), tuple(input_shape)
        return self._encoder

    @property
    def encoded_by(self) -> dict[str, Any] | None:
        """SHA-256 of the encoder's weights and the shape of an example, as plain data; None before the encoder was used."""
        encoder = self._encoder
        return None if encoder is None else {"weights": encoder.weights, "input_shape": list(self._shape)}

    def check_encoder(self, before: Mapping[str, Any], owner: str) -> None:
        """Raise a UserError if the encoder's weights have changed.

        Args:
            before: :attr:`encoded_by` of an earlier run.
            owner: name of that run or adapted model, for the message.
        """
        weights = self._get_encoder(tuple(before["input_shape"])).weights
        if weights != before["weights"]:
            raise UserError(
                f"the weights of the frozen encoder (model.name_or_path) have changed: their SHA-256 is {weights[:12]}..., but "
                f"the features of {owner} came from weights with {before['weights'][:12]}.... Restore those weights, or create "
                f"{owner} again"
            )

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """See :meth:`UserFileDataset.read_user_file`. The inputs are features of the prepared examples."""
        if not isinstance(self._dataset, UserFileDataset):
            raise UserError(f"the run's data set, {type(self._dataset).__name__}, cannot read a user's files")
        rows = self._dataset.read_user_file(path, columns, input_shape, labelled=labelled)
        pool = ClassPool(rows.inputs, [len(rows)], [path.name], split="user")
        return replace(rows, inputs=torch.from_numpy(_encode(pool, self._get_encoder(pool.input_shape))))

    def _features(self, pool: Pool, encoder: Encoder) -> Tensor:
        key = _key(pool.inputs, encoder.key)
        return torch.from_numpy(cached(self._folder, "features", key, lambda: {"rows": _encode(pool, encoder)})["rows"])


def check_encoder(dataset: object, before: Mapping[str, Any] | None, owner: str) -> None:
    """Raise a UserError if an encoded data set has other weights than ``before``; see :meth:`EncodedDataset.check_encoder`."""
    if before is not None and isinstance(dataset, EncodedDataset):
        dataset.check_encoder(before, owner)


def _checked(pool: TaskDistribution) -> Pool:
    """Return the split, or raise a UserError if one feature vector for each example is not enough for its episodes."""
    if not isinstance(pool, Pool):
        raise UserError(
            "model.frozen=true computes features once for each example, but this data set is not a pool of examples; set "
            "model.frozen=false, and algorithm/adapted=head to keep the encoder fixed within a task"
        )
    if isinstance(pool, ClassPool) and pool.rotations != "none":
        raise UserError(
            f"model.frozen=true computes features once for each example, not for its rotations: dataset.rotations="
            f"{pool.rotations} needs model.frozen=false, or set dataset.rotations=none"
        )
    if isinstance(pool, ClassPool) and pool.augmentation is not None:
        raise UserError(
            "model.frozen=true computes features once for each example as it is stored, without augmentation; set "
            "dataset/augmentation=none or model.frozen=false"
        )
    return pool


def _key(inputs: Inputs, encoder: str) -> str:
    digest = hashlib.sha256(encoder.encode())
    for name, tensor in {"": inputs}.items() if isinstance(inputs, Tensor) else sorted(inputs.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def _encode(pool: Pool, encoder: Encoder) -> np.ndarray:
    """The features (examples, width) float32. Texts are sorted by length, so that batches have little padding."""
    first = pool.inputs if isinstance(pool.inputs, Tensor) else next(iter(pool.inputs.values()))
    mask = None if isinstance(pool.inputs, Tensor) else pool.inputs.get("attention_mask")
    lengths = torch.zeros(len(first)) if mask is None else mask.sum(1)
    rows = np.empty((len(first), encoder.width), np.float32)
    parts = torch.split(lengths.argsort(descending=True, stable=True), _BATCH)
    title = f"encoding {len(first)} examples of the {pool.split} split"
    console = Console(stderr=True)
    for part in track(parts, title, console=console, transient=True, disable=len(parts) < 2 or not console.is_terminal):
        x = map_inputs(lambda tensor, part=part: tensor[0].to(encoder.device), pool.gather(part[None]))  # type: ignore[misc]
        if mask is not None:
            longest = max(1, int(lengths[part].max()))
            x = map_inputs(lambda tensor, longest=longest: tensor[:, :longest], x)  # type: ignore[misc]
        rows[part.numpy()] = encoder.encode(x).cpu().numpy()
    return rows
