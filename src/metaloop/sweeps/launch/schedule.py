"""The scheduler of a sweep: start the runs of the ledger where there is room for them, until none is left."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from metaloop.records.jobs import RUNNING, Job
from metaloop.sweeps.launch.devices import Needs
from metaloop.sweeps.ledger import Ledger, runnable

POLL = 1.0  # seconds between two reads of the ledger, for the runs of other processes
GRACE = 20.0  # seconds that a stopped run has to write its state


class Room(Protocol):
    """How many runs can start now."""

    def capacity(self, needs: Needs) -> int:
        """The number of such runs that can start now.

        Raises:
            UserError: there are never enough devices for one.
        """


class Workplace(Room, ABC):
    """Where runs are started: the processes of this machine, or the tasks of a cluster."""

    @abstractmethod
    def running(self) -> Collection[str]:
        """Keys of the runs that were started here and whose end :meth:`wait` has not reported."""

    @abstractmethod
    def start(self, job: Job, needs: Needs) -> bool:
        """Start a run, or return False if it must wait for devices."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait until a run has ended, and enter into the ledger what it could not enter itself.

        Raises:
            UserError: a run ended before it began, and would do so again.
        """

    @abstractmethod
    def stop(self) -> None:
        """Interrupt all runs as by Ctrl-C, and wait until they have written their state."""


OnEnd = Callable[[Job], None]
Supply = Callable[[Room], Mapping[str, Needs]]


def run_all(ledger: Ledger, supply: Supply, place: Workplace, retries: int, on_end: OnEnd) -> None:
    """Run the runs of a ledger until none is waiting or running, in this or another process.

    Args:
        ledger: ledger of the sweep.
        supply: returns the needs of the runs, by key. It is called at every poll with the free devices, and may enter further
            runs into the ledger.
        place: where the runs are started.
        retries: how often a failed run is started again.
        on_end: called after each attempt that ended.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. All runs were stopped and can be resumed.
        UserError: a run needs more devices than there are, or the disk is full. All runs were stopped likewise.
    """
    for one in set(supply(place).values()):
        place.capacity(one)  # raises before anything starts
    reported = {(job.key, job.attempts) for job in ledger.jobs() if job.state != RUNNING}
    try:
        while True:
            needs = supply(place)
            jobs = [job for job in ledger.jobs() if job.key in needs]
            running = set(place.running())
            for job in jobs:
                attempt = (job.key, job.attempts)
                if job.key not in running and job.attempts and job.state != RUNNING and attempt not in reported:
                    reported.add(attempt)
                    on_end(job)
            ready = [job for job in jobs if job.key not in running and runnable(job, ledger.stale, retries)]
            waiting = [job for job in ready if not ledger.held(job)]
            if not running and not ready and not any(job.state == RUNNING for job in jobs):
                return
            for job in waiting:
                place.start(job, needs[job.key])
            running = set(place.running())
            place.wait(POLL)
            for key in running.difference(place.running()):
                ledger.job(key).check_space()
    except BaseException:
        place.stop()
        raise
