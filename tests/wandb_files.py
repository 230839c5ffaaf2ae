"""W&B's offline files, read by W&B's own reader."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

ACCOUNT = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_RUN_GROUP", "WANDB_IDENTITY_TOKEN_FILE")


def folders(directory: Path) -> list[Path]:
    """Those of offline runs below ``directory``, in the order of time."""
    return sorted(path for path in directory.rglob("offline-run-*") if path.is_dir())


def records(folder: Path) -> list[dict[str, Any]]:
    """Every record of one offline folder; none where the run was killed before W&B's service made its file."""
    wandb.teardown()  # until its service has ended the file may be incomplete
    files = list(folder.glob("*.wandb"))
    if not files:
        return []
    (path,) = files
    words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    quiet = {**os.environ, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=quiet).stdout
    return [json.loads(line) for line in said.splitlines()]


def of_kind(found: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The records of one kind, such as ``history``."""
    return [record[kind] for record in found if record["type"] == kind]


def history(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, less what W&B adds."""
    rows = [record["item"] for record in of_kind(found, "history")]
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The summary after all updates."""
    merged: dict[str, Any] = {}
    for record in of_kind(found, "summary"):
        merged |= record["update"]
    return merged
