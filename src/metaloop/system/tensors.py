"""Files of tensors, with errors of the disk told as such."""

from pathlib import Path
from typing import Any

import torch


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


def _os_error(error: BaseException | None) -> OSError | None:
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__context__
    return error
