"""Where the configuration lies."""

from pathlib import Path


def conf_dir() -> Path:
    """The folder of ``train.yaml`` and the groups.

    An installed wheel has it inside the package; a clone, also when installed as editable, at the repository's root.

    Raises:
        FileNotFoundError: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the configuration folder {package / 'conf'} is missing; install metaloop again")
