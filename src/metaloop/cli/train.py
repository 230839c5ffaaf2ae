"""``metaloop train``: run one config in one run directory."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from metaloop.cli.command_line import read_flags
from metaloop.config.composed import ComposedRun, RunComposer
from metaloop.config.composition import Composer, composer
from metaloop.config.overrides import check_overrides, parse, quoted
from metaloop.config.trust import remember
from metaloop.errors import UserError
from metaloop.records.directory import discarded_unless_begun, finished, unfinished
from metaloop.runs.resume import resume
from metaloop.system.external_ranks import deciding, decision, is_follower

_HYDRAS = ("cfg", "info", "hydra_help", "shell_completion", "multirun", "config_path", "config_name", "package")
DRY_RUN = "--dry-run"
_ONLY_SHOW = ("cfg", "info", "hydra_help", "shell_completion")


def main(argv: list[str]) -> int:
    """Run with these overrides and flags; return 0, or raise what the run raises."""
    if is_follower() and decision() is None:  # rank zero says why
        return 0
    with deciding():
        return _run(argv)


def _run(argv: list[str]) -> int:
    if "resume" in argv or "resume=" in argv:
        raise UserError("resume=DIR needs a run directory; resume=auto continues the unfinished run of this configuration")
    for word in argv:
        if word.lower() in ("resume=true", "resume=yes", "resume=1", "resume=last", "resume=latest"):
            raise UserError(f"{word}: write resume=auto for the unfinished run of this configuration, or resume=DIR")
    resumed = [word.removeprefix("resume=") for word in argv if word.startswith("resume=")]
    if resumed and resumed[-1] not in ("auto", "null"):
        others = [word for word in argv if not word.startswith("resume=")]
        if others:
            raise UserError(
                f"resume={resumed[-1]} continues the run with its own config; leave out {' '.join(others)}, or start a new run"
            )
        resume(Path(resumed[-1]))
        return 0
    trying = DRY_RUN in argv
    argv = [quoted(word) for word in argv if word != DRY_RUN]
    flags = read_flags(argv)
    if trying and resumed and resumed[-1] != "null":
        raise UserError(f"{DRY_RUN} tries a new run; leave out resume={resumed[-1]}")
    if trying:
        _check_tryable(flags, several=bool(flags.multirun))
    if any(vars(flags)[name] for name in _HYDRAS) or any(parse(line).is_sweep_override() for line in flags.overrides):
        return by_hydra(argv)
    config_dirs = _config_dirs(flags)
    with composer("train", config_dirs, [parse(line) for line in flags.overrides], job_name="train") as hydra:
        run = RunComposer(hydra, config_dirs).compose(flags.overrides)
        if run.whole.hydra.mode != RunMode.MULTIRUN:
            if trying:
                _try(run)
            else:
                _start(run, hydra)
            return 0
    if trying:
        _check_tryable(flags, several=True)
    return by_hydra(argv)


def by_hydra(argv: Sequence[str]) -> int:
    """Check the command line and pass it to Hydra, for Hydra's own sweeps and for options that only Hydra has."""
    from metaloop.cli import hydra_entry

    argv = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))  # Hydra accepts it only before overrides
    flags = read_flags(argv)
    if not any(vars(flags)[name] for name in _ONLY_SHOW):
        check_overrides("train", flags.overrides, _config_dirs(flags), bool(flags.multirun))
    hydra_entry.run(argv)
    return 0


def _config_dirs(flags: Namespace) -> list[str]:
    return [flags.config_dir] if flags.config_dir else []


def _check_tryable(flags: Namespace, *, several: bool) -> None:
    """Check that ``--dry-run`` has one run to try, and that no other option says what to do."""
    if any(vars(flags)[name] for name in _ONLY_SHOW):
        raise UserError(f"{DRY_RUN} tries a run, and options that only show something run nothing: leave one of them out")
    if several:
        raise UserError(
            f"{DRY_RUN} tries one run or a sweep of metaloop's own: leave out hydra/sweeper and what else is Hydra's"
        )


def _try(run: ComposedRun) -> None:
    """Print what the run will take and where it would be written."""
    from metaloop.runs.dry_run import dry_run

    run.whole.hydra.mode = RunMode.RUN
    dry_run(run.identity(None), run.pin_directory())


def _start(run: ComposedRun, hydra: Composer) -> None:
    """Start the run in Hydra's directory with Hydra's logging; with ``resume=auto`` continue an unfinished run."""
    from metaloop.runs.start import start

    run.whole.hydra.mode = RunMode.RUN
    identity = run.identity(None)
    remember(identity.config)
    if is_follower():
        start(identity, Path(), resume=False)  # where rank zero says
        return
    if run.whole.resume == "auto":
        directory = unfinished(Path("outputs"), identity.fingerprint)
        if directory is not None:
            print(f"resume=auto: {directory} is unfinished and has this configuration; it goes on", flush=True)
            resume(directory)
            return
        done = finished(Path("outputs"), identity.fingerprint)
        also = f"; {done} has it and is finished" if done else ""
        print(f"resume=auto: no run below outputs is unfinished and has this configuration{also}; a new run starts", flush=True)

    directory = run.pin_directory()

    def task(config: DictConfig) -> Exception | None:
        try:
            start(identity, directory, resume=False)
        except Exception as error:  # Hydra would print a line of its own before it raises the error again
            return error
        return None

    context = HydraContext(hydra.loader, Callbacks(run.whole))
    try:
        with discarded_unless_begun(directory):
            error = run_job(task, run.whole, "hydra.run.dir", None, context).return_value
            if error is not None:
                raise error
    except OSError as error:
        if error.filename is None or Path(error.filename) not in (directory, *directory.parents):
            raise
        reason = f"{error.filename} cannot be made ({error.strerror})"
        raise UserError(f"hydra.run.dir: {reason}; choose another folder with hydra.run.dir=DIR") from error
