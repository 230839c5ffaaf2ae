from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metaloop.cli.main import main
from metaloop.system.devices import allow_tf32
from small_runs import SMALL_CONF, words


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("allowed", [True, False])
def test_matrix_products_and_convolutions_go_together(allowed: bool) -> None:
    allow_tf32(not allowed)
    allow_tf32(allowed)
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is allowed


def test_a_run_and_its_evaluation_are_as_their_configs_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(tmp_path / "run", "tf32=true")) == 0
    assert torch.backends.cudnn.allow_tf32
    assert main(["evaluate", "--config-dir", str(SMALL_CONF), f"run={tmp_path}/run", "tf32=false"]) == 0
    assert not torch.backends.cudnn.allow_tf32
    assert main(["evaluate", "--config-dir", str(SMALL_CONF), f"run={tmp_path}/run"]) == 0
    assert torch.backends.cudnn.allow_tf32


def test_D3_comparing_and_inspecting_run_as_the_configs_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(tmp_path / "run", "tf32=true")) == 0
    for words_of_command in (["compare", "run", "run"], ["inspect", "run", "--episodes", "2"]):
        allow_tf32(False)
        assert main([*words_of_command, "--config-dir", str(SMALL_CONF)]) == 0
        assert torch.backends.cudnn.allow_tf32
