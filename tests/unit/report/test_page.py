"""The page over several runs: whole, self-contained, safe, sortable in a real browser."""

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_runs import MakeRun, paper_block, run_factory

from metaloop.errors import UserError
from metaloop.report.page import make_report

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
    return make_report([root / "runs"], root / "out")


def test_the_page_and_its_tables(report: Path) -> None:
    names = ["index.html", "paired.csv", "paired.md", "paired.tex", "table.csv", "table.md", "table.tex"]
    assert sorted(file.name for file in report.parent.iterdir()) == names
    page = _Page(report.read_text())
    table = page.rows["results-table"][1:]
    assert [row[0] for row in table] == ["maml", EVIL, "diverged"]
    assert [row[8] for row in table] == ["2", "1", "1"]
    markdown = (report.parent / "table.md").read_text().splitlines()[2]
    assert [cell.strip() for cell in markdown.replace("\\", "").strip("|").split("|")] == table[0]
    seeds = {"maml, seed 0", "maml, seed 1"}
    paired = [row[:2] for row in page.rows["paired-table"][1:]]  # the diverged run has another level
    assert [first for first, _ in paired[:2]] == [EVIL, EVIL]
    assert {second for _, second in paired[:2]} == seeds == set(paired[2])


def test_failures_are_shown_beside_the_sound_runs(report: Path) -> None:
    text = report.read_text()
    assert "2 of the records found could not be read" in text
    assert re.search(r"runs/d/record\.json: no readable record", text)
    assert re.search(r"runs/e/samples\.npz: no readable samples", text)


def test_nothing_is_loaded_from_elsewhere(report: Path) -> None:
    text = report.read_text()
    page = _Page(text)
    assert all(link.startswith(("data:", "#")) for link in page.links), page.links
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest", text)
    assert page.tags.count("img") == 2 + 3  # learning, adaptation, three sheets
    assert page.tags.count("source") == page.tags.count("img")


def test_what_a_record_says_is_text(report: Path) -> None:
    text = report.read_text()
    assert EVIL not in text
    assert _Page(text).tags.count("script") == 1


def test_one_run_has_no_pairs(make_run: MakeRun, tmp_path: Path) -> None:
    page = make_report([make_run("a", samples=False)], tmp_path / "out")
    assert not (page.parent / "paired.csv").exists()
    assert "<h1>1 run</h1>" in page.read_text()


def test_no_run_at_all_is_the_users_error(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable run to report on"):
        make_report([tmp_path / "nowhere"], tmp_path / "out")
    (make_run("a") / "samples.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"no run can be shown:\n.*samples\.npz"):
        make_report([tmp_path / "a"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
document.body.dataset.focusable = button("name").tabIndex;
</script>"""


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
    ]
    assert 'data-focusable="0"' in dom
