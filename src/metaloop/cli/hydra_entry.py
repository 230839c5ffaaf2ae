"""``python -m metaloop.cli.hydra_entry``: run with plain Hydra, with its own sweeps, options and shell completion."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from metaloop.config.composition import DEFAULTS, own_folders
from metaloop.config.folder import conf_dir
from metaloop.config.identity import run_identity
from metaloop.config.trust import remember
from metaloop.records.code import configuration_of
from metaloop.records.directory import unfinished
from metaloop.runs.resume import resume
from metaloop.runs.start import start


@hydra.main(**DEFAULTS, config_path=str(conf_dir()), config_name="train")
def job(config: DictConfig) -> float:
    """Run once, alone or in a sweep of Hydra; return the best meta-validation score, for Hydra's sweepers."""
    settings = HydraConfig.get()
    multirun = settings.mode == hydra.types.RunMode.MULTIRUN
    group = Path(settings.sweep.dir).name if multirun else None
    runtime = settings.runtime
    configuration = configuration_of(own_folders(runtime))
    identity = run_identity(config, runtime.choices, settings.overrides.task, group, configuration)
    remember(identity.config)
    directory = Path(settings.runtime.output_dir)
    stopped = unfinished(Path("outputs"), identity.fingerprint) if config.resume == "auto" else None
    if stopped is None:
        record = start(identity, directory, resume=False)
    else:
        shutil.rmtree(directory)  # Hydra made it for a new run; it holds nothing but an empty log
        record = resume(stopped, screen=False)
    return record.training.best_validation if record.training else float("nan")


def run(argv: Sequence[str]) -> None:
    """Pass the command line to Hydra."""
    sys.argv = [sys.argv[0], *argv]
    job()


def main(argv: list[str]) -> int:
    """Check the command line, then pass it to Hydra."""
    from metaloop.cli.train import by_hydra

    return by_hydra(argv)


if __name__ == "__main__":
    from metaloop.config.exit_codes import run_and_exit_code

    sys.exit(run_and_exit_code(main, sys.argv[1:]))
