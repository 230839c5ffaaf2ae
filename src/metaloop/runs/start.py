"""Start a run from its identity and write its report, in as many processes as its trainer needs."""

import logging
import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from metaloop.errors import ProcessKilled, RankLost, UserError
from metaloop.records.schema import Record, RunIdentity
from metaloop.runs.logs import Logs
from metaloop.system.external_ranks import announce, deciding, decision, externally_launched, is_follower
from metaloop.system.stops import end_with

if TYPE_CHECKING:
    from metaloop.records.contents import SplitContents
    from metaloop.training.run import RunParts

log = logging.getLogger(__name__)


def train(run: RunIdentity, directory: str | Path | None = None) -> Path:
    """Train from Python: meta-train and meta-test a run of `metaloop.compose`, and write the report.

    Args:
        run: Identity of the run.
        directory: Directory of the new run; None for outputs/NAME/DATE_TIME below the working folder.

    Under torchrun, every rank calls this.

    Returns:
        The run directory, which `metaloop.load_run` opens; with several ranks, rank zero's.

    Raises:
        UserError: the run cannot be built, or the directory holds a run already.
    """
    from metaloop.config.trust import remember
    from metaloop.records.directory import discarded_unless_begun

    remember(run.config)
    if directory is None:
        directory = Path("outputs") / run.name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    with deciding(), discarded_unless_begun(Path(directory)):
        start(run, Path(directory), resume=False)
    chosen = decision() if is_follower() else None
    return chosen.directory if chosen else Path(directory)


def start(identity: RunIdentity, directory: Path, *, resume: bool) -> Record:
    """Run in ``directory``, in as many processes as the trainer needs, write the report and return the record.

    Args:
        identity: Identity of the run.
        directory: Run directory.
        resume: Whether to continue from the last checkpoint.

    Raises:
        UserError: the run cannot be built, or the directory is in use or holds another run.
    """
    from metaloop.records.directory import claimed, describe
    from metaloop.report.paper import read_paper
    from metaloop.report.summary import print_summary
    from metaloop.system.devices import check_world, ranks_of
    from metaloop.training.processes.peers import watching_peers
    from metaloop.training.processes.ranks import launch

    if is_follower():
        return _follow(identity)
    ranks = ranks_of(identity.config)
    if externally_launched():
        check_world(identity.config, int(os.environ.get("WORLD_SIZE", "1")))
    if identity.config.get("paper"):
        read_paper(identity.config["paper"])
    with claimed(directory):
        if not resume:
            describe(directory, identity, OmegaConf.to_yaml(OmegaConf.create(dict(identity.config))))
        log.info("run directory %s; if it is stopped, continue with: %s", directory, _command(directory))
        try:
            if externally_launched():
                end_with(os.getppid(), by_kernel=False)
                announce(directory, resume)
            if ranks == 1 or externally_launched():
                with watching_peers():
                    record = run_rank(identity, directory, resume, report=True)
            else:
                record = launch(_launched, ranks, identity, directory, resume, Logs.of_this_process())
        except (KeyboardInterrupt, ProcessKilled, RankLost, OSError) as error:
            _print_how_to_continue(directory, error)
            raise
    print_summary(record, directory)
    return record


def _follow(identity: RunIdentity) -> Record:
    """Run as another rank than zero of an external launcher, where rank zero decides."""
    from metaloop.training.processes.peers import watching_peers

    end_with(os.getppid(), by_kernel=False)
    chosen = decision()
    if chosen is None:
        raise UserError("rank zero runs nothing; its message says why")
    with watching_peers():
        return run_rank(identity, chosen.directory, chosen.resume)


def _print_how_to_continue(directory: Path, error: BaseException) -> None:
    if isinstance(error, OSError) and not (directory / "checkpoints").exists():  # a new directory goes with the error
        return
    print(f"\nstopped; continue with: {_command(directory)}", file=sys.stderr)


def _command(directory: Path) -> str:
    start = "torchrun ... -m metaloop" if externally_launched() else "metaloop"
    return f"{start} train {shlex.quote(f'resume={directory}')}"


def _launched(identity: RunIdentity, directory: Path, resume: bool, logs: Logs) -> Record:
    """Run as a rank that this program has started; rank zero writes the log where its parent does, and the report."""
    from metaloop.config.exit_codes import users_fault

    first = os.environ["RANK"] == "0"
    try:
        with logs.written() if first else nullcontext():
            return run_rank(identity, directory, resume, report=first)
    except Exception as error:
        fault = users_fault(error)  # asked here, because the traceback stays in this process
        if fault is None or isinstance(error, UserError):
            raise
        raise UserError(fault) from error


def run_rank(identity: RunIdentity, directory: Path, resume: bool, report: bool = False) -> Record:
    """Build the run and train in this process, which is one rank; return the record.

    Args:
        identity: Identity of the run.
        directory: Run directory.
        resume: Whether to continue from the last checkpoint.
        report: Whether rank zero writes the report.
    """
    from metaloop.records.contents import read_contents
    from metaloop.training.run import train

    parts = build_parts(identity, read_contents(directory) if resume else {})
    return train(parts, identity, directory, resume=resume, report=_report if report else None)


def build_parts(identity: RunIdentity, contents: Mapping[str, "SplitContents"]) -> "RunParts":
    """Prepare this process for a run, and build the run.

    Args:
        identity: Identity of the run.
        contents: What the splits of its data held when it began; empty for a new run.
    """
    from metaloop.config.build import build_dataset
    from metaloop.config.build_run import build_run
    from metaloop.config.data_paths import with_absolute_paths
    from metaloop.data.recorded import RecordedDataset
    from metaloop.system.allocator import tune
    from metaloop.training.processes.set_up import set_up

    tune()
    set_up(tf32=identity.config["tf32"])
    config = with_absolute_paths(identity.config, identity.folder)
    return build_run(config, RecordedDataset(build_dataset(config), contents))


def _report(directory: Path) -> None:
    from metaloop.report.pages.run_report import write_run_report  # imports matplotlib, which would delay the first step

    write_run_report(directory)
