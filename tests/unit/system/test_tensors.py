"""Errors of the disk while tensors are written."""

import errno
from pathlib import Path

import pytest
import torch

from limited_files import files_limited_to
from metaloop.system.tensors import save_tensors

CONTENT = {"small": torch.zeros(1000), "large": torch.zeros(100_000)}


@pytest.mark.parametrize("limit", [0, 100, 5000, 250_000, 404_000])
def test_E2_a_file_that_cannot_grow_is_told_wherever_it_ends(limit: int, tmp_path: Path) -> None:
    with files_limited_to(limit), pytest.raises(OSError, match="File too large") as raised:
        save_tensors(CONTENT, tmp_path / "tensors")
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / "tensors"))


def test_E2_a_full_disk_is_told() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        save_tensors(CONTENT, Path("/dev/full"))


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="local object"):
        save_tensors(lambda: None, tmp_path / "tensors")
