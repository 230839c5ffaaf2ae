"""Files of tensors, with errors of the disk told as such."""

from pathlib import Path
from typing import Any

import torch

from metaloop.errors import UserError


def save_tensors(content: Any, path: Path) -> None:
    """Write tensors and plain data by ``torch.save``.

    Raises:
        OSError: the disk is full or the file cannot be written, with the path; torch itself hides most of these errors behind a
            RuntimeError about positions in its archive.
    """
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint of tensors and plain data.

    Raises:
        UserError: the file is missing or corrupt, or holds other objects.
    """
    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except FileNotFoundError as error:
        raise UserError(f"no checkpoint at {path}: the run was stopped before its first one; start a new run") from error
    except Exception as error:  # a damaged file raises many kinds of error, IndexError among them
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"{path} is not a readable checkpoint of tensors and plain data, so it was not loaded ({reason})"
        ) from error


def _os_error(error: BaseException | None) -> OSError | None:
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error
