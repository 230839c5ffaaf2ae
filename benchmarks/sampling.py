"""Drawing of episodes from random pixels of Omniglot's size: episodes per second, beside learn2learn and an episode sampler.

    python benchmarks/sampling.py --peers VENV       # VENV as for speed.py; without it, learn2learn is left out

The sampler draws classes and images with ``random.sample`` and collates them in a DataLoader, as easy-few-shot-learning does.
The episodes of every contestant are checked first. Writes benchmarks/records/sampling.json.
"""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.cases import CASES, Case, save
from harness.driver import RECORDS, Process, compare, interleaved
from harness.machine import about
from harness.samplers import CLASSES, EACH, META_BATCH
from harness.tables import rate_rows, text_table

LETTERS = "abf"


def measure(case: Case, rounds: int, seconds: float, peers: Path | None, folder: Path) -> dict[str, Any]:
    """Measure one size of episode."""
    path = folder / "case.pt"
    save(replace(case, width=1, meta_batch=1), path, 1, 0)  # the samplers read only the episode's size
    python = {"metaloop": sys.executable, "sampler": sys.executable}
    python |= {"learn2learn": str(peers / "bin" / "python")} if peers else {}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(Process("sampler", name, at, [str(path)])) for name, at in python.items()}
        for process in processes.values():
            process.ask("check")
        times = interleaved(processes, "meta_batches", rounds, seconds)
    return {"setting": asdict(case), **compare(times, META_BATCH)}


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="virtual environment with learn2learn")
    parser.add_argument("--cases", default=",".join(LETTERS), help="whose episodes: letters of speed.py's cases")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contestant in each round")
    parser.add_argument("--quick", action="store_true", help="one short round; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    load_before = os.getloadavg()
    rounds, seconds = (1, 0.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    results = {}
    for letter in arguments.cases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results[letter] = measure(CASES[letter], rounds, seconds, arguments.peers, Path(folder))
        print(text_table(rate_rows({letter: results[letter]}, "episodes/s")), flush=True)
    from metaloop.records.writing import write_json

    arguments.records.mkdir(exist_ok=True)
    head = {"benchmark": "sampling", "quick": arguments.quick, "seed": 0, "rounds": rounds, "meta_batch": META_BATCH}
    pool = {"classes": CLASSES, "images_a_class": EACH}
    write_json(arguments.records / "sampling.json", {**head, "pool": pool, "cases": results, **about(load_before)})


if __name__ == "__main__":
    main()
