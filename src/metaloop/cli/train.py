"""``metaloop train``: run one config in one run directory."""

from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from metaloop.config.composed import ComposedRun, RunComposer
from metaloop.config.composition import Composer, composer
from metaloop.config.known_keys import known_keys
from metaloop.config.overrides import check_overrides, parse
from metaloop.config.trust import remember
from metaloop.errors import UserError
from metaloop.records.directory import finished, unfinished
from metaloop.runs.resume import resume

_HYDRAS = ("cfg", "info", "hydra_help", "shell_completion", "multirun", "config_path", "config_name", "package")
_ONLY_SHOW = ("cfg", "info", "hydra_help", "shell_completion")


def main(argv: list[str]) -> int:
    """Run with these overrides and flags; return 0, or raise what the run raises."""
    resumed = [word.removeprefix("resume=") for word in argv if word.startswith("resume=")]
    if resumed and resumed[-1] not in ("auto", "null"):
        others = [word for word in argv if not word.startswith("resume=")]
        if others:
            raise UserError(
                f"resume={resumed[-1]} continues the run with its own config; leave out {' '.join(others)}, or start a new run"
            )
        resume(Path(resumed[-1]))
        return 0
    flags = _flags(argv)
    if any(vars(flags)[name] for name in _HYDRAS) or any(parse(line).is_sweep_override() for line in flags.overrides):
        return by_hydra(argv)
    config_dirs = _config_dirs(flags)
    with composer("train", config_dirs, [parse(line) for line in flags.overrides], job_name="train") as hydra:
        run = RunComposer(hydra, config_dirs).compose(flags.overrides)
        if run.whole.hydra.mode != RunMode.MULTIRUN:
            _start(run, hydra)
            return 0
    return by_hydra(argv)


def by_hydra(argv: Sequence[str]) -> int:
    """Check the command line and pass it to Hydra, for Hydra's own sweeps and for options that only Hydra has."""
    from metaloop.cli import hydra_entry

    argv = sorted(argv, key=lambda word: word not in ("-m", "--multirun"))  # Hydra accepts it only before overrides
    flags = _flags(argv)
    if not any(vars(flags)[name] for name in _ONLY_SHOW):
        check_overrides("train", flags.overrides, _config_dirs(flags), bool(flags.multirun))
    hydra_entry.run(argv)
    return 0


def _flags(argv: Sequence[str]) -> Namespace:
    for word, following in pairwise([*argv, "VALUE"]):
        name, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name.partition(".")[0] in known_keys()[""]:
            raise UserError(f"{word}: keys are written without dashes: {name}={value or following}")
    flags: Namespace = get_args_parser().parse_args(sorted(argv, key=lambda word: word not in ("-m", "--multirun")))
    return flags


def _config_dirs(flags: Namespace) -> list[str]:
    return [flags.config_dir] if flags.config_dir else []


def _start(run: ComposedRun, hydra: Composer) -> None:
    """Start the run in Hydra's directory with Hydra's logging; with ``resume=auto`` continue an unfinished run."""
    from metaloop.runs.start import start

    run.whole.hydra.mode = RunMode.RUN
    identity = run.identity(None)
    remember(identity.config)
    if run.whole.resume == "auto":
        directory = unfinished(Path("outputs"), identity.fingerprint)
        if directory is not None:
            print(f"resume=auto: {directory} is unfinished and has this configuration; it goes on", flush=True)
            resume(directory)
            return
        done = finished(Path("outputs"), identity.fingerprint)
        also = f"; {done} has it and is finished" if done else ""
        print(f"resume=auto: no run below outputs is unfinished and has this configuration{also}; a new run starts", flush=True)

    def task(config: DictConfig) -> None:
        start(identity, Path(run.whole.hydra.runtime.output_dir), resume=False)

    context = HydraContext(hydra.loader, Callbacks(run.whole))
    try:
        result = run_job(task, run.whole, "hydra.run.dir", None, context)
    except OSError as error:  # of the run's directory; what the run itself raises is in the result
        reason = f"{error.filename} cannot be made ({error.strerror})"
        raise UserError(f"hydra.run.dir: {reason}; choose another folder with hydra.run.dir=DIR") from error
    if result.status == JobStatus.FAILED:
        raise result._return_value  # return_value would print "Error executing job" and all overrides before the message
