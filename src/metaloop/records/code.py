"""The code that a run used besides metaloop: version, repository, commit and digest of each package that its config names.

The user's own folders of configuration are described in the same way.
"""

import hashlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaloop.records.schema import Code, Git

_FRAMEWORK = ("metaloop", "torch", "pytorch_lightning", "builtins")  # their versions stand in every record
_PYTHON, _YAML = (".py",), (".yaml", ".yml")


def code_of(config: Mapping[str, Any]) -> tuple[Code, ...]:
    """Describe the package of every ``_target_`` of a config that is not part of the framework, by name.

    Only packages that are imported are described, so nothing is imported here.
    """
    names = sorted({target.partition(".")[0] for target in targets(config)} - set(_FRAMEWORK))
    return tuple(_describe(name) for name in names if name in sys.modules)


def configuration_of(config_dirs: Iterable[str]) -> tuple[Code, ...]:
    """Describe the user's own folders of configuration groups.

    Call it with folders that the user named: git reads settings of the repository around a folder, which can name programs.
    """
    places = [Path(folder).resolve() for folder in config_dirs]
    return tuple(Code(str(place), None, _repository(place), git_state(place, _YAML), _digest(place, _YAML)) for place in places)


def targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` of a config, at any depth."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from targets(value)


def _describe(name: str) -> Code:
    place = _place(name)
    installed = place is not None and {"site-packages", "dist-packages"} & set(place.parts)
    if place is None or installed:
        return Code(name, _version(name), None, None, None)
    return Code(name, _version(name), _repository(place), git_state(place), _digest(place))


def _place(name: str) -> Path | None:
    """Folder of a package, or file of a module; None if it has neither."""
    module = sys.modules[name]
    paths = [*getattr(module, "__path__", ()), *filter(None, [getattr(module, "__file__", None)])]
    return Path(paths[0]).resolve() if paths else None


def _version(name: str) -> str | None:
    for distribution in importlib.metadata.packages_distributions().get(name, [name]):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


def git_state(place: Path, suffixes: tuple[str, ...] = _PYTHON) -> Git | None:
    """Commit of a package's checkout, and whether tracked files have changed or the package has new files of these suffixes.

    None if no repository has the package's files.
    """
    try:
        if not _git(place, "ls-files", "--", str(place)):  # such as an environment inside somebody's repository
            return None
        new = _git(place, "ls-files", "--others", "--exclude-standard", "--", str(place)).splitlines()
        changed = _git(place, "status", "--porcelain", "--untracked-files=no")
        return Git(_git(place, "rev-parse", "HEAD"), bool(changed) or any(file.endswith(suffixes) for file in new))
    except (OSError, subprocess.SubprocessError):
        return None


def framework() -> Git | None:
    """Commit of metaloop's own checkout; None if it is installed."""
    return git_state(Path(__file__).resolve().parents[1])


def _repository(place: Path) -> str | None:
    """Address of the repository, without user and password; its folder if it has no remote; None without repository."""
    with suppress(OSError, subprocess.SubprocessError):
        with suppress(subprocess.SubprocessError):
            return re.sub(r"//[^/@]*@", "//", _git(place, "remote", "get-url", "origin"))
        return _git(place, "rev-parse", "--show-toplevel")
    return None


def _git(place: Path, *arguments: str) -> str:
    folder = place if place.is_dir() else place.parent
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _digest(place: Path, suffixes: tuple[str, ...] = _PYTHON) -> str:
    """SHA-256 of the names and contents of all files of these suffixes."""
    files = sorted(file for suffix in suffixes for file in place.rglob(f"*{suffix}")) if place.is_dir() else [place]
    whole = hashlib.sha256()
    for file in files:
        name = file.relative_to(place if place.is_dir() else place.parent).as_posix()
        whole.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return whole.hexdigest()
