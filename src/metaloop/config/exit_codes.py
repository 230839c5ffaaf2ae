"""Exit status of a command: 0 success, 1 an error in metaloop, 2 an error of the user, 128 + N the signal N (130 Ctrl-C)."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from metaloop.errors import ProcessKilled, RankLost, Terminated, UserError
from metaloop.system.stops import stoppable
from metaloop.system.terminal import printable

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last where `ulimit -f` ends files
_OURS, _PYTHON = Path(__file__).resolve().parents[1], Path(os.__file__).resolve().parent
OUR_FAULT = "metaloop: this is a fault of metaloop, not yours; please report it with the command and the lines above"


def run_and_exit_code(function: Callable[[list[str]], int], argv: Sequence[str]) -> int:
    """Call ``function(argv)`` and turn an exception into an exit status and a message on stderr.

    ``HYDRA_FULL_ERROR`` is set for the call, because otherwise Hydra prints every exception itself and exits with 1.

    Returns:
        The function's result; 2 after a `UserError`, a rejected configuration, a full disk or a forbidden folder, with the
        message alone; the status of a `SystemExit`; 130 after Ctrl-C, 143 after SIGTERM, 128 + the signal that killed a
        process of the run; 1 after any other exception, with its traceback.
    """
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with stoppable():
            code = function(list(argv))
            sys.stdout.flush()  # inside the try, so that a closed pipe is no error
            return code
    except SystemExit as error:
        return _system_exit_code(error)
    except Terminated:
        return _report("stopped by SIGTERM", 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _report("stopped by Ctrl-C", 128 + signal.SIGINT)
    except ProcessKilled as error:
        return _report(str(error), 128 + error.number)
    except RankLost as error:
        return _report(str(error), 1)
    except BrokenPipeError:
        # The reader of the output, such as head, has ended. That is no error, but Python would print one when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = _users_message(error)
        if message is not None:
            return _report(message, 2)
        traceback.print_exception(error)
        message = users_fault(error)
        if message is not None:
            return _report(message, 2)
        print(OUR_FAULT, file=sys.stderr)
        return 1
    finally:
        if before is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _report(message: str, code: int) -> int:
    print(f"metaloop: {printable(message)}", file=sys.stderr)
    return code


def _system_exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    return _report(str(error.code), 1)


def users_fault(error: BaseException) -> str | None:
    """Say in which function and line of a user's own module an exception arose; None if it arose elsewhere.

    It is the last frame of the traceback that lies neither in this package nor in an installed one. An exception that metaloop
    raised after calling that function does not count.
    """
    frames = [(link, frame) for link in _chain(error) for frame, _ in traceback.walk_tb(link.__traceback__)]
    places = [Path(frame.f_code.co_filename) for _, frame in frames]
    own = [number for number, path in enumerate(places) if _is_users(path)]
    if not own or any(_OURS in path.parents for path in places[own[-1] + 1 :]):
        return None
    cause, frame = frames[own[-1]]
    line = next(line for current, line in traceback.walk_tb(cause.__traceback__) if current is frame)
    return f"{frame.f_code.co_qualname} ({places[own[-1]]}, line {line}) raised {type(cause).__name__}: {cause}"


def _is_users(path: Path) -> bool:
    """Whether a file of code is a user's: neither of this package nor installed, of Python's library or generated."""
    if not path.is_absolute() or _OURS in path.parents or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return _PYTHON not in path.parents


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and its explicit causes (``raise ... from``)."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _users_message(error: Exception) -> str | None:
    """Message for an error that the user can fix; None for any other error."""
    for link in _chain(error):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OSError) and link.errno in _FULL:
            return f"{_full(link)}; free some space, and continue a run with resume=DIR"
        if isinstance(link, OSError) and link.errno in _FORBIDDEN and link.filename is not None:
            return (
                f"{_text(link.filename)} cannot be used ({link.strerror}); check its owner and permissions, or choose another "
                "folder (hydra.run.dir=, hydra.sweep.dir=, --output or out=)"
            )
    return _configuration_message(error)


def full_disk(error: BaseException) -> str | None:
    """Say that the disk is full, and while which file was written; None for any other error."""
    full = (link for link in _chain(error) if isinstance(link, OSError) and link.errno in _FULL)
    first = next(full, None)
    return None if first is None else _full(first)


def _full(error: OSError) -> str:
    where = f" while writing {_text(error.filename)}" if error.filename else ""
    return f"the disk is full{where} ({error.strerror})"


def _text(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes) else str(filename)


def _configuration_message(error: Exception) -> str | None:
    """Message for a configuration that Hydra or OmegaConf rejected; None for any other error."""
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
    """Whether the config is wrong: a ``_target_`` does not exist or does not take the arguments.

    An exception from inside the target is no error of the config. A call with wrong arguments fails in the caller's frame, so
    its traceback ends there.
    """
    cause = error.__cause__
    if cause is None or isinstance(cause, ImportError):
        return True
    if not isinstance(cause, TypeError) or cause.__traceback__ is None:
        return False
    return cause.__traceback__.tb_next is None
