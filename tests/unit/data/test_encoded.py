"""Features of a frozen encoder: what is drawn, when they are made, and what their file survives."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import Dataset
from metaloop.data.encoded import EncodedDataset, Encoder
from metaloop.data.out_of_scope import WithOutOfScope
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec, Inputs

WIDTH, EXAMPLES, CLASSES = 3, 100, 3


class Sentences(Dataset):
    """Token ids of sentences of many lengths."""

    def __init__(self, rotations: str = "none", augmentation: Augmentation | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        mask = (torch.arange(8) < torch.randint(1, 9, (EXAMPLES * CLASSES, 1), generator=generator)).long()
        inputs = {"input_ids": torch.randint(1, 50, mask.shape, generator=generator) * mask, "attention_mask": mask}
        self.pool = ClassPool(inputs, [EXAMPLES] * CLASSES, ["a", "b", "c"], split="test")
        if rotations != "none" or augmentation is not None:
            images = torch.zeros(EXAMPLES * CLASSES, 1, 4, 4, dtype=torch.uint8)
            self.pool = ClassPool(images, [EXAMPLES] * CLASSES, ["a", "b", "c"], rotations=rotations, augmentation=augmentation)

    def split(self, name: str) -> ClassPool:
        return self.pool


class Sums:
    """Sums of each sentence's tokens, and how many it was shown."""

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, x: Inputs) -> Tensor:
        assert not isinstance(x, Tensor)
        self.seen += len(x["input_ids"])
        assert x["attention_mask"].any(0).all(), "columns of nothing but padding are cut"
        total = (x["input_ids"] * x["attention_mask"]).sum(1).float()
        return torch.stack([total, total**2, -total], 1)

    def encoder(self, input_shape: tuple[int, ...], key: str = "sums") -> Encoder:
        return Encoder(key, WIDTH, torch.device("cpu"), self.encode, key)


def test_episodes_are_the_same_with_features_for_inputs(tmp_path: Path) -> None:
    pool, sums = Sentences().pool, Sums()
    found = EncodedDataset(Sentences(), sums.encoder, tmp_path).split("test")
    assert found.input_shape == (WIDTH,)
    numbers, spec = torch.arange(5), EpisodeSpec(ways=2, shots=3, queries=4)
    own, made = (each.draw(Stream(0, "test"), numbers, spec) for each in (pool, found))
    tokens = own.query.x["input_ids"].sum(-1).float()  # type: ignore[index]
    torch.testing.assert_close(made.query.x, torch.stack([tokens, tokens**2, -tokens], -1))
    assert torch.equal(own.query.y, made.query.y)


def test_every_example_is_encoded_once_by_one_encoder(tmp_path: Path) -> None:
    sums = Sums()
    made = EncodedDataset(Sentences(), sums.encoder, tmp_path)
    assert made.split("test") is made.split("test")
    EncodedDataset(Sentences(), sums.encoder, tmp_path).split("train")
    assert sums.seen == EXAMPLES * CLASSES
    EncodedDataset(Sentences(), lambda shape: sums.encoder(shape, "other weights"), tmp_path).split("test")
    assert sums.seen == 2 * EXAMPLES * CLASSES


def test_other_weights_are_told(tmp_path: Path) -> None:
    made = EncodedDataset(Sentences(), Sums().encoder, tmp_path)
    assert made.encoded_by is None
    made.split("test")
    before = made.encoded_by
    assert before == {"weights": "sums", "input_shape": [8]}
    EncodedDataset(Sentences(), Sums().encoder, tmp_path).check_encoder(before, "the run")
    other = EncodedDataset(Sentences(), lambda shape: Sums().encoder(shape, "other"), tmp_path)
    with pytest.raises(UserError, match=r"SHA-256 is other\.\.\., but the features of the run came from weights with sums"):
        other.check_encoder(before, "the run")


@pytest.mark.parametrize("damage", ["cut", "altered", "emptied"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    sums = Sums()
    expected = EncodedDataset(Sentences(), sums.encoder, tmp_path).split("test").inputs.clone()  # type: ignore[union-attr]
    (path,) = tmp_path.glob("*.arrays")
    content = path.read_bytes()
    last = bytes([content[-1] ^ 1])
    path.write_bytes({"cut": content[:-4], "altered": content[:-1] + last, "emptied": b""}[damage])
    again = EncodedDataset(Sentences(), sums.encoder, tmp_path).split("test").inputs
    torch.testing.assert_close(again, expected)
    assert sums.seen == 2 * EXAMPLES * CLASSES
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert EncodedDataset(Sentences(), Sums().encoder, tmp_path / "file").split("test").input_shape == (WIDTH,)


def test_turned_pictures_have_no_features_made_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.rotations=classes needs model\.frozen=false"):
        EncodedDataset(Sentences("classes"), Sums().encoder, tmp_path).split("test")


def test_augmented_pictures_have_no_features_made_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset/augmentation=none"):
        EncodedDataset(Sentences(augmentation=Augmentation(flip=True)), Sums().encoder, tmp_path).split("test")


def test_queries_of_no_class_are_encoded_too(tmp_path: Path) -> None:
    sentences = Sentences()
    outside = {key: value[:7].flip(0) for key, value in sentences.pool.inputs.items()}
    sentences.pool = WithOutOfScope(sentences.pool, outside, 4)  # type: ignore[assignment]
    found = EncodedDataset(sentences, Sums().encoder, tmp_path).split("test")
    assert isinstance(found, WithOutOfScope)
    tasks = found.draw(Stream(0, "test"), torch.arange(2), EpisodeSpec(2, 1, 1))
    assert tasks.outside is not None
    assert tasks.outside.shape == (2, 4, WIDTH)
    features = torch.as_tensor(found.base.inputs)
    assert (tasks.outside[:, :, None] == features[:7]).all(-1).any(-1).all()
