"""The page over several runs: whole, self-contained, safe, sortable in a real browser."""

import errno
import fcntl
import html
import json
import multiprocessing
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_runs import MakeRun, paper_block, run_factory
from made_sweep import DATA, make_sweep

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.report.pages.page import SECTIONS_UP_TO, make_report

EVIL = '<script>alert("x")</script>'


class _Page(HTMLParser):
    """Tags, what they link to, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table, self._cell = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]
        if tag == "table":
            self._table = dict(attrs).get("id") or ""
        elif tag == "tr":
            self.rows.setdefault(self._table, []).append([])
        elif tag == "td":
            self.rows[self._table][-1].append("")
        self._cell = tag == "td"

    def handle_endtag(self, tag: str) -> None:
        self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[self._table][-1][-1] += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page over four sound and two broken runs."""
    root, paper = tmp_path_factory.mktemp("report"), paper_block()
    make_run = run_factory(root)
    make_run("runs/a0", name="maml", paper=paper, mean=0.93)
    make_run("runs/a1", name="maml", paper=paper, mean=0.93, seed=1)
    make_run("runs/b", name=EVIL, config={"key": EVIL, "dataset": {"rotations": "none"}}, mean=0.98)
    make_run("runs/c", name="diverged", mean=0.95, test={"level": 0.9}, training=None, samples=False)
    (make_run("runs/d") / "record.json").write_text("{")
    (make_run("runs/e", name="broken samples") / "samples.npz").write_bytes(b"no zip")
    return make_report([root / "runs"], root / "out").page


def test_the_page_and_its_tables(report: Path) -> None:
    tables = [f"{name}.{kind}" for name in ("paired", "table") for kind in ("csv", "md", "tex")]
    assert sorted(file.name for file in report.parent.iterdir()) == ["figures", "index.html", *tables]
    assert sorted(file.name for file in (report.parent / "figures").iterdir()) == ["adaptation.png", "cost.png", "learning.png"]
    page = _Page(report.read_text())
    table = page.rows["results-table"][1:]
    assert [row[0] for row in table] == [EVIL, "diverged", "maml"]  # the best first
    assert [row[next(i for i, cell in enumerate(row) if cell == "60") + 1] for row in table] == ["1", "1", "2"]  # seeds
    markdown = (report.parent / "table.md").read_text().splitlines()[2]
    assert [cell.strip() for cell in markdown.replace("\\", "").strip("|").split("|")] == table[0]
    assert [row[:2] for row in page.rows["paired-table"][1:]] == [[EVIL, "maml"]]  # the diverged run has another level


def test_failures_are_shown_beside_the_sound_runs(report: Path) -> None:
    text = report.read_text()
    assert "2 runs are not in the tables" in text
    assert re.search(r"runs/d/record\.json: no readable record", text)
    assert re.search(r"runs/e/samples\.npz: no readable samples", text)


def test_nothing_is_loaded_from_elsewhere(report: Path) -> None:
    text = report.read_text()
    page = _Page(text)
    assert all(link.startswith(("data:", "#")) for link in page.links), page.links
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest", text)
    assert page.tags.count("img") == 3 + 3  # learning, adaptation, cost; three sheets
    assert page.tags.count("source") == page.tags.count("img")


def test_what_a_record_says_is_text(report: Path) -> None:
    text = report.read_text()
    assert EVIL not in text
    assert _Page(text).tags.count("script") == 1


def test_one_run_has_no_pairs(make_run: MakeRun, tmp_path: Path) -> None:
    page = make_report([make_run("a", samples=False)], tmp_path / "out").page
    assert not (page.parent / "paired.csv").exists()
    assert "<h1>1 run</h1>" in page.read_text()


def test_no_run_at_all_is_the_users_error(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable run to report on"):
        make_report([tmp_path / "nowhere"], tmp_path / "out")
    (make_run("a") / "samples.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"no run can be shown:\n.*samples\.npz"):
        make_report([tmp_path / "a"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_record_is_shown_with_the_end_of_its_log(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("done", "stopped", "running"):
        directory = make_run(name, samples=False)
        (directory / "run.json").write_text(json.dumps({"config": {"trainer": {"max_steps": 2000}}}))
    for name in ("stopped", "running"):
        (tmp_path / name / "record.json").unlink()
        (tmp_path / name / ".lock").touch()
        (tmp_path / name / "train.log").write_text("".join(f"line {number} of <{name}>\n" for number in range(100)))
    with (tmp_path / "running" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = html.unescape(make_report([tmp_path], tmp_path / "out").page.read_text())
    assert "2 runs are not in the tables" in text
    assert f"continue with metaloop train resume={tmp_path / 'stopped'}" in text
    assert "not finished (last row of metrics.csv: outer step 1,000 of 2,000)" in text
    assert "still running (last row" in text
    assert "line 84 of" not in text
    for name in ("stopped", "running"):
        assert f"line 85 of <{name}>" in text
        assert f"line 99 of <{name}>" in text


def test_F20_a_sweep_is_pivoted_and_taken_apart(make_run: MakeRun, tmp_path: Path) -> None:
    page = make_report([make_sweep(make_run, data=("glyphs",), episodes=30)], tmp_path / "out").page
    shown = _Page(page.read_text())
    pivot = shown.rows["pivot-table"][1:]
    assert [row[0] for row in pivot] == ["boil", "maml", "anil"]  # the best first
    assert len(pivot[0]) == 3
    results = shown.rows["results-table"]
    assert sorted(row[0] for row in results[1:]) == ["anil_glyphs"] * 2 + ["boil_glyphs"] * 2 + ["maml_glyphs"] * 2
    assert results[1][0] == "boil_glyphs"
    assert all("±" in row[5] for row in results[1:])  # F20: the score comes before the keys, and within sight
    assert {row[7] for row in results[1:]} == {"1", "5"}
    assert len(shown.rows["effects-table"]) == 1 + 3 + 2
    assert len(shown.rows["interactions-table"]) == 1 + 1
    files = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*")}
    pictures = ("main_effects", "heat_algorithm_algorithm.steps", "interaction_algorithm_algorithm.steps", "cost")
    assert {f"figures/{name}.png" for name in pictures} <= files
    assert {"pivot.md", "pivot.csv", "pivot.tex"} <= files


def test_F7_effects_on_several_data_sets_have_a_picture_each(make_run: MakeRun, tmp_path: Path) -> None:
    page = make_report([make_sweep(make_run, episodes=30)], tmp_path / "out").page
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert {f"main_effects_{number}.png" for number in range(1, len(DATA) + 1)} <= names
    rows = _Page(page.read_text()).rows["effects-table"][1:]
    assert {row[1] for row in rows} == {
        "algorithm",
        "algorithm.steps",
    }  # not the data set
    assert len({row[0] for row in rows}) == len(DATA)


def test_many_runs_are_lines_that_link_to_their_pages(make_run: MakeRun, tmp_path: Path) -> None:
    directories = [make_run(f"runs/{number:02}", name="maml", seed=number) for number in range(SECTIONS_UP_TO + 1)]
    (directories[3] / "report").mkdir()
    (directories[3] / "report" / "index.html").touch()
    text = make_report([tmp_path / "runs"], tmp_path / "out").page.read_text()
    assert '<a href="../runs/03/report/index.html">maml, seed 3</a>' in text
    assert text.count("<article") == 0
    assert _Page(text).tags.count("img") == 2  # both kinds of curves


@pytest.mark.slow
def test_two_reports_at_once_leave_one_whole_page(make_run: MakeRun, tmp_path: Path) -> None:
    """Two processes write into one folder again and again while a third reads: it never meets half a file."""
    folder = make_sweep(make_run, data=("glyphs",), episodes=10)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_reports, args=(folder, tmp_path / "out")) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        for name, end in (("index.html", "</html>"), ("pivot.tex", "\\end{tabular}"), ("pivot.md", "column, 5 %).")):
            path = tmp_path / "out" / name
            if path.exists():
                assert path.read_text().rstrip().endswith(end)
                seen += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen > 3
    assert not list((tmp_path / "out").rglob("*.part"))


def _write_reports(folder: Path, destination: Path) -> None:
    for _ in range(2):
        make_report([folder], destination)


def test_a_full_disk_leaves_the_old_report_and_says_so(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = make_run("a", samples=False), tmp_path / "out"
    assert main(["report", str(run), "--output", str(out)]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    assert main(["report", str(run), "--output", str(out)]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


_CLICKS = """<script>
const button = (name) => [...document.querySelectorAll("#results-table th button")].find((b) => b.textContent === name);
const cells = () => [...document.querySelectorAll("#results-table tbody td:first-child")];
const state = (name) => button(name).parentElement.getAttribute("aria-sort");
const log = [];
const press = (name) => {
  button(name).click();
  log.push([name, state(name), ...cells().map((cell) => cell.textContent)].join("|"));
};
press("accuracy (%)"); press("accuracy (%)"); press("name"); press("tasks/s"); press("tasks/s");
document.body.dataset.log = log.join("@@");
const search = document.querySelector(".filter input");
const choice = document.querySelector('.filter select[aria-label="name"]');
const shown = () => cells().filter((cell) => !cell.parentElement.hidden).map((cell) => cell.textContent);
const filtered = () => [shown(), document.querySelector(".filter .count").textContent].join("|");
search.value = "DIVERGED conv4"; search.dispatchEvent(new Event("input")); log.push(filtered());
search.value = ""; choice.value = "=maml";
choice.dispatchEvent(new Event("change")); log.push(filtered());
choice.value = ""; choice.dispatchEvent(new Event("change")); log.push(filtered());
document.body.dataset.log = log.join("@@");
document.body.dataset.focusable = button("name").tabIndex;
</script>"""


@pytest.mark.slow
def test_headers_sort_in_a_browser(report: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium, chromium-browser or google-chrome on the PATH; none was found")
    page = tmp_path / "clicked.html"
    page.write_text(report.read_text().replace("</body>", _CLICKS + "</body>"))
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
        "--disable-background-networking", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    command = [browser, *flags, "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'data-log="([^"]*)"', dom)
    assert found, dom[-500:]
    assert html.unescape(found[1]).split("@@") == [
        f"accuracy (%)|descending|{EVIL}|diverged|maml",
        f"accuracy (%)|ascending|maml|diverged|{EVIL}",
        f"name|ascending|{EVIL}|diverged|maml",
        f"tasks/s|descending|maml|{EVIL}|diverged",  # a run without speed stays last, either way
        f"tasks/s|ascending|{EVIL}|maml|diverged",
        "diverged|1 of 3",
        "maml|1 of 3",
        f"{EVIL},maml,diverged|3 of 3",
    ]
    assert 'data-focusable="0"' in dom
