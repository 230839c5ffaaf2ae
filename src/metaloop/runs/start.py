"""``metaloop train``: one config in, one run directory out."""

import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from metaloop.config.folder import conf_dir
from metaloop.config.overrides import check_overrides
from metaloop.errors import UserError


def run(description: Mapping[str, Any], directory: str, resume: bool, report: bool = False) -> dict[str, Any]:
    """Build and run what ``description`` (of run.json) says, and ``report`` it; the same in every rank. Returns the record."""
    from metaloop.config.build import build_run
    from metaloop.system.allocator import tune
    from metaloop.system.tf32 import allow_tf32
    from metaloop.training.run import RunIdentity, train
    from metaloop.training.silence import quieten

    tune()
    quieten()
    allow_tf32(description["config"].get("tf32", False))  # older runs have no such key
    identity = RunIdentity(directory=Path(directory), **description)
    return train(build_run(identity.config), identity, resume=resume, report=_report if report else None)


def _report(directory: Path) -> None:
    from metaloop.report.pages.run_report import write_run_report  # matplotlib: half a second that the first step need not wait

    write_run_report(directory)


def start(description: Mapping[str, Any], directory: Path, *, resume: bool) -> dict[str, Any]:
    """Run in ``directory``, in as many processes as the trainer wants, and write the report."""
    from metaloop.records.directory import claimed, describe
    from metaloop.report.paper import check_paper
    from metaloop.report.summary import print_summary
    from metaloop.system.devices import ranks_of
    from metaloop.training.ranks import externally_launched, launch

    ranks = ranks_of(description["config"])
    if description["config"].get("paper"):
        check_paper(description["config"]["paper"], metric="")
    if externally_launched():
        return run(description, str(directory), resume, report=True)
    with claimed(directory):
        if not resume:
            describe(directory, description, OmegaConf.to_yaml(OmegaConf.create(dict(description["config"]))))
        arguments = (description, str(directory), resume, True)
        try:
            record = run(*arguments) if ranks == 1 else launch(run, ranks, *arguments)
        except KeyboardInterrupt:
            print(f"\nstopped; go on with: metaloop train resume={directory}", file=sys.stderr)
            raise
    print_summary(record, directory)
    return record


def describe_run(config: DictConfig, choices: Mapping[str, str], overrides: Sequence[str], group: str | None) -> dict[str, Any]:
    """What run.json says: the whole identity of a run, as plain data."""
    from metaloop.config.build import fingerprint, plain

    resolved = plain(config)
    return {
        "name": resolved["name"],
        "seed": resolved["seed"],
        "choices": {group: choice for group, choice in choices.items() if not group.startswith("hydra/") and choice},
        "config": resolved,
        "overrides": list(overrides),
        "command": ["metaloop", "train", *overrides],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": fingerprint(resolved),
        "group": group,
    }


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def job(config: DictConfig) -> float:
    """Hydra's entry: one run, or one of a sweep; returns the best meta-validation score for sweepers."""
    from metaloop.records.directory import description, unfinished

    settings = HydraConfig.get()
    multirun = settings.mode == hydra.types.RunMode.MULTIRUN
    group = Path(settings.sweep.dir).name if multirun else None
    identity = describe_run(config, settings.runtime.choices, settings.overrides.task, group)
    directory = Path(settings.runtime.output_dir)
    found = unfinished(Path("outputs"), identity["fingerprint"]) if config.resume == "auto" else None
    if found is None:
        record = start(identity, directory, resume=False)
    else:
        shutil.rmtree(directory)  # made by Hydra for a new run, with nothing in it but a log that has not begun
        with _logged(found / "train.log", screen=False):  # Hydra logs to the screen already
            record = start(description(found), found, resume=True)
    return float(record["training"]["best_validation"])


def resume_run(directory: Path, others: Sequence[str]) -> None:
    """Go on with the run in ``directory`` as it was configured."""
    from metaloop.records.directory import description

    if others:
        raise UserError(
            f"resume={directory} goes on with the run as it was configured; leave out {' '.join(others)}, or start a new run"
        )
    if (directory / "record.json").exists():
        raise UserError(f"{directory} is finished: see metaloop report {directory}, or metaloop evaluate run={directory}")
    told = description(directory)
    with _logged(directory / "train.log"):
        start(told, directory, resume=True)


@contextmanager
def _logged(path: Path, *, screen: bool = True) -> Iterator[None]:
    """Log to the file and to the screen, as Hydra does where it starts a run."""
    root, before = logging.getLogger(), logging.getLogger().level
    handlers: list[logging.Handler] = [logging.FileHandler(path)]
    if screen:
        handlers.append(logging.StreamHandler(sys.stdout))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def main(argv: list[str]) -> int:
    """Run with these overrides and flags; returns the exit code of success, errors are raised."""
    resumed = [word.removeprefix("resume=") for word in argv if word.startswith("resume=")]
    if resumed and resumed[-1] not in ("auto", "null"):
        resume_run(Path(resumed[-1]), [word for word in argv if not word.startswith("resume=")])
        return 0
    argv = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))  # Hydra takes it only before overrides
    flags = get_args_parser().parse_args(argv)
    only_shows = flags.cfg or flags.info or flags.hydra_help or flags.shell_completion
    can_mistake = flags.overrides or flags.config_dir  # the default cannot, and starts a third of a second sooner unchecked
    if can_mistake and not only_shows:
        check_overrides("train", flags.overrides, [flags.config_dir] if flags.config_dir else [], bool(flags.multirun))
    sys.argv = [sys.argv[0], *argv]
    job()
    return 0


if __name__ == "__main__":
    from metaloop.config.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
