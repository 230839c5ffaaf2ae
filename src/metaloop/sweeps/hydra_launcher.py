"""A sweep by any launcher that is made for Hydra: joblib, Slurm (submitit), Ray.

The launcher's processes look into the same ledger, so it does not matter which of them are requeued, killed or started twice.
"""

import logging
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from metaloop.config.composition import composer
from metaloop.sweeps.job import run_job
from metaloop.sweeps.ledger import LOG, LOG_FORMAT, Job, Ledger

log = logging.getLogger(__name__)


def run_one(sweep: str, stale: float, retries: int, config: DictConfig) -> None:
    """What a launcher's job does: the run whose directory it was given. How it ended stands in the ledger."""
    ledger = Ledger(Path(sweep), stale)
    subdir = HydraConfig.get().sweep.subdir
    key = next(job.key for job in ledger.jobs() if job.directory == subdir)
    with (ledger.directory / subdir / LOG).open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=file, force=True)
        try:
            run_job(ledger, key, "", retries)
        except (Exception, KeyboardInterrupt):
            traceback.print_exc()
        finally:
            logging.basicConfig(force=True)  # the file closes


def launch(ledger: Ledger, jobs: Sequence[Job], options: Sequence[str], config_dirs: Sequence[str], retries: int) -> None:
    """Have a Hydra launcher run these, and wait for it.

    Args:
        ledger: of the sweep.
        jobs: to run.
        options: which launcher, and its settings: overrides of hydra/launcher and hydra.launcher.
        config_dirs: further folders of configuration groups.
        retries: of a run that failed.
    """
    with composer("train", config_dirs, []) as own:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        # What Hydra would print of every job the ledger's teller says better, and a job has a log of its own.
        named = [f"hydra.sweep.dir='{ledger.directory}'", f"hydra.job.name='{ledger.directory.name}'"]
        more = [*named, "hydra/hydra_logging=none", "hydra/job_logging=none"]
        config = hydra.compose_config("train", [*own.searchpath, *more, *options], RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        task: Callable[[DictConfig], None] = partial(run_one, str(ledger.directory), ledger.stale, retries)
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
        try:
            launcher.launch([[*job.overrides, f"hydra.sweep.subdir='{job.directory}'"] for job in jobs], initial_job_idx=0)
        except Exception as error:  # one job that was killed; the ledger knows how all the others fare
            log.warning("the launcher ended with %s: %s", type(error).__name__, error)
