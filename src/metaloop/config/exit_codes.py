"""From an exception to an exit status: 0 done, 2 the user's error, 1 ours, 130 stopped by Ctrl-C."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from metaloop.errors import UserError

OUR_FAULT = "metaloop: this is a fault of metaloop, not yours; please report it with the command and the lines above"


def run_and_exit_code(function: Callable[[list[str]], int], argv: Sequence[str]) -> int:
    """Call ``function(argv)`` and turn what it raises into an exit status and a message on stderr.

    Hydra prints exceptions itself and exits with 1 for all of them unless ``HYDRA_FULL_ERROR`` is set, so it is set for
    the call.

    Returns:
        what the function returned; 2 after a `UserError`, a rejected configuration or a full disk, with the message
        alone; the status of a `SystemExit`; 130 after Ctrl-C; 1 after anything else, with its traceback.
    """
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        code = function(list(argv))
        sys.stdout.flush()  # here, where a reader that has gone is no fault
        return code
    except SystemExit as error:
        return _system_exit_code(error)
    except KeyboardInterrupt:
        return _say("stopped by Ctrl-C", 130)
    except BrokenPipeError:
        # The reader of our output (such as head) has gone: nothing is wrong, but Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = _users_message(error)
        if message is not None:
            return _say(message, 2)
        traceback.print_exception(error)
        print(OUR_FAULT, file=sys.stderr)
        return 1
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _say(message: str, code: int) -> int:
    print(f"metaloop: {message}", file=sys.stderr)
    return code


def _system_exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    return _say(str(error.code), 1)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from (not what it merely came after)."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _users_message(error: Exception) -> str | None:
    """What to tell the user where the fault is theirs or their machine's, else None."""
    for link in _chain(error):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {link.filename}" if link.filename else ""
            return f"the disk is full{where} ({link.strerror}); free some space and go on with resume=DIR"
    return _configuration_message(error)


def _configuration_message(error: Exception) -> str | None:
    """The message where Hydra or OmegaConf rejected the configuration, else None."""
    if "omegaconf" not in sys.modules:  # no configuration was read, so none was rejected
        return None
    from hydra.errors import CompactHydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, InstantiationException) and not _wrong_arguments(error):
        return None
    if isinstance(error, CompactHydraException):
        cause = error.__cause__
        return f"{error}\n{cause}" if isinstance(cause, OmegaConfBaseException) else str(error)
    return str(error) if isinstance(error, OmegaConfBaseException) else None


def _wrong_arguments(error: BaseException) -> bool:
    """Whether a ``_target_`` does not exist or was given arguments it does not take: then the fault is the config's.

    An exception from inside the target is not. A call with wrong arguments fails in the caller's frame, so that its
    traceback ends there.
    """
    cause = error.__cause__
    if cause is None or isinstance(cause, ImportError):
        return True
    if not isinstance(cause, TypeError) or cause.__traceback__ is None:
        return False
    return cause.__traceback__.tb_next is None
