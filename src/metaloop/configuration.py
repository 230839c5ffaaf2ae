"""Where the configuration lies."""

from pathlib import Path


def conf_dir() -> Path:
    """The folder of ``train.yaml``, ``evaluate.yaml`` and the groups.

    In an installed wheel it lies inside the package; in a clone, or an editable install of one, at the repository's root.

    Raises:
        FileNotFoundError: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the configuration folder {package / 'conf'} is missing; install metaloop again")
