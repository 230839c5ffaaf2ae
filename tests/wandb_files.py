"""W&B's offline files, read by W&B's reader, and an environment without a W&B account."""

from pathlib import Path
from typing import Any

import pytest
import wandb

from metaloop.tracking.wandb import read_back

ACCOUNT = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_RUN_GROUP", "WANDB_IDENTITY_TOKEN_FILE")


def without_account(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove API keys, the mode and the settings of the developer and of earlier tests."""
    for name in ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(home / "no-netrc"))
    monkeypatch.setenv("HOME", str(home))
    wandb.teardown()


def read(directory: Path) -> tuple[Path, dict[str, list[Any]]]:
    """Read the only unsent offline folder below ``directory``: its path, and records by kind with merged summaries."""
    wandb.teardown()  # until its service has ended the file may be incomplete
    files = directory.rglob("offline-run-*/*.wandb")
    (path,) = (path for path in files if not path.with_suffix(".wandb.synced").exists())
    records: dict[str, list[Any]] = {"summary": [{}]}
    for record in read_back(path):
        kind = record["type"]
        if kind == "summary":
            records["summary"][0] |= record["summary"]["update"]
        elif kind == "history":
            row = record["history"]["item"]
            kept = {name: value for name, value in row.items() if not name.startswith("_")} | {"_step": row["_step"]}
            records.setdefault("history", []).append(kept)
        else:
            records.setdefault(kind, []).append(record.get(kind, {}))
    return path.parent, records
