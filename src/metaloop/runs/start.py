"""Start a run from its identity and write its report, in as many processes as its trainer needs."""

import shlex
import sys
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from metaloop.errors import ProcessKilled
from metaloop.records.schema import Record, RunIdentity


def train(run: RunIdentity, directory: str | Path | None = None) -> Path:
    """Train from Python: meta-train and meta-test a run of `metaloop.compose`, and write the report.

    Args:
        run: Identity of the run.
        directory: Directory of the new run; None for outputs/NAME/DATE_TIME below the working folder.

    Returns:
        The run directory, which `metaloop.load_run` opens.

    Raises:
        UserError: the run cannot be built, or the directory holds a run already.
    """
    from metaloop.config.trust import remember
    from metaloop.records.directory import discarded_unless_begun

    remember(run.config)
    if directory is None:
        directory = Path("outputs") / run.name / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    with discarded_unless_begun(Path(directory)):
        start(run, Path(directory), resume=False)
    return Path(directory)


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
        except (KeyboardInterrupt, ProcessKilled):
            print(f"\nstopped; continue with: {shlex.join(['metaloop', 'train', f'resume={directory}'])}", file=sys.stderr)
            raise
    print_summary(record, directory)
    return record


def run_rank(identity: RunIdentity, directory: Path, resume: bool, report: bool = False) -> Record:
    """Build the run and train in this process, which is one rank; return the record.

    Args:
        identity: Identity of the run.
        directory: Run directory.
        resume: Whether to continue from the last checkpoint.
        report: Whether rank zero writes the report.
    """
    from metaloop.config.build import build_dataset, build_run
    from metaloop.config.data_paths import with_absolute_paths
    from metaloop.data.recorded import RecordedDataset
    from metaloop.records.contents import read_contents
    from metaloop.system.allocator import tune
    from metaloop.training.process import set_up
    from metaloop.training.run import train

    tune()
    set_up(tf32=identity.config["tf32"])
    config = with_absolute_paths(identity)
    dataset = RecordedDataset(build_dataset(config), read_contents(directory) if resume else {})
    return train(build_run(config, dataset), identity, directory, resume=resume, report=_report if report else None)


def _report(directory: Path) -> None:
    from metaloop.report.pages.run_report import write_run_report  # imports matplotlib, which would delay the first step

    write_run_report(directory)
