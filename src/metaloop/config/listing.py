"""``metaloop list``: what can be chosen, from the configuration's own files.

The first comment of a YAML file is its description, by convention.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

GROUPS = {"algorithms": "algorithm", "models": "model", "datasets": "dataset", "experiments": "experiment", "sweeps": "sweep"}


@dataclass(frozen=True)
class Entry:
    """One thing to choose.

    Attributes:
        kind: such as ``algorithms``.
        name: as in ``algorithm=<name>``.
        description: one sentence; empty where the file has none.
    """

    kind: str
    name: str
    description: str


def entries(kinds: Sequence[str], config_dirs: Sequence[str] = ()) -> list[Entry]:
    """What can be chosen of these kinds, sorted by name; a name of ours hides the same name in ``config_dirs``.

    Raises:
        UserError: there is no such kind or folder.
    """
    for kind in kinds:
        if kind not in GROUPS:
            raise UserError(f"list {kind}: {did_you_mean(kind, GROUPS)}it lists {', '.join(GROUPS)}")
    for folder in config_dirs:
        if not Path(folder).is_dir():
            raise UserError(f"--config-dir {folder}: there is no such folder")
    found = []
    folders = [conf_dir(), *map(Path, config_dirs)]
    for kind in kinds:
        files: dict[str, Path] = {}
        for place in folders:
            for path in (place / GROUPS[kind]).glob("*.yaml"):
                files.setdefault(path.stem, path)
        found += [Entry(kind, name, _description(files[name])) for name in sorted(files)]
    return found


def _description(path: Path) -> str:
    for line in path.read_text().splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#"):
            return ""
        if text and not text.startswith("@package"):
            return text
    return ""


def show(kind: str | None, config_dirs: Sequence[str]) -> None:
    """Print tables on a terminal, else tab-separated name and description, after the kind where all are listed."""
    found = entries(list(GROUPS) if kind is None else [kind], config_dirs)
    if sys.stdout.isatty():
        _show_tables(found)
        return
    for entry in found:
        print(*([entry.kind] if kind is None else []), entry.name, entry.description, sep="\t")


def _show_tables(found: Sequence[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind in dict.fromkeys(entry.kind for entry in found):
        table = Table(kind, f"choose with {GROUPS[kind]}=...", box=box.SIMPLE_HEAD, title_justify="left")
        for entry in found:
            if entry.kind == kind:
                table.add_row(entry.name, entry.description)
        console.print(table, markup=False)
