"""The results table in its four forms, and the numbers in it."""

import csv
import io

from made_runs import MakeRun

from metaloop.metrics.interval import Interval
from metaloop.problems.metric import ACCURACY, LOG_LIKELIHOOD, MEAN_SQUARED_ERROR, Metric
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
    assert first[5:7] == [score, f"{100 * rows[0].spread.sd:.2f}"]
    assert first[9:11] == ["60", "2"]
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
    both = [*one, *group_rows([read_run(make_run("r", problem="regression", mean=0.3))])]
    headers = results_table(both).headers
    assert ("metric" in headers, "score" in headers, "accuracy (%)" in headers) == (True, True, False)
    assert "published" in results_csv(both).splitlines()[0].split(",")  # programs always find the same columns


def test_a_score_of_any_metric_is_written_in_its_unit(make_run: MakeRun) -> None:
    dollars = Metric("cost", "cost", unit="$", digits=0, higher_is_better=False)
    returns = Metric("return", "average return", digits=1)
    likelihood = {"metric": LOG_LIKELIHOOD, "mean": -1.7066}
    runs = [make_run("a", metric=dollars, mean=1200.0), make_run("b", metric=returns, mean=-312.5), make_run("c", **likelihood)]
    alone = [results_table(group_rows([read_run(run)])) for run in runs]
    column = [table.headers.index(head) for table, head in zip(alone, HEADINGS, strict=True)]
    texts = [table.rows[0][number].text for table, number in zip(alone, column, strict=True)]
    assert [text.partition(" ± ")[0] for text in texts] == ["1200", "−312.5", "−1.7107"]
    assert r"$-$312.5 $\pm$ " in to_latex(alone[1])
    mixed = results_table(group_rows(map(read_run, runs)))
    assert {row[mixed.headers.index("metric")].text for row in mixed.rows} == set(HEADINGS)


HEADINGS = ("cost ($)", "average return", "log-likelihood of a query (nats)")


def test_differences_carry_their_interval() -> None:
    texts = [formats.difference(gap, ACCURACY) for gap in (Interval(0.0123, 0.004, 5), Interval(-0.0123, None, 1), None)]
    assert texts == ["+1.23 ± 0.40", "−1.23", "–"]
    assert formats.difference(Interval(-0.5, 0.25, 5), MEAN_SQUARED_ERROR) == "−0.5000 ± 0.2500"


def test_other_amounts() -> None:
    assert [formats.memory(value) for value in (None, 700 * 2**20, 3 * 2**30)] == ["–", "700 MiB", "3.00 GiB"]
    assert [formats.rate(value) for value in (None, 3.14159, 12345.6)] == ["–", "3.14", "12,346"]
    assert [formats.duration(value) for value in (None, 5.25, 95.2, 7260)] == ["–", "5.2 s", "1 min 35 s", "2 h 1 min"]
    assert [formats.p_value(value) for value in (None, 0.05, 1e-9)] == ["–", "0.0500", "< 0.0001"]


def test_text_stays_on_one_line() -> None:
    assert markdown("a\n| b") == r"a \| b"
    assert latex("a\n\\b") == r"a \textbackslash{}b"
