"""Reading of algorithm-selection scenarios, and their tasks."""

import re
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from made_scenario import COUNT, FEATURES, LEARNERS, tables, write_scenario
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.scenarios.arff import read_arff
from metaloop.data.scenarios.scenario import read_scenario
from metaloop.data.scenarios.selection import ASlib, SelectionTasks
from metaloop.errors import UserError
from metaloop.testing import check_dataset
from metaloop.types import EpisodeSpec, Tasks

SPEC = EpisodeSpec(ways=1, shots=1000, queries=1)


def drawn(tasks: SelectionTasks, spec: EpisodeSpec = SPEC) -> Tasks:
    assert tasks.episodes is not None
    return Episodes(tasks, spec, Stream(0, "test")).tasks(torch.arange(tasks.episodes))


def test_a_folder_and_its_archive_are_read_alike(tmp_path: Path) -> None:
    folder = write_scenario(tmp_path / "made")
    with ZipFile(tmp_path / "made.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"MADE/{file.name}")
    x, y = tables()
    for path in (folder, tmp_path / "made.zip"):
        scenario = read_scenario(path)
        assert (scenario.algorithms, scenario.features) == (LEARNERS, FEATURES)
        np.testing.assert_allclose(scenario.x, x)
        np.testing.assert_allclose(scenario.y, y)
        assert scenario.folds.tolist() == [i % 3 for i in range(COUNT)]


def test_a_measure_to_minimize_changes_its_sign(tmp_path: Path) -> None:
    text = (write_scenario(tmp_path) / "description.txt").read_text()
    scenario = read_scenario(
        write_scenario(
            tmp_path,
            description=text.replace("- true\nmetainfo", "- false\nmetainfo").replace(
                "maximize:\n- true", "maximize:\n- false"
            ),
        )
    )
    np.testing.assert_allclose(scenario.y, -tables()[1])


def edited(folder: Path, name: str, old: str, new: str) -> Path:
    path = next(folder.glob(f"{name}.*"))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("algorithm_runs", "d0,1,2_line,", "d0,1,2_lime,", r"line 11: the learner '2_lime' is not in metainfo_algorithms"),
        ("algorithm_runs", ",ok\n", ",crash\n", r"line 10: the run of 1_tree on d0 has no result \(runstatus crash"),
        ("algorithm_runs", "d0,1,1_tree,", "d1,1,1_tree,", r"1 runs are missing, such as 1_tree on d0"),
        ("algorithm_runs", "@DATA", "nothing", r"'nothing' is no line of ARFF"),
        ("algorithm_runs", "d0,1,1_tree", "d0,1,1,tree", r"line 10: 6 cells for 5 attributes"),
        ("feature_values", "d1,1,", "d1,1,inf,", r"7 cells for 6 attributes"),
        ("cv", "d5,1,3", "d5,1,?", r"1 data sets have no fold, such as d5"),
        ("description", "solution_quality", "runtime", r"only solution_quality is read"),
        ("description", "scenario_id", "id", r"lacks scenario_id"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_scenario(edited(write_scenario(tmp_path), file, old, new))


def test_an_infinite_or_absent_meta_feature_is_refused(tmp_path: Path) -> None:
    folder = write_scenario(tmp_path)
    text = (folder / "feature_values.arff").read_text()
    first = re.search(r"d0,1,.*", text)
    assert first
    infinite, unknown = r"rows is 'inf'; it must be a finite number", "no meta-feature of d0 is known"
    for row, message in (("d0,1,inf,1,1,1", infinite), ("d0,1,?,NaN,?,?", unknown)):
        write_scenario(tmp_path, feature_values=text.replace(first[0], row))
        with pytest.raises(UserError, match=message):
            read_scenario(folder)


def test_a_missing_scenario_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist.*set dataset.path"):
        ASlib(str(tmp_path / "none.zip")).split("test")
    (tmp_path / "broken.zip").write_text("no archive")
    with pytest.raises(UserError, match="is broken or no scenario of ASlib"):
        ASlib(str(tmp_path / "broken.zip")).split("test")


def test_arff_reads_quotes_comments_and_missing_values() -> None:
    text = "% about\n@relation r\n@attribute 'a b' string\n@attribute n NUMERIC\n@data\n'x, y',?\n% more\nz,1e-3\n"
    arff = read_arff(text, "made")
    assert arff.column("a b") == ["x, y", "z"]
    assert np.isnan(arff.numbers("n")[0])
    assert arff.numbers("n")[1] == 0.001
    with pytest.raises(UserError, match="has no attribute 'm'"):
        arff.column("m")


def test_meta_test_is_the_given_cross_validation(tmp_path: Path) -> None:
    data = ASlib(str(write_scenario(tmp_path)))
    tasks = drawn(data.split("test"))
    x, y = tables()
    assert tasks.support.y.shape == (COUNT, 12, 4)
    for number in range(COUNT):
        others = np.flatnonzero(np.arange(COUNT) % 3 != number % 3)
        single = y[others].mean(0).argmax()
        np.testing.assert_allclose(tasks.support.y[number, :, :3], y[others], rtol=1e-6)
        np.testing.assert_allclose(tasks.support.y[number, :, 3], y[others, single], rtol=1e-6)
        np.testing.assert_allclose(tasks.query.y[number, 0], [*y[number], y[number, single]], rtol=1e-6)
        assert isinstance(tasks.support.x, torch.Tensor)
        np.testing.assert_allclose(tasks.support.x[number, :, 0], np.nan_to_num(x[others]), rtol=1e-6)
        assert torch.equal(tasks.support.x[number, :, 1].bool(), torch.from_numpy(~np.isnan(x[others])))


def test_inner_support_sets_leave_out_two_folds(tmp_path: Path) -> None:
    tasks = ASlib(str(write_scenario(tmp_path))).split("validation")
    assert tasks.episodes == 2 * COUNT
    pairs = drawn(tasks)
    _, y = tables()
    for number, support in enumerate(pairs.support.y[..., :3]):
        folds = {int(np.flatnonzero(np.isclose(y, row).all(1))[0]) % 3 for row in support.numpy()}
        assert len(folds) == 1
        assert number % COUNT % 3 not in folds


def test_fewer_shots_are_a_random_part(tmp_path: Path) -> None:
    tasks = ASlib(str(write_scenario(tmp_path))).split("test")
    few = drawn(tasks, EpisodeSpec(ways=1, shots=5, queries=1))
    assert few.support.y.shape == (COUNT, 5, 4)
    assert not torch.equal(few.support.y[0], few.support.y[3])  # of one fold, other numbers


def test_contract(tmp_path: Path) -> None:
    check_dataset(ASlib(str(write_scenario(tmp_path))), SPEC, disjoint=False)
    with pytest.raises(UserError, match="take episode=scenario"):
        ASlib(str(tmp_path)).split("test").check(EpisodeSpec(5, 1, 15))


def test_meta_features_by_name(tmp_path: Path) -> None:
    folder = str(write_scenario(tmp_path))
    assert ASlib(folder, features=["curved", "rows"]).split("test").scenario.features == ("curved", "rows")
    with pytest.raises(UserError, match="no meta-feature 'curvy'; did you mean curved"):
        ASlib(folder, features=["curvy"]).split("test")
    with pytest.raises(UserError, match="none of them is known of d0, d2, d4"):
        ASlib(folder, features=["often_unknown"]).split("test")


@pytest.mark.data
def test_the_official_scenario_has_its_published_ends(real_data: Path) -> None:
    path = real_data / "tabular" / "aslib" / "OPENML-WEKA-2017.zip"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    tasks = ASlib(str(path)).split("test")
    query = drawn(tasks).query.y[:, 0]
    assert query[:, -1].mean() == pytest.approx(0.8557, abs=1e-4)
    assert query.max(1).values.mean() == pytest.approx(0.8757, abs=1e-4)
    assert query.shape == (105, 31)
