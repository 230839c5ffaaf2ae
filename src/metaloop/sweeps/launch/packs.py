"""Packs of a sweep: which runs are computed together, in processes of their own beside a process that computes for all of them.

The first run of a kind starts like any other, and the pack's process tries its step. If computing together pays, further runs
of that kind join it on the same core; otherwise the kind's runs are started one by one.
"""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.sweeps.launch.devices import Machine, Needs
from metaloop.sweeps.pricing import kind

AUTO = "auto"
_MOST = 16  # runs of a pack; more hardly gain, and each takes the memory of a process
_GRACE = 5.0  # seconds that a pack's process has to end


def check_mode(value: str) -> str:
    """Raise a UserError unless ``value`` is one of the key ``sweep.pack``."""
    if value.lower() in (AUTO, "true", "false"):
        return value.lower()
    raise UserError(f"sweep.pack={value}: auto (where a trial shows that it pays), true or false")


def kinds_of(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The kinds of those runs that might be computed together, by key; runs of a kind differ in seeds and rates alone.

    Args:
        configs: Config of each run by key.
    """
    able = {key: kind(config) for key, config in configs.items() if _able(config)}
    count = Counter(able.values())
    return {key: each for key, each in able.items() if count[each] > 1}


def _able(config: Mapping[str, Any]) -> bool:
    return Needs.of(config) == Needs(0, 1) and config.get("stretches") is not False and not config.get("workers")


@dataclass(eq=False)
class Pack:
    """A pack that runs.

    Attributes:
        kind: Kind of its runs.
        devices: The devices that all of them share.
        folder: Folder of its socket.
        process: The process that computes.
        pipe: Connection to that process.
        members: Keys of the runs that have been started in it and not ended.
        seats: Most runs at once; 0 until the trial has been made, and if it went against the pack.
        expected: Keys of those runs for which the others wait at first.
    """

    kind: str
    devices: tuple[str, ...]
    folder: Path
    process: Any
    pipe: Any
    members: set[str] = field(default_factory=set)
    seats: int = 0
    expected: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Path of its socket."""
        return str(self.folder / "pack")

    def tell(self, expected: int) -> None:
        """Tell the process how many runs will join."""
        with suppress(OSError):  # it has ended, and its runs go on by themselves
            self.pipe.send(expected)

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        shutil.rmtree(self.folder, ignore_errors=True)


class Packs:
    """The packs of a sweep.

    Args:
        mode: Value of ``sweep.pack``.
        kinds: Result of :func:`kinds_of`.
        machine: Its cores are shared out between packs.
        context: Context of multiprocessing.
    """

    def __init__(self, mode: str, kinds: Mapping[str, str], machine: Machine, context: Any) -> None:
        self._forced = mode == "true"
        self._kinds = {} if mode == "false" else kinds
        self._machine, self._context = machine, context
        self._alone: set[str] = set()  # kinds whose runs are started one by one
        self._packs: list[Pack] = []

    def of(self, key: str) -> Pack | None:
        """The pack of a run."""
        return next((pack for pack in self._packs if key in pack.members), None)

    def pipes(self) -> list[Any]:
        """Connections at which :meth:`look` may have something to read."""
        return [pack.pipe for pack in self._packs if not pack.pipe.closed]

    def join(self, key: str) -> Pack | None:
        """Take a seat for a run in a pack of its kind; None if there is none."""
        for pack in self._packs:
            if len(pack.members) < pack.seats and pack.kind == self._kinds.get(key):
                pack.members.add(key)
                return pack
        return None

    def begin(self, key: str, waiting: list[str], devices: tuple[str, ...]) -> Pack | None:
        """Start a pack with a run; None if the run is by itself.

        Args:
            key: The run.
            waiting: Keys of all runs that wait, this one among them.
            devices: The devices of the pack.
        """
        which = self._kinds.get(key)
        alike = sum(self._kinds.get(each) == which for each in waiting)
        seats = min(_MOST, -(-alike // self._machine.cores))  # so that every core has a pack
        if which is None or which in self._alone or seats < 2:
            return None
        folder = Path(tempfile.mkdtemp(prefix="metaloop-"))
        mine, theirs = self._context.Pipe()
        arguments = (str(folder / "pack"), theirs, seats, self._machine.threads, self._forced)
        process = self._context.Process(target=_serve, args=arguments, name="pack", daemon=True)
        process.start()
        theirs.close()
        pack = Pack(which, devices, folder, process, mine, {key})
        self._packs.append(pack)
        return pack

    def look(self) -> None:
        """Hear the verdicts of trials, and print each."""
        for pack in self._packs:
            while not pack.pipe.closed and pack.pipe.poll():
                try:
                    verdict = pack.pipe.recv()
                except (EOFError, OSError):  # the process was killed; its runs go on by themselves
                    pack.seats = 0
                    pack.pipe.close()
                    continue
                pack.seats = verdict.seats
                if pack.kind not in self._alone:
                    says = f"up to {verdict.seats} runs at a time" if verdict.seats else "each run by itself"
                    print(f"{'packed' if verdict.seats else 'not packed':<20}{says}: {verdict.message}", flush=True)
                if not verdict.seats:
                    self._alone.add(pack.kind)

    def settle(self) -> None:
        """Tell packs that have just got their seats how many runs were started in them, for which they wait."""
        for pack in self._packs:
            if pack.seats and not pack.expected:
                pack.expected = set(pack.members)
                pack.tell(len(pack.expected))

    def leave(self, key: str) -> tuple[str, ...] | None:
        """Take an ended run out of its pack.

        Returns:
            The pack's devices if it was the last run, () if others go on; None if the run was in no pack.
        """
        pack = self.of(key)
        if pack is None:
            return None
        pack.members.remove(key)
        if key in pack.expected:
            pack.expected.remove(key)
            pack.tell(len(pack.expected))
        if pack.members:
            return ()
        self._packs.remove(pack)
        pack.end()
        return pack.devices

    def end(self) -> None:
        """End all packs."""
        for pack in self._packs:
            pack.end()
        self._packs.clear()


def _serve(address: str, pipe: Any, seats: int, threads: int, forced: bool) -> None:
    """Serve a pack: the main function of its process, which has no terminal and ends with its pipe."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from metaloop.training.packs.server import serve

    serve(address, pipe, seats, threads, forced=forced)
