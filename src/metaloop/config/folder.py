"""Location of the configuration folder."""

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
