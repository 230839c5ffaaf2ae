"""The exceptions that end a command without being a fault of metaloop."""

import signal


class UserError(ValueError):
    """An input that cannot work; the message says what was received, what is allowed and which config key to change.

    The command line prints the message alone and exits with status 2. Any other exception is a fault of metaloop: the
    command line prints its traceback and exits with status 1.
    """


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM. It ends a command as Ctrl-C does, with status 143 in the place of 130."""


class ProcessKilled(Exception):
    """A signal ended a process of the run that could not answer it; the command line exits with 128 + the signal's number.

    Args:
        name: Name of the process, such as "rank 1".
        number: Number of the signal.
    """

    def __init__(self, name: str, number: int) -> None:
        super().__init__(name, number)
        self.name = name
        self.number = number

    def __str__(self) -> str:
        known = self.number in set(signal.Signals)
        cause = signal.Signals(self.number).name if known else f"signal {self.number}"
        memory = ", perhaps because memory ran out" if cause == "SIGKILL" else ""
        return f"{self.name} was killed by {cause}{memory}"


class RankLost(Exception):
    """Another rank of a run that torchrun started has gone, so that this one cannot go on.

    Args:
        reason: Which rank, and what is known about its end.
    """

    def __str__(self) -> str:
        return f"this rank ends because another has: {self.args[0]}"
