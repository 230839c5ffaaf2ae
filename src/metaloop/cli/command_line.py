"""Words of ``metaloop train`` that are neither options nor overrides: the message says what was probably meant."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from metaloop.config.folder import conf_dir
from metaloop.config.words.known_keys import known_keys
from metaloop.config.words.other_words import KEYS
from metaloop.errors import UserError

_OPTIONS = "options: -m, --dry-run, --config-dir DIR, --cfg job, --info defaults, --hydra-help; see metaloop train --help"


def read_flags(argv: Sequence[str]) -> Namespace:
    """Parse options and overrides; Hydra's parser accepts ``-m`` only before the overrides.

    Raises:
        UserError: an option is unknown, or a key is written with dashes or without ``=``.
    """
    words = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))
    _check_dashes(argv)
    parser = get_args_parser()
    _refuse_by_error(parser)
    flags: Namespace = parser.parse_args(words)
    for number, word in enumerate(flags.overrides):
        if "=" not in word and not word.startswith("~"):
            _refuse_bare(word, next((each.lstrip("=") for each in flags.overrides[number + 1 :] if each != "="), ""))
    return flags


def _refuse_by_error(parser: ArgumentParser) -> None:
    """Let a parser raise its error in the place of printing Hydra's usage."""

    def error(message: str) -> NoReturn:
        raise UserError(f"train: {message}; {_OPTIONS}")

    parser.error = error  # type: ignore[method-assign]


def _check_dashes(argv: Sequence[str]) -> None:
    known = get_args_parser()._option_string_actions
    for word, following in pairwise([*argv, "VALUE"]):
        flag, equals, value = word.partition("=")
        name = flag.lstrip("-")
        if not flag.startswith("-") or flag in known or not name or (not equals and flag[:3] in known):
            continue
        value = value if equals else following
        if name.replace("/", ".").partition(".")[0] in known_keys()[""]:
            raise UserError(f"{word}: keys are written without dashes: {name}={value}")
        close = get_close_matches(flag.replace("_", "-"), known, n=1, cutoff=0.8)
        key = next(iter(KEYS.get(name.replace("-", "_"), [name])))
        near = f"did you mean {close[0]}?" if close else f"keys are written without dashes: {key}={value}"
        raise UserError(f"{word}: there is no such option; {near}; {_OPTIONS}")


def _refuse_bare(word: str, following: str) -> NoReturn:
    """Refuse a word without ``=``."""
    name, value = word.rstrip(":"), following
    if name.replace("/", ".").partition(".")[0] in known_keys()[""]:
        raise UserError(f"{word}: a key and its value are one word without blanks: {name}={value or 'VALUE'}")
    if (Path(word) / "run.json").is_file():
        raise UserError(f"{word}: to continue this run, write resume={word}")
    groups = [path.parent.relative_to(conf_dir()).as_posix() for path in sorted(conf_dir().rglob(f"{name}.yaml"))]
    near = f"did you mean {' or '.join(f'{group}={name}' for group in groups[:3])}? " if groups and name.isidentifier() else ""
    raise UserError(f"{word!r} is not an override: {near}write key=value, such as trainer.max_steps=100 or algorithm=maml")
