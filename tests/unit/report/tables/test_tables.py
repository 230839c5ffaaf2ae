"""The results table in its four forms, and the numbers in it."""

import csv
import io

import pytest
from made_runs import MakeRun

from metaloop.records.runs import read_run
from metaloop.report import formats
from metaloop.report.tables.latex import escape as latex
from metaloop.report.tables.markdown import escape as markdown
from metaloop.report.tables.results import results_csv, results_table, to_latex, to_markdown
from metaloop.report.tables.rows import Row, group_rows


def _rows(make_run: MakeRun, paper: dict[str, object]) -> list[Row]:
    runs = [make_run(f"m{seed}", name="maml", seed=seed, paper=paper) for seed in range(2)]
    return group_rows(map(read_run, [*runs, make_run("b", name="50 % & <b>|_x", mean=0.9)]))


def test_markdown_holds_a_line_a_row_and_keeps_its_columns(make_run: MakeRun, paper: dict[str, object]) -> None:
    rows = _rows(make_run, paper)
    lines = to_markdown(results_table(rows)).splitlines()
    assert len(lines) == 2 + len(rows)
    assert {line.replace(r"\|", "").count("|") for line in lines} == {lines[0].count("|")}
    first = [cell.strip() for cell in lines[2].split(" | ")]
    score = f"{100 * rows[0].interval.mean:.2f} ± {100 * rows[0].interval.half_width:.2f}"
    assert first[5:9] == [score, f"{100 * rows[0].spread.sd:.2f}", "60", "2"]
    assert r"98.70 ± 0.40 \[S\]" in lines[2]
    assert r"50 % & \<b\>\|\_x" in lines[3]


def test_csv_is_exact_and_in_plain_units(make_run: MakeRun, paper: dict[str, object]) -> None:
    rows = _rows(make_run, paper)
    read = list(csv.DictReader(io.StringIO(results_csv(rows))))
    assert float(read[0]["mean"]) == rows[0].interval.mean
    assert float(read[0]["half_width"]) == rows[0].interval.half_width
    assert float(read[0]["difference"]) == rows[0].interval.mean - 0.987
    assert (read[0]["seeds"], read[0]["peak_memory_bytes"]) == ("2", str(700 * 2**20))
    assert (read[1]["name"], read[1]["published"], read[1]["sd_over_seeds"]) == ("50 % & <b>|_x", "", "")


def test_latex_is_a_booktabs_tabular_of_escaped_cells(make_run: MakeRun, paper: dict[str, object]) -> None:
    table = results_table(_rows(make_run, paper))
    text = to_latex(table)
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{" + "".join("lr"[numeric] for numeric in table.numeric) + "}"
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert {line.count(" & ") for line in lines if line.endswith(r"\\")} == {len(table.headers) - 1}
    assert r"50 \% \& \textless{}b\textgreater{}\textbar{}\_x" in text
    assert text.isascii()


def test_columns_of_published_numbers_and_of_metrics_appear_where_needed(make_run: MakeRun) -> None:
    one = group_rows([read_run(make_run("a"))])
    assert "published" not in results_table(one).headers
    assert "accuracy (%)" in results_table(one).headers
    both = [*one, *group_rows([read_run(make_run("r", kind="regression", mean=0.3))])]
    headers = results_table(both).headers
    assert ("metric" in headers, "score" in headers, "accuracy (%)" in headers) == (True, True, False)
    assert "published" in results_csv(both).splitlines()[0].split(",")  # programs always find the same columns


@pytest.mark.parametrize(
    ("mean", "half_width", "metric", "text"),
    [
        (0.97312, 0.00418, "accuracy", "97.31 ± 0.42"),
        (1.0, 0.0, "accuracy", "100.00 ± 0.00"),
        (0.5, None, "accuracy", "50.00"),
        (0.57312, 0.0003, "mse", "0.5731 ± 0.0003"),
        (0.00012345, 0.00001, "mse", "1.23e-04 ± 1.00e-05"),
        (float("inf"), None, "mse", "diverged"),
        (float("nan"), None, "accuracy", "diverged"),
    ],
)
def test_scores(mean: float, half_width: float | None, metric: str, text: str) -> None:
    assert formats.score(mean, half_width, metric) == text


def test_differences_carry_a_sign_unless_they_are_nothing() -> None:
    texts = [formats.difference(value, "accuracy") for value in (0.0123, -0.0123, 0.00001, -0.00001, None)]
    assert texts == ["+1.23", "−1.23", "0.00", "0.00", "–"]
    assert formats.difference(-0.5, "mse") == "−0.5000"


def test_other_amounts() -> None:
    assert [formats.memory(value) for value in (None, 700 * 2**20, 3 * 2**30)] == ["–", "700 MiB", "3.00 GiB"]
    assert [formats.rate(value) for value in (None, 3.14159, 12345.6)] == ["–", "3.14", "12,346"]
    assert [formats.duration(value) for value in (None, 5.25, 95.2, 7260)] == ["–", "5.2 s", "1 min 35 s", "2 h 1 min"]
    assert [formats.p_value(value) for value in (None, 0.05, 1e-9)] == ["–", "0.0500", "< 0.0001"]
    assert [formats.setting("classification", [5, 20], 1), formats.setting("regression", 1, 10)] == [
        "5–20-way 1-shot",
        "10-shot",
    ]


def test_text_stays_on_one_line() -> None:
    assert markdown("a\n| b") == r"a \| b"
    assert latex("a\n\\b") == r"a \textbackslash{}b"
