"""``metaloop list``: list the options of the configuration groups.

By convention, the first comment of a YAML file is its description.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

GROUPS = {"algorithms": "algorithm", "models": "model", "datasets": "dataset", "experiments": "experiment", "sweeps": "sweep"}


@dataclass(frozen=True)
class Option:
    """Option of a group.

    Attributes:
        kind: Key of :data:`GROUPS`, such as ``algorithms``, or a group, such as ``algorithm/rule``.
        name: Name of the option, as in ``algorithm=<name>``.
        description: One sentence; empty if the file has none.
    """

    kind: str
    name: str
    description: str


def entries(kinds: Sequence[str], config_dirs: Sequence[str] = ()) -> list[Option]:
    """List the options of these kinds, sorted by name; a name of metaloop hides the same name in ``config_dirs``.

    Raises:
        UserError: a kind is unknown, or a folder does not exist.
    """
    for config_dir in config_dirs:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir {config_dir}: there is no such folder")
    options = []
    folders = [conf_dir(), *map(Path, config_dirs)]
    groups = sorted({path.parent.relative_to(folder).as_posix() for folder in folders for path in folder.rglob("*/*.yaml")})
    kinds = [_known(kind, groups) for kind in kinds]
    for kind in kinds:
        files: dict[str, Path] = {}
        for folder in folders:
            for path in (folder / GROUPS.get(kind, kind)).glob("*.yaml"):
                files.setdefault(path.stem, path)
        options += [Option(kind, name, _description(files[name])) for name in sorted(files)]
    return options


def _known(kind: str, groups: Sequence[str]) -> str:
    """The kind or group that is meant: groups may be in the plural, or by their last part alone if no other has it."""
    known = [*GROUPS, *groups]
    for name in (kind, kind.removesuffix("s")):
        meant = [name] if name in known else [group for group in groups if group.rpartition("/")[2] == name]
        if len(meant) == 1:
            return meant[0]
    raise UserError(f"list {kind}: {did_you_mean(kind, known)}it lists {', '.join(known)}")


def _description(path: Path) -> str:
    for line in path.read_text().splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#"):
            return ""
        if text and not text.startswith("@package"):
            return text
    return ""


def show(kind: str | None, config_dirs: Sequence[str], beginning: str = "", remarks: Mapping[str, str] | None = None) -> None:
    """Print tables on a terminal, else tab-separated lines of name and description, with the kind first if all are listed.

    Args:
        kind: Kind or group; None for the five kinds.
        config_dirs: Further folders of configuration groups.
        beginning: Beginning of the names to list; empty for all.
        remarks: A further column by name; None for none.

    Raises:
        UserError: The kind is unknown, or no name has this beginning.
    """
    every = entries(list(GROUPS) if kind is None else [kind], config_dirs)
    options = [option for option in every if option.name.startswith(beginning)]
    if not options and every:
        near = did_you_mean(beginning, [option.name for option in every])
        raise UserError(f"list {kind} {beginning}: no name begins so; {near}metaloop list {kind} shows all {len(every)}")
    if sys.stdout.isatty():
        _show_tables(options, remarks)
        return
    for entry in options:
        columns = [*([entry.kind] if kind is None else []), entry.name, entry.description]
        print(*columns, *([remarks.get(entry.name, "")] if remarks else []), sep="\t")


def _show_tables(options: Sequence[Option], remarks: Mapping[str, str] | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind in dict.fromkeys(entry.kind for entry in options):
        heads = [kind, f"choose with {GROUPS.get(kind, kind)}=...", *(["reproduced"] if remarks else [])]
        table = Table(*heads, box=box.SIMPLE_HEAD, title_justify="left")
        for entry in options:
            if entry.kind == kind:
                table.add_row(entry.name, entry.description, *([remarks.get(entry.name, "")] if remarks else []))
        console.print(table, markup=False)
