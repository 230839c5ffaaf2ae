"""Location of the configuration folder."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path


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


def make_importable(config_dirs: Sequence[str]) -> None:
    """Let this process and those that it starts import the packages that lie beside configuration folders.

    Of ``mylab/conf`` that is ``mylab``; if that is a package itself, the folder around it. What is on the path already comes
    first. A user who names a configuration folder means the code that it belongs to.
    """
    for config_dir in config_dirs:
        folder = Path(config_dir).resolve().parent
        while (folder / "__init__.py").exists() and folder != folder.parent:
            folder = folder.parent
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
