"""A rank that a run has started itself tells whose fault an exception is."""

from pathlib import Path

import pytest

from metaloop.errors import UserError
from metaloop.runs import start as module
from metaloop.runs.logs import Logs


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_exception_of_a_users_class_keeps_its_line(rank: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("by me")

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(module, "run_rank", broken)
    with pytest.raises(UserError, match=r"broken \(.*test_ranks_start.py, line \d+\) raised ZeroDivisionError: by me"):
        module._launched(None, tmp_path, False, Logs((), False))  # type: ignore[arg-type]
