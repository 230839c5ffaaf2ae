"""The wheel, installed elsewhere and used from an empty folder."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SMALL = [
    "dataset=sinusoid",
    "episode=regression",
    "model=mlp",
    "algorithm/over_tasks=loop",
    "trainer.max_steps=2",
    "validation.every=1",
    "validation.episodes=2",
    "evaluation.episodes=2",
]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


def test_it_holds_the_configuration_the_templates_and_the_splits_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"metaloop/{name}" for name in expected} == {name for name in names if name.endswith(".yaml")}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "metaloop").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= names
    rest = {name for name in names if not name.startswith("metaloop/")}
    assert all(".dist-info/" in name for name in rest)
    assert any(name.endswith("licenses/LICENSE") for name in rest)


def test_it_trains_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """The clean environment borrows the packages that metaloop needs from this one; metaloop itself comes from the wheel."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # What it needs is borrowed by a .pth file; those of the borrowed folder, such as of an editable metaloop, are not read.
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel, cwd=tmp_path)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    desk = tmp_path / "desk"
    desk.mkdir()
    where = run(python, "-c", "import metaloop; print(metaloop.__file__)", cwd=desk)
    assert str(site) in where
    command = tmp_path / "venv" / "bin" / "metaloop"
    said = run(command, "train", *SMALL, cwd=desk)
    (record,) = desk.glob("outputs/maml_sinusoid/*/record.json")
    assert "meta-test mean squared error" in said
    content = json.loads(record.read_text())
    assert content["git"] is None
    assert content["versions"]["metaloop"]
    assert (record.parent / "report" / "index.html").exists()
    assert "sinusoid" in run(command, "list", "datasets", cwd=desk)
