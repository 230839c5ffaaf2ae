"""Location of the configuration folder, and of the user's own folders with the packages beside them."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.code import targets
from metaloop.records.schema import Code

_FLAGS = ("--config-dir", "-cd")


def conf_dir() -> Path:
    """Find the folder of ``train.yaml`` and the groups.

    An installed wheel has it inside the package. A clone, also one that is installed as editable, has it at its root.

    Raises:
        FileNotFoundError: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the configuration folder {package / 'conf'} is missing; install metaloop again")


def split_config_dirs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the folders that a command names with ``--config-dir`` from its other words."""
    folders, others = [], []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in _FLAGS:
            others.append(word)
        elif equals or waiting:
            folders.append(value if equals else waiting.pop(0))
        else:
            raise UserError(f"{word}: name a folder of configuration groups, {word} DIR")
    return folders, others


def make_importable(config_dirs: Sequence[str]) -> None:
    """Let this process and those that it starts import the packages that lie beside configuration folders.

    Of ``mylab/conf`` that is ``mylab``; if that is a package itself, the folder around it. What is on the path already comes
    first. A user who names a configuration folder means the code that it belongs to.

    Raises:
        UserError: a folder does not exist.
    """
    for config_dir in config_dirs:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: there is no such folder")
        folder = Path(config_dir).resolve().parent
        while (folder / "__init__.py").exists() and folder != folder.parent:
            folder = folder.parent
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))


def check_packages(config: Mapping[str, Any], source: Path, configuration: Sequence[Code] = ()) -> None:
    """Check that the packages that a config names are there; nothing is imported.

    Args:
        config: A config that was read from a file.
        source: The file.
        configuration: The user's folders that it was composed from, which the message then names.

    Raises:
        UserError: a package cannot be found.
    """
    for package in sorted({target.partition(".")[0] for target in targets(config)}):
        if not package.isidentifier() or package in sys.modules or importlib.util.find_spec(package) is not None:
            continue
        folders = " ".join(f"--config-dir {code.package}" for code in configuration) or "--config-dir DIR"
        raise UserError(
            f"{source} names classes of {package}, and no package of this name can be imported: add {folders} (the folder of "
            f"configuration beside the package), put the package's folder on PYTHONPATH, or install it"
        )
