"""Time and memory of `metaloop report` over 500 records, and the time until a browser shows the page.

    python benchmarks/reporting.py

Trains one short run on the embedded letters and copies it to 500 records (five algorithms, five numbers of steps, four rates,
five seeds, 600 episodes each), which `metaloop report` reads in fresh processes. Headless Chromium then opens the page; the
browser's own clock measures the time to its load event, of a filter and of a sort. Memory is an upper bound, as the system
includes the memory of the parent process. Writes benchmarks/records/reporting.json.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.driver import RECORDS, interval
from harness.machine import about
from harness.many_records import spread_out
from harness.tables import reporting_rows, text_table

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TRAINING = ("trainer.max_steps=4", "validation.every=4", "validation.episodes=10", "outer.meta_batch=2")
# Script at the end of the page: measures when the browser has loaded it, and how long a filter and a sort take.
_CLOCK = """<script>
addEventListener("load", () => setTimeout(() => {
  const load = performance.getEntriesByType("navigation")[0].loadEventEnd;
  let start = performance.now();
  const search = document.querySelector(".filter input");
  search.value = "anil"; search.dispatchEvent(new Event("input")); document.body.offsetHeight;
  const filter = performance.now() - start;
  start = performance.now();
  document.querySelector("#results-table th.number button").click(); document.body.offsetHeight;
  document.body.dataset.clock = JSON.stringify({ load, filter, sort: performance.now() - start });
}, 0));
</script></body>"""


def report(folder: Path, output: Path) -> dict[str, float]:
    """Measure seconds, processor seconds and largest resident memory (bytes) of one `metaloop report` in its own process."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "metaloop", "report", str(folder), "--output", str(output)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for behind its back
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    processor = used.ru_utime + used.ru_stime
    return {"seconds": time.perf_counter() - start, "processor": processor, "memory": used.ru_maxrss * unit}


def opened(page: Path, folder: Path) -> dict[str, float] | None:
    """Measure milliseconds until the browser has loaded the page, and of a filter and a sort; None without a browser."""
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        return None
    copy = folder / "timed.html"
    copy.write_text(page.read_text().replace("</body>", _CLOCK))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    words = [
        browser,
        *flags,
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        copy.as_uri(),
    ]
    output = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r'data-clock="([^"]*)"', output)
    if not match:
        raise SystemExit("the browser did not report when it had loaded the page")
    return {name: float(value) for name, value in json.loads(match[1].replace("&quot;", '"')).items()}


def main(words: list[str] | None = None) -> None:
    """Measure, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    parser.add_argument("--count", type=int, default=500, help="records to report on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="30 records, one round; its timings mean nothing")
    arguments = parser.parse_args(words)
    count, rounds = (30, 1) if arguments.quick else (arguments.count, arguments.rounds)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = [sys.executable, "-m", "metaloop", "train", *TRAINING, f"hydra.run.dir={folder / 'run'}"]
        subprocess.run(train, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        spread_out(folder / "run", folder / "runs", count)
        took = [report(folder / "runs", folder / "out") for _ in range(rounds)]
        page = folder / "out" / "index.html"
        shown = [times for times in (opened(page, folder) for _ in range(rounds)) if times]
        size = page.stat().st_size
    result = {
        "report": {key: interval([each[key] for each in took]) for key in took[0]},
        "page": {"bytes": size, **({key: interval([each[key] for each in shown]) for key in shown[0]} if shown else {})},
    }
    print(text_table(reporting_rows(result)))
    from metaloop.records.writing import write_json

    arguments.records.mkdir(exist_ok=True)
    head = {"benchmark": "reporting", "quick": arguments.quick, "seed": 0, "count": count, "rounds": rounds}
    write_json(arguments.records / "reporting.json", {**head, **result, **about(load_before)})


if __name__ == "__main__":
    main()
