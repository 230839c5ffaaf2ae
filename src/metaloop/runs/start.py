"""A run from its identity to its report, in as many processes as its trainer wants."""

import sys
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from metaloop.records.schema import Record, RunIdentity


def train(run: RunIdentity, directory: str | Path | None = None) -> Path:
    """Train from Python: meta-train and meta-test what `metaloop.compose` composed, and write the report.

    Args:
        run: what to train.
        directory: of the new run; None for outputs/NAME/DATE_TIME below the working folder.

    Returns:
        The directory, which `metaloop.load_run` opens.

    Raises:
        UserError: the run cannot be built, or the directory holds a run already.
    """
    if directory is None:
        directory = Path("outputs") / run.name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    start(run, Path(directory), resume=False)
    return Path(directory)


def start(identity: RunIdentity, directory: Path, *, resume: bool) -> Record:
    """Run in ``directory``, in as many processes as the trainer wants, and write the report; returns the record."""
    from metaloop.records.directory import claimed, describe
    from metaloop.report.paper import read_paper
    from metaloop.report.summary import print_summary
    from metaloop.system.devices import ranks_of
    from metaloop.training.ranks import externally_launched, launch

    ranks = ranks_of(identity.config)
    if identity.config.get("paper"):
        read_paper(identity.config["paper"])
    if externally_launched():
        return run_rank(identity, directory, resume=resume, report=True)
    with claimed(directory):
        if not resume:
            describe(directory, identity, OmegaConf.to_yaml(OmegaConf.create(dict(identity.config))))
        try:
            if ranks == 1:
                record = run_rank(identity, directory, resume=resume, report=True)
            else:
                record = launch(run_rank, ranks, identity, directory, resume, True)
        except KeyboardInterrupt:
            print(f"\nstopped; go on with: metaloop train resume={directory}", file=sys.stderr)
            raise
    print_summary(record, directory)
    return record


def run_rank(identity: RunIdentity, directory: Path, resume: bool, report: bool = False) -> Record:
    """Build and run, as each rank does; returns the record.

    Args:
        identity: of the run.
        directory: of the run.
        resume: whether to go on from the last checkpoint.
        report: whether rank zero writes the report.
    """
    from metaloop.config.build import build_run
    from metaloop.system.allocator import tune
    from metaloop.training.process import set_up
    from metaloop.training.run import train

    tune()
    set_up(tf32=identity.config["tf32"])
    return train(build_run(identity.config), identity, directory, resume=resume, report=_report if report else None)


def _report(directory: Path) -> None:
    from metaloop.report.pages.run_report import write_run_report  # matplotlib: half a second that the first step need not wait

    write_run_report(directory)
