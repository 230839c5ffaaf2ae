"""The benchmarks run (small, in this process, without peers), refuse what is wrong, and their page is what records say."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from hydra import compose, initialize_config_dir

import metaloop
from metaloop.config.composition import DEFAULTS
from metaloop.config.folder import conf_dir
from metaloop.data.images import cifar100, cifar100_files
from metaloop.data.images.splits import read_cifar100_split
from metaloop.records.runs import find_runs
from metaloop.records.writing import write_json
from metaloop.report.tables.facts import varied
from picture_files import cifar_tables, write_cifar

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import agreement  # noqa: E402
import contestant  # noqa: E402
import evaluation  # noqa: E402
import images  # noqa: E402
import kernels  # noqa: E402
import launching  # noqa: E402
import memory  # noqa: E402
import pages  # noqa: E402
import reporting  # noqa: E402
import sampling  # noqa: E402
import scaling  # noqa: E402
import seeds  # noqa: E402
import speed  # noqa: E402
from harness import driver, reference, samplers  # noqa: E402
from harness.cases import CASES, Case, load, quick, save  # noqa: E402
from harness.many_records import spread_out  # noqa: E402

sys.path.append(str(Path(__file__).parent / "report"))
from made_runs import run_factory  # noqa: E402

LOOP = "algorithm/over_tasks=loop"


class Here:
    """Stands in for `harness.driver.Process`: the same session, in this process."""

    def __init__(
        self, kind: str, name: str, python: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        if kind == "sampler":
            self.session: Any = samplers.SamplingSession(name, Path(arguments[0]))
        else:
            self.session = contestant.Session(*contestant.make(name, [*arguments, "untuned", LOOP]))

    def ask(self, do: str, **arguments: Any) -> Any:
        return json.loads(json.dumps(getattr(self.session, do)(**arguments)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (driver, sampling, memory):
        monkeypatch.setattr(module, "Process", Here)
    monkeypatch.setattr(samplers, "CLASSES", 40)


@pytest.mark.parametrize("letter", list(CASES))
def test_our_meta_gradient_and_answers_are_those_written_out(letter: str, tmp_path: Path) -> None:
    """Also where tasks are vmapped, in float64; a parameter's name or a setting that got lost would show."""
    case, path, out = quick(CASES[letter]), tmp_path / "case.pt", tmp_path / "out.pt"
    save(case, path, case.meta_batch, seed=1)
    _, weights, tasks = load(path)
    gradient = reference.meta_gradient(case, weights, tasks, torch.float64)
    answers = {"answers": reference.answers(case, weights, tasks, torch.float64)}
    for strategy in ("loop", "vmap"):
        session = contestant.Session(
            *contestant.make("metaloop", [str(path), "cpu", "untuned", f"algorithm/over_tasks={strategy}"])
        )
        session.outer_steps(1)  # whatever was learned meanwhile, the check is made at the start
        session.meta_gradient("float64", case.meta_batch, str(out))
        assert reference.distance(torch.load(out), gradient) < 1e-9
        session.answers("float64", case.meta_batch, str(out))
        assert reference.distance(torch.load(out), answers) < 1e-9


def test_different_meta_gradients_are_not_timed() -> None:
    driver.check_agreement({"metaloop": 1e-15, "higher": 9e-7}, "case")
    for far in (2e-6, float("nan"), float("inf")):
        with pytest.raises(SystemExit, match="higher"):
            driver.check_agreement({"metaloop": 1e-15, "higher": far}, "case")


@pytest.mark.usefixtures("_here")
def test_C12_distances_are_to_float64_and_plain_autograd_has_its_own(tmp_path: Path) -> None:
    agreement.main(["--quick", "--cases", "c", "--seeds", "3", "--records", str(tmp_path), LOOP])
    found = json.loads((tmp_path / "agreement.json").read_text())["cases"]["c"]
    assert found["float64"]["metaloop"] < 1e-12
    for name in ("metaloop", "plain autograd"):
        far = found["float32"][name]
        assert len(set(far["values"])) == 3  # other weights and tasks for every seed
        assert 1e-9 < far["median"] <= far["worst"] < 1e-5  # to float64: rounding
    assert found["ratio"] == found["float32"]["metaloop"]["median"] / found["float32"]["plain autograd"]["median"]


def test_distance_sees_a_wrong_or_missing_tensor() -> None:
    right = {"a": torch.tensor([3.0, 4.0])}
    assert reference.distance({"a": torch.tensor([3.0, 4.5])}, right) == pytest.approx(0.1)
    assert reference.distance({"b": right["a"]}, right) == float("inf")


def test_operations_count_double_backward_convolutions() -> None:
    """By hand, for Conv-4 with as many queries as support images."""
    case = replace(quick(CASES["a"]), queries=1)
    _, weights, tasks = _saved(case)
    images, places, channels = case.ways, [28 * 28, 14 * 14, 7 * 7, 3 * 3], [(1, 8), (8, 8), (8, 8), (8, 8)]
    first, *others = [2 * images * p * a * b * 9 for p, (a, b) in zip(places, channels, strict=True)]
    # Support: forward and two gradients, then four products for the gradients' gradients and two gradients more; query: forward
    # and two gradients. The first layer's input needs no gradient: six products, and one that torch takes for nothing.
    assert reference.operations(case, weights, tasks) == pytest.approx(7 * first + 12 * sum(others), rel=0.005)


def _saved(case: Case) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        save(case, Path(folder) / "case.pt", 1, 0)
        return load(Path(folder) / "case.pt")


def test_rounds_are_compared_pair_by_pair() -> None:
    found = driver.compare({"metaloop": [1.0, 2.0, 4.0], "higher": [3.0, 2.0, 8.0], "torchopt": [4.0, 4.0, 16.0]}, units=8)
    assert found["fastest_peer"] == "higher"
    assert found["rates"]["metaloop"] == {"median": 4.0, "low": 2.0, "high": 8.0}
    assert found["ratio"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert "ratio" not in driver.compare({"metaloop": [1.0]}, units=8)


@pytest.mark.slow
def test_speed_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speed.main(["--quick", "--cases", "c", "--rounds", "1", "--records", str(tmp_path), LOOP])
    assert "metaloop" in capsys.readouterr().out
    found = json.loads((tmp_path / "speed.json").read_text())["cases"]["c"]
    assert found["memory"]["metaloop"]["step_peak"] > found["memory"]["metaloop"]["baseline"] * 0.5
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_speed_runs_the_tests_of_its_code_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[list[str]] = []
    monkeypatch.setattr(speed.subprocess, "run", lambda command, **options: run.append(command))
    speed.main(["--device", "cuda", "--records", str(tmp_path)])
    assert "no GPU" in capsys.readouterr().out
    assert [Path(command[-1]).exists() for command in run] == [True]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("_here")
def test_the_page_is_filled_from_what_the_benchmarks_write(tmp_path: Path) -> None:
    """Every benchmark's record has what its tables need."""
    small = ["--quick", "--records", str(tmp_path)]
    speed.main([*small, "--cases", "a", "--rounds", "1"])
    agreement.main([*small, "--cases", "a"])
    evaluation.main([*small, "--rounds", "1"])
    sampling.main([*small, "--cases", "a"])
    memory.main([*small, "--steps", "1", "2", "--repeats", "1"])
    kernels.main([*small, "--cases", "d", "--rounds", "1", "--seeds", "1"])
    assert pages.records(tmp_path) == {}  # quick ones do not count
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text().replace('"quick": true', '"quick": false'))
    found = pages.records(tmp_path)
    page = pages.fill(pages.PERFORMANCE.read_text(), found | {"speed_cuda": found["speed"]})
    assert page.count("Not measured yet") == 5  # scaling, launching, seeds and reporting, which take whole runs, and images
    rate = found["evaluation"]["cases"]["a"]["rates"]["metaloop"]["median"]
    assert pages.number(rate) in page
    assert found["kernels"]["cases"]["d"]["distance"]["kernels"]["high"] < 1e-4
    assert set(found["memory"]["points"]) >= {"unrolled", "reverse_sweep", "first_order"}
    assert found["memory"]["points"]["reverse_sweep"]["2"]["net"] is not None


def test_a_method_stops_before_it_exceeds_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure", lambda case, *rest: {"peak": case.steps * 1e9, "net": 0.0, "seconds": 0.0})
    arguments = memory.argparse.Namespace(steps=[1, 2, 5, 10, 20], limit=6.0, repeats=1)
    assert list(memory.sweep(CASES["d"], "higher", "python", [], arguments)) == ["1", "2", "5"]


def test_wrong_episodes_are_noticed() -> None:
    case = quick(CASES["a"])
    right = next(samplers.from_metaloop(case, samplers.images(10, 5), 5))
    samplers.check_episode(case, right)
    support_x, support_y, query_x, query_y = right
    with pytest.raises(AssertionError):
        samplers.check_episode(case, (support_x, support_y, query_x.flip(0), query_y))
    with pytest.raises(AssertionError):
        samplers.check_episode(case, (support_x, support_y, support_x.repeat(2, 1, 1, 1), query_y))


@pytest.mark.parametrize("ranks", list(scaling.TRAINERS))
def test_scaling_runs_a_config_that_composes(ranks: str) -> None:
    words = [word for word in scaling.overrides(ranks, 4, 4, Path("somewhere")) if not word.startswith("hydra.")]
    with initialize_config_dir(str(conf_dir()), **DEFAULTS):
        assert compose("train", words).trainer.devices == int(ranks)


@pytest.mark.parametrize("way", [seeds.ONE, *seeds.SWEEPS])
def test_seeds_runs_a_config_that_composes(way: str) -> None:
    words = [word for word in seeds.command(way, 3, Path("somewhere"), seeds.SHORT)[4:] if "=" in word]
    settings = [word for word in words if not word.startswith(("hydra.", "sweep.", "seed=range"))]
    assert metaloop.compose(*settings).config["trainer"]["max_steps"] == 600
    assert ("seed=range(3)" in words) == (way != seeds.ONE)


def test_the_table_of_seeds_is_filled(tmp_path: Path) -> None:
    def measured(took: float, *packs: str) -> dict[str, Any]:
        return {"seconds": took, "processor": 2 * took, "scores": {0: 0.5}, "packs": packs, "load_after": 1.0, "training": 1.0}

    ways = {seeds.ONE: measured(10), "in packs": measured(25, "packed              up to 5 runs at a time: it pays")}
    head = {"benchmark": "seeds", "quick": False, "seeds": 10, "experiment": seeds.EXPERIMENT, "ways": ways}
    record = json.loads(write_json(tmp_path / "seeds.json", {**head, **launching.about([0.0, 0.0, 0.0])}).read_text())
    page = pages.seeds(record)
    assert "| in packs | 25 | 2.5 | 50 | 2.5 |" in page
    assert "Trials before the packs: it pays." in page


@pytest.mark.parametrize("launcher", list(launching.LAUNCHERS))
def test_launching_runs_a_config_that_composes(launcher: str) -> None:
    words = launching.command(launcher, 2, 5, 2, Path("somewhere"))
    settings = [word for word in words if "=" in word and not word.startswith(("hydra", "seed="))]
    assert len(settings) == len(launching.WORDS) + 2
    with initialize_config_dir(str(conf_dir()), **DEFAULTS):
        assert compose("train", settings).trainer.max_steps == 5


def test_launchers_are_compared_with_the_ideal_of_their_round(tmp_path: Path) -> None:
    def measured(seconds: float, took: float) -> dict[str, Any]:
        runs = [{"seconds": seconds * factor, "processor": 1.0, "training": 0.5} for factor in (0.9, 1.0, 9.0)]
        times = {name: {"seconds": took * n, "processor": 12.0} for n, name in enumerate(launching.LAUNCHERS, 1)}
        return {"alone": runs, "beside": runs, "launchers": times}

    found = launching.summary([measured(2.0, 12.0), measured(3.0, 15.0)], runs=10, cores=2)
    assert found["ideal_seconds"] == {"median": 12.5, "low": 10.0, "high": 15.0}
    assert found["launchers"]["metaloop"]["ratio"] == pytest.approx({"median": 1.1, "low": 1.0, "high": 1.2})
    assert found["launchers"]["basic"]["ratio"]["high"] == pytest.approx(3.6)
    assert found["launchers"]["joblib"]["processor_ratio"]["median"] == pytest.approx(1.2)
    content = {**found, "runs": 10, "rounds": 2, "steps": 5, **launching.about([0.0, 0.0, 0.0])}
    record = json.loads(write_json(tmp_path / "launching.json", content).read_text())
    assert "| metaloop | 13.5 (12 to 15) | 1.1 (1 to 1.2) |" in pages.launching(record)


def test_processor_time_of_what_a_command_leaves_behind_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])"
    timed = [sys.executable, str(BENCHMARKS / "harness" / "timed.py"), sys.executable, "-c", leave]
    assert json.loads(subprocess.run(timed, capture_output=True, check=True).stdout)["processor"] > 0.3
    assert subprocess.run([*timed[:-1], "raise SystemExit(3)"], capture_output=True).returncode == 3


def test_many_records_are_a_sweep_that_reports_read(tmp_path: Path) -> None:
    run = run_factory(tmp_path)("run", episodes=20, config={"algorithm": {"steps": 1, "rule": {"lr": 0.4}}, "dataset": {}})
    spread_out(run, tmp_path / "runs", 202)
    runs, failures = find_runs([tmp_path / "runs"])
    assert (len(runs), failures) == (202, [])
    assert varied(runs) == ("algorithm", "algorithm.steps", "algorithm.rule.lr")
    assert sorted({run.seed for run in runs}) == [0, 1, 2]
    assert len({run.test.mean for run in runs}) == 202


@pytest.mark.slow
def test_images_of_episodes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"train": 15, "test": 1}
    for module in (cifar100, cifar100_files):
        monkeypatch.setattr(module, "PARTS", few)
    names = [name for classes in read_cifar100_split("cifar_fs").values() for name in classes]
    write_cifar(tmp_path / cifar100_files.FOLDER, cifar_tables(names, few))
    images.main(["--quick", "--data", str(tmp_path), "--records", str(tmp_path)])
    record = json.loads((tmp_path / "images.json").read_text())
    assert [set(found) for found in record["augmentations"].values()] == [{"5 ways", "20 ways"}] * 3
    assert all(rates["images_per_second"] > 0 for found in record["augmentations"].values() for rates in found.values())
    table = pages.images(record)
    assert "| flip and crop | 20 ways |" in table
    assert "ms. " in table


@pytest.mark.slow
def test_reports_are_measured(tmp_path: Path) -> None:
    reporting.main(["--quick", "--records", str(tmp_path)])
    record = json.loads((tmp_path / "reporting.json").read_text())
    assert record["report"]["memory"]["median"] > 1e7
    assert "report, seconds" in pages.reporting({**record, "rounds": 1})


@pytest.mark.slow
def test_launching_measures_all_launchers(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launching.main(["--quick", "--records", str(tmp_path)])
    record = json.loads((tmp_path / "launching.json").read_text())
    assert set(record["launchers"]) == {"metaloop", "joblib", "basic"}
    assert all(one["processor"]["median"] > 0 for one in record["launchers"].values())


def test_the_page_and_the_committed_records_agree() -> None:
    for path in (BENCHMARKS / "records").glob("*.json"):
        assert json.loads(path.read_text())["versions"]
    found = pages.records(BENCHMARKS / "records") | pages.noisy_runs(pages.DOCS / "records")
    for path in (pages.PERFORMANCE, pages.LEARNED):
        assert pages.fill(path.read_text(), found) == path.read_text()
