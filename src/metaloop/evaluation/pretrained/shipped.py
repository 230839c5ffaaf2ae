"""Runs that come with the package, so that a user predicts without any training."""

from pathlib import Path

from metaloop.records.schema import IDENTITY

_FOLDER = Path(__file__).resolve().parents[2] / "shipped"


def shipped_runs() -> tuple[str, ...]:
    """Names of the runs in the package."""
    return tuple(sorted(path.parent.name for path in _FOLDER.glob(f"*/{IDENTITY}")))


def shipped_run(name: str | Path) -> Path | None:
    """Directory of the run of this name in the package; None if there is none, or a folder of that name is here."""
    name = str(name)
    return _FOLDER / name if name in shipped_runs() and not Path(name).exists() else None
