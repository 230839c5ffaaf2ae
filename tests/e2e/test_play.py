"""``metaloop play``: a task of a finished run is played as its meta-test played it, printed and drawn."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from metaloop.cli.main import main
from metaloop.records.directory import describe
from metaloop.records.trajectories import read_trajectories
from metaloop.report.pages.run_report import write_run_report
from metaloop.runs.start import run_rank
from small_runs import SMALL as OTHER
from small_runs import described

SMALL = (
    "name=small", "model=cells", "episode=trial", "episode.queries=3", "outer.meta_batch=4", "trainer.max_steps=2",
    "validation.every=2", "validation.episodes=4", "evaluation.episodes=9",
)  # fmt: skip
RL2 = ("algorithm=rl2", "algorithm.memory.hidden=6")


def trained(directory: Path, *overrides: str, small: Sequence[str] = SMALL) -> None:
    identity = described(*small, *overrides)
    directory.mkdir()
    describe(directory, identity, "")
    run_rank(identity, directory, resume=False)


Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of RL² in dark rooms, the oracle's in mazes, and Thompson sampling of bandits with many pulls."""
    place = tmp_path_factory.mktemp("playing")
    trained(place / "rooms", *RL2, "dataset=dark_room", "dataset.environment.size=5")
    told = ("algorithm=agent", "algorithm/agent=told")
    trained(place / "mazes", *told, "dataset=pixel_maze", "dataset.environment.size=3")
    thompson = ("algorithm=agent", "algorithm/agent=thompson", "dataset=bernoulli_bandits")
    trained(place / "bandits", *thompson, "episode.queries=25", small=[line for line in SMALL if "queries" not in line])
    return place


def row(run: Path, task: int) -> dict[str, str]:
    with (run / "episodes.csv").open() as file:
        return list(csv.DictReader(file))[task]


@pytest.mark.parametrize(("name", "task"), [("rooms", 7), ("mazes", 2), ("bandits", 0)])
def test_a_task_is_played_as_the_meta_test_played_it(runs: Path, name: str, task: int, capsys: Captured) -> None:
    assert main(["play", f"run={runs / name}", f"task={task}"]) == 0
    printed = capsys.readouterr().out.replace("−", "-")
    recorded = row(runs / name, task)
    assert f"task                        {task} of the meta-test" in printed
    assert f"total reward                {float(recorded['score']):.2f}\n" in printed
    assert f"return of the last episode  {float(recorded['last_return']):.2f}\n" in printed
    assert f"regret                      {float(recorded['regret']):.2f}\n" in printed


def test_paths_are_drawn_and_make_a_moving_picture(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["play", f"run={runs / 'mazes'}", "task=1", f"gif={tmp_path / 'new' / 'maze.gif'}"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("episode 1: "))
    drawn = [[part.strip() for part in line.split("   ")] for line in lines[first + 1 : first + 8]]
    assert {len(line) for line in drawn} == {3}  # three episodes of the oracle, which are the same
    assert all(len(set(line)) == 1 for line in drawn)
    path = "".join(line[0] for line in drawn)
    steps = int(next(line for line in lines if line.startswith("episode 1 ")).split()[-2])
    assert path.count("@") == 1  # at the goal, which it hides
    assert path.count("*") == 0
    assert path.count("+") == steps
    with Image.open(tmp_path / "new" / "maze.gif") as picture:
        assert picture.n_frames == 3 * (steps + 1)
        assert picture.format == "GIF"


def test_many_pulls_are_printed_by_tens_with_the_arms(runs: Path, capsys: Captured) -> None:
    assert main(["play", f"run={runs / 'bandits'}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert next(line for line in lines if line.startswith("means")).count(",") == 4
    tens = [number for number, line in enumerate(lines) if line.startswith("episodes ")]
    assert [lines[number].split()[1:4] for number in tens] == [["1", "to", "10"], ["11", "to", "20"], ["21", "to", "25"]]
    actions = [lines[number + 1].split() for number in tens]
    assert [words[0] for words in actions] == ["actions"] * 3
    assert [len(words) - 1 for words in actions] == [10, 10, 5]
    assert set("".join("".join(words[1:]) for words in actions)) <= set("01234")


def test_the_posterior_of_the_arms_is_written_step_by_step(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    table, figure = tmp_path / "new" / "beliefs.csv", tmp_path / "beliefs.png"
    assert main(["play", f"run={runs / 'bandits'}", f"beliefs={table}"]) == 0
    assert re.search(r"posterior's deviation +0\.289 ", capsys.readouterr().out)  # that of a uniform distribution
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25 * 2  # before and after each pull
    assert [float(rows[0][f"mean_{arm}"]) for arm in range(1, 6)] == [0.5] * 5
    certainty = [1 / float(rows[-1][f"deviation_{arm}"]) ** 2 for arm in range(1, 6)]
    mean = [float(rows[-1][f"mean_{arm}"]) for arm in range(1, 6)]
    pulls = [c * m * (1 - m) - 3 for c, m in zip(certainty, mean, strict=True)]  # beta(a, b) has a + b = 2 + pulls
    assert sum(pulls) == pytest.approx(25, abs=0.01)
    assert main(["play", f"run={runs / 'bandits'}", f"beliefs={figure}"]) == 0
    with Image.open(figure) as picture:
        assert picture.format == "PNG"


def test_the_posterior_of_varibad_is_written_step_by_step(tmp_path: Path, capsys: Captured) -> None:
    varibad = ("algorithm=varibad", "algorithm.memory.hidden=6", "algorithm.latent=2", "algorithm.prefixes=2")
    trained(tmp_path / "run", *varibad, "dataset=dark_room", "dataset.environment.size=5", "dataset.environment.horizon=4")
    table = tmp_path / "beliefs.csv"
    assert main(["play", f"run={tmp_path / 'run'}", "task=2", f"beliefs={table}"]) == 0
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["episode"], row["step"]) for row in rows[4:7]] == [("1", "4"), ("2", "0"), ("2", "1")]
    last, first = (tuple(value for name, value in rows[place].items() if "_" in name) for place in (4, 5))
    assert last == first  # it is remembered from episode to episode
    assert len({row["mean_1"] for row in rows}) > 10


def test_a_policy_without_a_posterior_is_told_so(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["play", f"run={runs / 'rooms'}", f"beliefs={tmp_path / 'some.png'}"]) == 2
    assert "this run's policy has no posterior" in capsys.readouterr().err


def returns(run: Path) -> list[dict[str, float]]:
    """Returns of the kept episodes of each task, by name."""
    kept = read_trajectories(run)
    assert kept is not None
    return [{episode.name: sum(episode.rewards) for episode in task.episodes} for task in kept.tasks]


def test_a_run_keeps_what_it_did_in_the_first_tasks_as_they_were_scored(runs: Path) -> None:
    found = returns(runs / "rooms")
    assert len(found) == 4
    for number, task in enumerate(found):
        assert list(task) == ["episode 1", "episode 2", "episode 3"]
        assert task["episode 3"] == pytest.approx(float(row(runs / "rooms", number)["last_return"]))
        assert sum(task.values()) == pytest.approx(float(row(runs / "rooms", number)["score"]))


def test_a_run_keeps_what_it_believed_of_the_first_tasks(runs: Path, tmp_path: Path) -> None:
    kept = read_trajectories(runs / "bandits")
    assert kept is not None
    assert main(["play", f"run={runs / 'bandits'}", "task=2", f"beliefs={tmp_path / 'beliefs.csv'}"]) == 0
    with (tmp_path / "beliefs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["step"] == "1"]
    belief = kept.tasks[2].belief
    assert belief is not None
    assert belief.ends == belief.steps == tuple(range(1, 26))
    assert belief.entries == (1, 2, 3, 4, 5)
    assert belief.means[7] == pytest.approx([float(rows[7][f"mean_{arm}"]) for arm in range(1, 6)], abs=1e-4)
    assert belief.deviations[24] == pytest.approx([float(rows[24][f"deviation_{arm}"]) for arm in range(1, 6)], abs=1e-4)
    assert read_trajectories(runs / "rooms").tasks[0].belief is None  # type: ignore[union-attr]


def test_a_policy_that_takes_inner_steps_keeps_episodes_before_and_after_them(tmp_path: Path) -> None:
    run, few = tmp_path / "points", [line for line in SMALL if "queries" not in line and "cells" not in line]
    words = ("algorithm=maml_control", "dataset=point_navigation", "model=tanh_mlp", "episode.queries=1")
    words = (*words, "algorithm.steps=3", "algorithm.episodes=2", "algorithm.rule.rates=[1.0]", "dataset.environment.horizon=9")
    trained(run, *words, small=few)
    kept = read_trajectories(run)
    assert kept is not None
    assert kept.corners == ((-0.6, -0.6), (0.6, 0.6))
    for number, task in enumerate(returns(run)):
        assert list(task) == ["before adaptation", "after 1 step", "after 3 steps"]
        assert task["after 3 steps"] == pytest.approx(float(row(run, number)["score"]), abs=1e-3)  # kept with four digits
        assert task["before adaptation"] != task["after 3 steps"]
    assert all(episode.places[0] == (0.0, 0.0) for task in kept.tasks for episode in task.episodes)


def test_the_page_of_a_run_has_the_pictures_in_one_file(runs: Path) -> None:
    write_run_report(runs / "mazes")
    page = (runs / "mazes" / "report" / "index.html").read_text()
    assert page.count('src="data:image/gif;base64,') == 1
    assert 'srcset="data:image/png;base64,' in page.split("prefers-reduced-motion")[1]
    assert not re.search(r'(src|href)="(?!data:)', page)
    with Image.open(runs / "mazes" / "report" / "trajectories.gif") as picture:
        assert picture.n_frames > 1
    assert main(["report", str(runs / "mazes"), str(runs / "rooms"), "--output", str(runs / "page")]) == 0
    assert (runs / "page" / "index.html").read_text().count('src="data:image/gif;base64,') == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run=DIR is needed"),
        (["run=RUN", "taks=1"], "did you mean task"),
        (["run=RUN", "task=-1"], "task=-1: the number of a task"),
        (["run=RUN", "task=1", "task=2"], "given a second time"),
        (["run=RUN", "gif=maze.png"], r"gif=maze.png: must be a file that ends in \.gif"),
        (["run=RUN", "gif=some.gif"], "5 Bernoulli arms are not drawn"),
        (["run=RUN", "beliefs=some.txt"], r"beliefs=some.txt: must be a file that ends in \.png"),
        (["run=nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_played_is_refused(runs: Path, words: list[str], message: str, capsys: Captured) -> None:
    assert main(["play", *(word.replace("RUN", str(runs / "bandits")) for word in words)]) == 2
    told = capsys.readouterr().err

    assert re.search(message, told), told


def test_runs_that_do_not_act_are_not_played_and_others_do_not_predict(runs: Path, tmp_path: Path, capsys: Captured) -> None:
    trained(tmp_path / "run", small=OTHER)
    assert main(["play", f"run={tmp_path / 'run'}"]) == 2
    assert "nothing is played; metaloop inspect" in capsys.readouterr().err
    (tmp_path / "some.csv").write_text("text,label\na,b\n")
    assert main(["predict", f"run={runs / 'rooms'}", f"support={tmp_path / 'some.csv'}", f"query={tmp_path / 'some.csv'}"]) == 2
    assert "metaloop play run=DIR" in capsys.readouterr().err
    assert main(["predict", f"run={runs / 'rooms'}"]) == 2
    assert "metaloop play run=" in capsys.readouterr().err
