"""``--dry-run``: what a run will take and where it would be written, found out by a short trial that leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metaloop.errors import UserError
from metaloop.records.directory import check_unused
from metaloop.records.schema import RunIdentity
from metaloop.system.external_ranks import externally_launched

if TYPE_CHECKING:  # it imports Lightning
    from metaloop.training.trial import Trial


def dry_run(identity: RunIdentity, directory: Path) -> None:
    """Try a run, and print what it will take and where it would be written.

    Args:
        identity: Identity of the run.
        directory: Directory that it would have.

    Raises:
        UserError: the run cannot be built, or the directory holds a run already.
    """
    check_unused(directory)
    trial = tried(identity, in_this_process=True)
    print(f"dry run             {identity.name} would be written to {directory}; nothing is written now")
    for line in described(trial):
        print(line)


def tried(identity: RunIdentity, *, in_this_process: bool) -> Trial:
    """Try a run in as many processes as its trainer needs.

    Args:
        identity: Identity of the run.
        in_this_process: Whether a trial of one process is this one; otherwise its memory is not mixed with this one's.

    Raises:
        UserError: the run cannot be built or trained, or torchrun has started this process.
    """
    from metaloop.report.paper import read_paper
    from metaloop.system.devices import ranks_of
    from metaloop.training.processes.ranks import launch

    if externally_launched():
        raise UserError("--dry-run starts the run's ranks by itself; start it without torchrun (LOCAL_RANK is set)")
    ranks = ranks_of(identity.config)
    if identity.config.get("paper"):
        read_paper(identity.config["paper"])
    trial: Trial = _try(identity) if ranks == 1 and in_this_process else launch(_try_in_rank, ranks, identity)
    return trial


def _try(identity: RunIdentity) -> Trial:
    from metaloop.runs.start import build_parts
    from metaloop.training.trial import try_out

    return try_out(build_parts(identity, {}), identity)


def _try_in_rank(identity: RunIdentity) -> Trial:
    from metaloop.config.exit_codes import users_fault

    try:
        return _try(identity)
    except Exception as error:
        fault = users_fault(error)  # asked here, because the traceback stays in this process
        if fault is None or isinstance(error, UserError):
            raise
        raise UserError(fault) from error


def rough(seconds: float) -> str:
    """Format an estimate of a time, with no more digits than it deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.2g} min" if minutes < 10 else f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def described(trial: Trial) -> list[str]:
    """Lines for people about what a run will take, and how that is known."""
    from metaloop.report.formats import memory

    low, high = trial.likely
    most = "at most about" if trial.patience else "about"
    between = "" if rough(low) == rough(high) else f" ({rough(low)} to {rough(high)})"
    stepping = max(0.0, trial.seconds - trial.start_up - trial.validating - trial.testing)
    parts = [
        f"{rough(trial.start_up)} to the second outer step",
        f"{rough(stepping)} for {trial.max_steps:,} outer steps",
        f"{rough(trial.validating)} for {trial.validations:,} validations",
        f"{rough(trial.testing)} for the meta-test",
    ]
    where = "of a GPU" if trial.on_device else "of this machine"
    return [
        f"{'tasks run by':<20}{trial.over_tasks}",
        f"{'time':<20}{most} {rough(trial.seconds)}{between}",
        f"{'':<20}{', '.join(parts)}",
        f"{'memory':<20}about {memory(trial.memory)} {where}, so far",
        f"{'measured':<20}{len(trial.steps)} outer steps after the second, {trial.episodes} validation episodes",
        f"{'':<20}on this machine as it is now; the meta-test is priced at the rate of the validation episodes",
        f"{'not included':<20}trackers, callbacks, checkpoints, baselines and the report"
        + ("; patience may end the run earlier" if trial.patience else ""),
    ]
