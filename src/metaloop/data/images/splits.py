"""Class lists of the splits of Omniglot and CIFAR-100: files of the package, checked by their hashes."""

import hashlib
from importlib.resources import files

# SHA-256 of the files in omniglot_splits/. Each file names its source.
_HASHES = {
    "alphabets": "eb8478806445c93be59b1e790f2336d27a1c423f10aea78744e6902a4643b74f",
    "finn": "346ac97822cd96db4d1a244a0a423a7699ce919043c376be74bcebbe31eca888",
    "vinyals": "00a6c86454c6905ac1d8fd67f0a8e430b1b92c5b5241f1edb407ab2b58139bc7",
    "lake": "9a53b030720a8e3cd7f33527b9cdde891f57c6b268e9820e2afef02033af263b",
    "minimal1": "b875deb0d1ffbe7299d8df9111b0094679d22a7c128aa098f90d602d00a165a5",
    "minimal2": "8326282d55671317a68734f4ea70eacfe198e2533197e483d741e37d53ea6707",
}
# SHA-256 of the files in cifar100_splits/.
_CIFAR100_HASHES = {
    "cifar_fs": "606aef751ae8618c62d4a917eeabbe42d4dd53a4045eb4618133246027331c0a",
    "fc100": "2dadfc4f53a51241d6eada62e048b68ca7b2d3e484f0ebbb8f4db253cd19b875",
}
CIFAR100_SCHEMES = tuple(_CIFAR100_HASHES)
SCHEMES = tuple(name for name in _HASHES if name != "alphabets")


def read_split(scheme: str) -> dict[str, tuple[str, ...]]:
    """Read the characters of each split, named ``Alphabet/characterNN`` as in the archives, in the order of the file.

    Args:
        scheme: one of :data:`SCHEMES`; "alphabets" returns the official parts "background" and "evaluation" instead.

    Raises:
        ValueError: the installed file was changed.
    """
    splits: dict[str, list[str]] = {}
    for split, alphabet, numbers in _lines("omniglot_splits", scheme, _HASHES[scheme]):
        splits.setdefault(split, []).extend(f"{alphabet}/character{number:02d}" for number in _numbers(numbers))
    return {split: tuple(names) for split, names in splits.items()}


def read_cifar100_split(scheme: str) -> dict[str, tuple[str, ...]]:
    """Read the classes of each split of "cifar_fs" or "fc100", in the order of the file.

    Raises:
        ValueError: as for :func:`read_split`.
    """
    splits: dict[str, list[str]] = {}
    for split, _, name in _lines("cifar100_splits", scheme, _CIFAR100_HASHES[scheme]):
        splits.setdefault(split, []).append(name)
    return {split: tuple(names) for split, names in splits.items()}


def _lines(folder: str, scheme: str, digest: str) -> list[list[str]]:
    """The words of each line that is not a comment."""
    content = files("metaloop.data.images").joinpath(folder, f"{scheme}.txt").read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"the installed split file {folder}/{scheme}.txt was changed: reinstall metaloop")
    return [line.split() for line in content.decode().splitlines() if line and not line.startswith("#")]


def _numbers(text: str) -> list[int]:
    """Parse a list of ranges: ``"1-3,7"`` is [1, 2, 3, 7]."""
    numbers: list[int] = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers
