"""The estimators of scikit-learn and the runs that come with the package."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import metaloop
from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.evaluation.pretrained.estimators import MetaloopClassifier, MetaloopRegressor
from metaloop.evaluation.pretrained.shipped import shipped_run, shipped_runs
from small_runs import rows

pandas = pytest.importorskip("pandas")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([MetaloopClassifier(), MetaloopRegressor()])
def test_what_scikit_learn_asks_of_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def parts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(len(y))
    half = len(y) // 2
    return x[order[:half]], y[order[:half]], x[order[half:]], y[order[half:]]


def test_iris_is_classified_without_training() -> None:
    x, y, query, truth = parts(*load_iris(return_X_y=True))
    model = metaloop.MetaloopClassifier().fit(x, y)
    assert roc_auc_score(truth, model.predict_proba(query), multi_class="ovr") > 0.98
    shifted = model.fit(1000 * x + 7, y).predict_proba(1000 * query + 7)
    np.testing.assert_allclose(shifted, model.fit(x, y).predict_proba(query), atol=1e-6)  # units do not matter


def test_diabetes_is_predicted_with_quantiles() -> None:
    x, y, query, truth = parts(*load_diabetes(return_X_y=True))
    model = metaloop.MetaloopRegressor().fit(x, y)
    mean, deviation = model.predict(query, return_std=True)
    assert r2_score(truth, mean) > 0.7 * r2_score(truth, Ridge().fit(x, y).predict(query))
    assert (deviation > 0).all()
    quantiles = model.predict_quantiles(query)
    assert (np.diff(quantiles, axis=1) > 0).all()
    assert 0.75 < ((truth > quantiles[:, 0]) & (truth < quantiles[:, 2])).mean() <= 1
    np.testing.assert_allclose(model.fit(x, 5 * y + 3).predict(query), 5 * mean + 3, rtol=1e-6)


def frame(count: int) -> Any:
    random = np.random.default_rng(1)
    size = random.normal(size=count)
    color = random.choice(["red", "green", "blue"], count)
    data = pandas.DataFrame(
        {
            "size": np.where(random.random(count) < 0.1, np.nan, size),
            "color": color,
            "ripe": random.random(count) < 0.5,
            "picked": pandas.Timestamp("2026-03-01") + pandas.to_timedelta(random.integers(0, 90, count), "D"),
        }
    )
    data.loc[0, "color"] = None
    return data, np.where(color == "red", "good", "bad")


def test_a_frame_of_texts_truth_values_and_dates_with_gaps() -> None:
    data, y = frame(160)
    model = MetaloopClassifier().fit(data.iloc[:120], y[:120])
    assert model.score(data.iloc[120:], y[120:]) > 0.8
    assert [column.kind for column in model.encoding_] == ["number", "category", "truth", "date"]
    unknown = data.iloc[120:].assign(color="purple")  # counts as missing
    assert np.isfinite(model.predict_proba(unknown)).all()
    with pytest.raises(ValueError, match=r"column 'ripe', row 0: 'perhaps' is no truth"):
        model.predict(data.iloc[120:].assign(ripe="perhaps"))
    with pytest.raises(ValueError, match=r"feature names"):
        model.predict(data.iloc[120:].rename(columns={"size": "weight"}))


def test_bad_input_is_named() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(ValueError, match=r"y has 12 classes, and the model pfn tells at most 10 apart"):
        MetaloopClassifier().fit(x, np.arange(60) % 12)
    with pytest.raises(ValueError, match=r"at most 10,000 are read"):
        MetaloopClassifier().fit(np.zeros((10_001, 1)), np.arange(10_001) % 2)
    with pytest.raises(ValueError, match=r"column 'text' holds 60 different texts"):
        MetaloopClassifier().fit(pandas.DataFrame({"text": [f"remark {n}" for n in range(60)]}), np.arange(60) % 2)
    for estimator in (MetaloopClassifier(model="detector"), MetaloopRegressor(model="detector")):
        with pytest.raises(UserError, match=r"model='detector' is a run of anomaly scoring, not of classes or values"):
            estimator.fit(x, np.arange(len(x)) % 2)
    with pytest.raises(UserError, match=r"model='nowhere' is no run directory; runs that come with metaloop: detector, pfn"):
        MetaloopClassifier(model="nowhere").fit(x, np.arange(60) % 2)
    with pytest.raises(UserError, match=r"is a regression; MetaloopRegressor takes it"):
        MetaloopClassifier(model="pfn_regression").fit(x, np.arange(60) % 2)
    with pytest.raises(UserError, match=r"is a classification; MetaloopClassifier takes it"):
        MetaloopRegressor(model="pfn").fit(x, x[:, 0])
    with pytest.raises(ValueError, match=r"levels=\(0.0,\)"):
        MetaloopRegressor().fit(x, x[:, 0]).predict_quantiles(x, levels=(0.0,))


def write(path: Path, table: Any, label: Any) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"x{place}" for place in range(table.shape[1])] + ["label"])
        writer.writerows([*row, target] for row, target in zip(table.tolist(), label, strict=True))
    return path


def test_predict_needs_no_run_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y, query, truth = parts(*load_iris(return_X_y=True))
    support = write(tmp_path / "train.csv", x, [f"kind {n}" for n in y])
    unknown = write(tmp_path / "test.csv", query, [""] * len(query))
    before = sorted(shipped_run("pfn").rglob("*"))
    assert main(["predict", "model=pfn", f"support={support}", f"query={unknown}"]) == 0
    (made,) = tmp_path.glob("outputs/pfn/predictions/*/predictions.csv")
    answers = rows(made)
    assert np.mean([row["label"] == f"kind {n}" for row, n in zip(answers, truth, strict=True)]) > 0.9
    expected = MetaloopClassifier().fit(x, y).predict_proba(query)
    np.testing.assert_allclose([float(row["p(kind 1)"]) for row in answers], expected[:, 1], atol=1e-4)
    assert sorted(shipped_run("pfn").rglob("*")) == before  # nothing is written into the package


def test_a_regression_from_a_file(tmp_path: Path) -> None:
    x, y, query, _ = parts(*load_diabetes(return_X_y=True))
    support, unknown = write(tmp_path / "train.csv", x, y), write(tmp_path / "test.csv", query, [""] * len(query))
    out = tmp_path / "out.csv"
    assert main(["predict", "model=pfn_regression", f"support={support}", f"query={unknown}", f"out={out}"]) == 0
    expected = MetaloopRegressor().fit(x, y).predict(query)
    np.testing.assert_allclose([float(row["mean"]) for row in rows(out)], expected, rtol=1e-4)


def test_mistakes_with_shipped_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = write(tmp_path / "query.csv", np.zeros((2, 2)), [0, 1])
    assert main(["predict", "model=pfn", f"query={query}"]) == 2
    assert "predict model=pfn: support=FILE is needed" in capsys.readouterr().err
    assert main(["predict", "model=pnf", f"query={query}"]) == 2
    assert "Models that come with metaloop: detector, pfn, pfn_regression" in capsys.readouterr().err
    assert main(["predict", "model=detektor", f"support={query}", f"query={query}"]) == 2
    assert "neither a folder nor a model that comes with metaloop; did you mean detector? those are" in capsys.readouterr().err
    many = write(tmp_path / "many.csv", np.arange(20_004.0).reshape(-1, 2), np.arange(10_002) % 2)
    assert main(["predict", "model=pfn", f"support={many}", f"query={query}"]) == 2
    assert "it has 10,002 rows, and at most 10,000 are read" in capsys.readouterr().err


def test_predicting_does_not_wait_for_lightning(tmp_path: Path) -> None:
    """Importing it would take longer than to predict a thousand rows."""
    support = write(tmp_path / "train.csv", np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2)
    code = (
        "import sys; from metaloop.cli.main import main\n"
        f"assert main(['predict', 'model=pfn', 'support={support}', 'query={support}', 'out={tmp_path / 'out.csv'}']) == 0\n"
        "assert not {'pytorch_lightning', 'lightning_fabric', 'wandb', 'matplotlib', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_folder_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(shipped_runs()) == {"pfn", "pfn_regression", "detector"}
    monkeypatch.chdir(tmp_path)
    assert shipped_run("pfn") is not None
    (tmp_path / "pfn").mkdir()
    assert shipped_run("pfn") is None


def test_a_wide_table_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).normal(size=(40, 14))
    model = metaloop.adapt_to("pfn", write(tmp_path / "wide.csv", x, (x[:, 12] > 0).astype(int)))
    assert "14 features, and the model was meta-trained on tables of up to 10" in caplog.text
    assert model.predict(x).probabilities.shape == (40, 2)
