"""A stop of any process of a run with ranks is a stop of all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import waiting_ranks
from gated_runs import hear_ctrl_c, wait_for_end, wait_until
from pairwise import covering

SIGNALS = {"SIGINT": (130, "stopped by Ctrl-C"), "SIGTERM": (143, "stopped by SIGTERM"), "SIGKILL": (137, "killed by SIGKILL")}


@covering(("name", "who", "how"), SIGNALS, ("parent", "rank0", "rank1"), ("free", "stuck"))
def test_E6_all_ranks_end_with_the_one_that_is_stopped(name: str, who: str, how: str, tmp_path: Path) -> None:
    messages, status, message = tmp_path / "messages.txt", *SIGNALS[name]
    with messages.open("w") as file:
        words = [sys.executable, waiting_ranks.__file__, str(tmp_path), how]
        parent = subprocess.Popen(words, stderr=file, preexec_fn=hear_ctrl_c)
    ranks = [tmp_path / "rank0", tmp_path / "rank1"]
    wait_until(lambda: all(path.exists() for path in ranks), parent, messages)
    numbers = {"parent": parent.pid} | {path.name: int(path.read_text()) for path in ranks}
    os.kill(numbers[who], signal.Signals[name])
    if (name, who) == ("SIGKILL", "parent"):
        assert parent.wait() == -signal.SIGKILL
    else:
        assert parent.wait() == status, messages.read_text()
        assert message in messages.read_text()
        assert "Traceback" not in messages.read_text()
    wait_for_end(numbers.values())
