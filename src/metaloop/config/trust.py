"""Configs from files: what they may name before anything of them is built.

A config that the user composes may name more: :mod:`metaloop.config.targets.allowed`. A config that is read from a file of a
run, a kept model or a sweep may come from somebody else. It may name the parts of metaloop's own configuration and some plain
classes of torch, no more, unless

- the user trusts the package: ``trust=NAME`` on the command line, the environment's METALOOP_TRUST, or an entry point of the
  group ``metaloop.trusted`` in an installed distribution; or
- the user composed this very config on this machine before. Fingerprints of such configs are kept in the user's state folder.

Names are checked before anything is imported, because importing a module runs it.
"""

import importlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaloop.config.folder import check_packages
from metaloop.config.identity import fingerprint
from metaloop.config.targets.allowed import ALL, ENVIRONMENT, trusted_packages
from metaloop.config.targets.refusals import Refusal, Untrusted, refusals
from metaloop.errors import UserError
from metaloop.records.reading import read_identity
from metaloop.records.schema import IDENTITY, RunIdentity
from metaloop.system.files import state_folder

_PARTS = ("algorithm", "model", "dataset", "episode", "outer", "trainer", "validation", "evaluation")
_NUMBERS = (
    "seed", "workers", "episode.queries", "evaluation.episodes", "evaluation.batch", "evaluation.seed", "validation.episodes",
    "validation.every", "outer.meta_batch",
)  # fmt: skip
_COMPOSED = "composed"  # file of fingerprints in the state folder
_NAMED = 3  # refused keys that a message names


def read_received_identity(directory: Path, trust: Collection[str] = ()) -> RunIdentity:
    """Read run.json and check its config: the only way from a run directory to a config that is built.

    Args:
        directory: Run directory.
        trust: Packages to trust, in addition to those of the environment and of entry points.

    Raises:
        UserError: the directory holds no run, its run.json is broken, or its config names something that is not trusted or
            not there.
    """
    identity = read_identity(directory)
    check_received(identity.config, directory / IDENTITY, trust)
    check_complete(identity.config, directory / IDENTITY)
    check_packages(identity.config, directory / IDENTITY, identity.configuration)
    return identity


def check_received(config: Mapping[str, Any], source: Path, trust: Collection[str] = ()) -> None:
    """Check a config that was read from a file, before anything of it is imported or built.

    Args:
        config: The config as plain data.
        source: The file, for the error message.
        trust: Packages to trust, in addition to those of the environment and of entry points.

    Raises:
        Untrusted: the config names something that is not trusted, and was not composed by this user on this machine.
    """
    refused = refusals(config, source)
    if not refused:
        return
    trusted = trusted_packages(trust)
    refused = [one for one in refused if not _covers(trusted, one)]
    if refused and _fingerprint(config) not in _composed_here():
        raise Untrusted(_message(refused, source))


def check_complete(config: Mapping[str, Any], source: Path) -> None:
    """Raise a UserError if a config that was read from a file lacks a part that every run has, or one is of another kind."""
    for key in _PARTS:
        if not isinstance(config.get(key), Mapping):
            raise UserError(f"{source}: config.{key} is {config.get(key)!r}, expected a mapping; the file was changed")
    for key in _NUMBERS:
        group, _, name = key.rpartition(".")
        value = (config[group] if group else config).get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise UserError(f"{source}: config.{key} is {value!r}, expected a number; the file was changed")
    if not isinstance(config.get("tf32"), bool):
        raise UserError(f"{source}: config.tf32 is {config.get('tf32')!r}, expected true or false; the file was changed")


def remember(config: Mapping[str, Any]) -> None:
    """Keep the fingerprint of a config that the user composed, if it could not be read back without trust.

    If the state folder cannot be written, nothing is kept, and reading the run back needs ``trust=``.
    """
    key = _fingerprint(config)
    if not refusals(config, Path("the composed config")) or key in _composed_here():
        return
    with suppress(OSError):
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _COMPOSED).open("a") as file:
            file.write(f"{key}\n")  # one write of one line: processes do not mix theirs


def remember_derived(config: Mapping[str, Any], origin: Mapping[str, Any]) -> None:
    """Keep a config that the user made from another, such as an evaluation's, if the other needs no trust itself."""
    if not refusals(origin, Path("the composed config")) or _fingerprint(origin) in _composed_here():
        remember(config)


@contextmanager
def trusting(words: Sequence[str]) -> Iterator[list[str]]:
    """Trust the packages of the words ``trust=NAME,NAME`` during the block, also in processes that it starts.

    Args:
        words: Words of a command.

    Returns:
        The other words.

    Raises:
        UserError: a word names no package.
    """
    names = [name for word in words if word.startswith("trust=") for name in word.removeprefix("trust=").split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise UserError(f"trust={name}: must be the name of a package, such as trust=mylab, or trust={ALL}")
    before = os.environ.get(ENVIRONMENT)
    if names:
        os.environ[ENVIRONMENT] = ",".join([*filter(None, [before]), *names])
    try:
        yield [word for word in words if not word.startswith("trust=")]
    finally:
        if names:
            os.environ.pop(ENVIRONMENT)
            os.environ.update({} if before is None else {ENVIRONMENT: before})


def _covers(trusted: Collection[str], refusal: Refusal) -> bool:
    """Whether a trusted package is the reason's, and the object of that name is really the package's own."""
    if ALL in trusted:
        return True
    if not refusal.key.endswith("_target_"):
        return refusal.package in trusted
    return isinstance(refusal.value, str) and _inside(refusal.value, trusted) and _belongs(refusal.value, trusted)


def _inside(name: str, packages: Collection[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _belongs(name: str, packages: Collection[str]) -> bool:
    """Whether an object was defined in one of the packages; ``mylab.tools.os.system`` was not.

    An object that cannot be found belongs to them, so that building it raises the error that says so.
    """
    parts = name.split(".")
    found: Any = None
    for length in range(1, len(parts) + 1):
        try:
            found = importlib.import_module(".".join(parts[:length])) if found is None else getattr(found, parts[length - 1])
        except AttributeError:
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ImportError:
                return True
        except ImportError:
            return True
        if not _inside(_home(found), packages):
            return False
    return True


def _home(thing: Any) -> str:
    """Name of the module that defines a class or function, or of a module itself."""
    return str(getattr(thing, "__module__", None) or getattr(thing, "__name__", None) or "")


def _fingerprint(config: Mapping[str, Any]) -> str:
    """Fingerprint of a config as it is read back from a file."""
    return fingerprint(json.loads(json.dumps(config)))


def _message(refused: Sequence[Refusal], source: Path) -> str:
    named = "; ".join(f"{one.key}={one.value!r}, {one.reason}" for one in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    packages = ",".join(dict.fromkeys(one.package for one in refused if re.fullmatch(r"\w+", one.package)))
    remedy = ALL if ALL in packages.split(",") else packages
    advice = f"add trust={remedy} to the command" if remedy else "it cannot be trusted by name"
    return (
        f"{source} asks for what is not trusted, so nothing of it was run: {named}{more}. If you know who made it, {advice}; "
        f"else use it on no account. docs/trust.md says what is trusted"
    )


def _composed_here() -> frozenset[str]:
    """Fingerprints of the configs that this user composed on this machine."""
    try:
        return frozenset((state_folder() / _COMPOSED).read_text().split())
    except (OSError, ValueError):
        return frozenset()
