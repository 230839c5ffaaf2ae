"""Sweeps through any Hydra launcher, such as joblib or Slurm (submitit).

All processes use the same ledger, so it does not matter if some are requeued, killed or started twice.
"""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
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
from metaloop.records.directory import check_links
from metaloop.records.jobs import LOG, Job
from metaloop.sweeps.launch.job import run_job
from metaloop.sweeps.ledger import LOG_FORMAT, Ledger

log = logging.getLogger(__name__)


def run_one(sweep: str, stale: float, retries: int, keys: Mapping[str, str], config: DictConfig) -> None:
    """Run the run whose directory Hydra passes: the main function of a launcher's job. The ledger records how it ended."""
    ledger = Ledger(Path(sweep), stale)
    subdir = HydraConfig.get().sweep.subdir
    key = keys[subdir]
    check_links(ledger.directory / subdir)
    with (ledger.directory / subdir / LOG).open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=file, force=True)
        try:
            run_job(ledger, key, "", retries)
        except (Exception, KeyboardInterrupt):
            traceback.print_exc()
        finally:
            logging.basicConfig(force=True)  # close the file


def launch(
    ledger: Ledger,
    jobs: Sequence[Job],
    overrides: Mapping[str, Sequence[str]],
    options: Sequence[str],
    config_dirs: Sequence[str],
    retries: int,
) -> None:
    """Run jobs through a Hydra launcher, and wait until they have ended.

    Args:
        ledger: ledger of the sweep.
        jobs: jobs to run.
        overrides: overrides of each job by its key, as this sweep composed it; those in the ledger may be a stranger's.
        options: overrides of hydra/launcher and hydra.launcher, which choose and set up the launcher.
        config_dirs: further folders of config groups.
        retries: how often a failed run is started again.
    """
    with composer("train", config_dirs, []) as search_path:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        names = [f"hydra.sweep.dir='{ledger.directory}'", f"hydra.job.name='{ledger.directory.name}'"]
        # The sweep prints its own progress, and every job has its own log.
        quiet = ["hydra/hydra_logging=none", "hydra/job_logging=none"]
        config = hydra.compose_config("train", [*search_path.searchpath, *names, *quiet, *options], RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        keys = {job.directory: job.key for job in jobs}
        task: Callable[[DictConfig], None] = partial(run_one, str(ledger.directory), ledger.stale, retries, keys)
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
        try:
            launcher.launch([[*overrides[job.key], f"hydra.sweep.subdir='{job.directory}'"] for job in jobs], initial_job_idx=0)
        except Exception as error:  # one job was killed; the ledger has the states of the others
            log.warning("the launcher ended with %s: %s", type(error).__name__, error)
