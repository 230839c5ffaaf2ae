"""What runs of any configuration need."""

from pathlib import Path

import pytest

from metaloop.data.images import cifar100, cifar100_files, mini_imagenet
from metaloop.data.images.splits import read_cifar100_split
from picture_files import cifar_tables, entries, picture, write_cifar, write_folder


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the W&B account of whoever runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_RUN_GROUP", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def made_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100 with 16 images a class, mini-ImageNet with nine classes of three, and 20 classes of a user's own."""
    folder = tmp_path_factory.mktemp("pictures")
    names = sorted(name for names in read_cifar100_split("fc100").values() for name in names)
    write_cifar(folder / "cifar100" / cifar100_files.FOLDER, cifar_tables(names, {"train": 14, "test": 2}))
    write_folder(folder / "own", entries(20, root=""))
    for number, name in enumerate(("train", "val", "test")):
        files = [(f"{name}{i}.jpg", f"n{name}{i // 3}") for i in range(9)]
        lines = "".join(f"{file},{label}\n" for file, label in files)
        pictures = {f"images/{file}": picture(30 * i + number, kind="JPEG") for i, (file, _) in enumerate(files)}
        write_folder(folder / "mini_imagenet", {f"{name}.csv": f"filename,label\n{lines}".encode(), **pictures})
    return folder


@pytest.fixture
def picture_files(made_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in the layouts of the image data sets, in the place of the real ones."""
    monkeypatch.setenv("METALOOP_DATA", str(made_pictures))
    for module in (cifar100, cifar100_files):
        monkeypatch.setattr(module, "PARTS", {"train": 14, "test": 2})
    monkeypatch.setattr(mini_imagenet, "CLASSES", dict.fromkeys(mini_imagenet.CLASSES, 3))
    monkeypatch.setattr(mini_imagenet, "EACH", 3)
