"""Resume a run that was stopped."""

from pathlib import Path

from metaloop.config.trust import read_received_identity
from metaloop.errors import UserError
from metaloop.records.directory import check_links, claimed, is_complete
from metaloop.records.jobs import LOG
from metaloop.records.reading import read_record
from metaloop.records.schema import RECORD, Record
from metaloop.runs.logs import Logs
from metaloop.system.external_ranks import is_follower


def resume(directory: Path, *, screen: bool = True) -> Record:
    """Continue the run in ``directory`` from its last checkpoint with its own config; return the record.

    A run that was stopped between its record and its report gets the report.

    Args:
        directory: Run directory.
        screen: Whether to log to the screen; False if Hydra does so already.

    Raises:
        UserError: the directory holds no run, the run is finished, or it asks for what is not trusted.
    """
    from metaloop.runs.start import start

    if is_follower():
        return start(read_received_identity(directory), directory, resume=True)
    if directory.suffix == ".ckpt":
        raise UserError(f"resume={directory} is a checkpoint; name its run: resume={directory.parent.parent}")
    if is_complete(directory):
        raise UserError(f"{directory} is finished: see metaloop report {directory}, or metaloop evaluate run={directory}")
    identity = read_received_identity(directory)
    check_links(directory)
    if (directory / RECORD).exists():
        return complete(directory)
    with Logs((directory / LOG,), screen).written():
        return start(identity, directory, resume=True)


def complete(directory: Path) -> Record:
    """Write the report of a run that was stopped after its record, and return the record.

    Raises:
        UserError: the record cannot be read, or another process works in the directory.
    """
    from metaloop.report.pages.run_report import write_run_report
    from metaloop.report.summary import print_summary

    with claimed(directory):
        record = read_record(directory)
        write_run_report(directory)
    print_summary(record, directory)
    return record
