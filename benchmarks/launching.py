"""Cost of launching many short runs: `metaloop train -m` against plain Hydra's basic and joblib launchers.

    python benchmarks/launching.py

A run is MAML on sinusoids. It has as many outer steps as take two seconds in a process that has everything imported, from the
composed config to the report (``run`` in the record; ``training`` is its outer loop). The ideal is these seconds times the
number of runs, divided by the cores. Every round measures them anew, and then each launcher in a fresh process from start to
end, including imports, composing and waiting. Processor seconds are those of all processes that a launcher starts; other work
on the machine disturbs them less. The runs of all launchers must have the same scores, up to rounding that depends on threads.
Writes benchmarks/records/launching.json.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.driver import HERE, RECORDS, interval
from harness.machine import about
from harness.tables import launching_rows, text_table
from harness.warm_runs import in_processes, length, steps_for

SECONDS, REPEATS = 2.0, 5
SAME = 1e-3  # largest relative distance of scores; Hydra's basic launcher gives a run all threads, which reorders sums
WORDS = {
    "algorithm": "maml", "algorithm/over_tasks": "loop", "dataset": "sinusoid", "model": "mlp", "episode": "regression",
    "outer.meta_batch": "4", "validation.episodes": "20", "evaluation.episodes": "100",
}  # fmt: skip
LAUNCHERS: Mapping[str, Sequence[str]] = {
    "metaloop": ("metaloop", "train", "-m"),
    "joblib": ("metaloop.cli.hydra_entry", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs={cores}"),
    "basic": ("metaloop.cli.hydra_entry", "-m"),
}


def command(launcher: str, runs: int, steps: int, cores: int, folder: Path) -> list[str]:
    """Command line with which a launcher does the runs in ``folder``."""
    settings = [f"{key}={value}" for key, value in {**WORDS, **length(steps), "seed": f"range({runs})"}.items()]
    module, *words = (word.format(cores=cores) for word in LAUNCHERS[launcher])
    return [sys.executable, "-m", module, *words, *settings, f"hydra.sweep.dir={folder}"]


def launch(launcher: str, runs: int, steps: int, cores: int) -> tuple[dict[str, float], dict[int, float]]:
    """Run a whole sweep; return its seconds and processor seconds, and the meta-test score of each seed.

    Raises:
        RuntimeError: the command failed, or a run is missing.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as parent:
        words = command(launcher, runs, steps, cores, Path(parent) / "sweep")
        timed = [sys.executable, str(HERE / "harness" / "timed.py"), *words]
        ended = subprocess.run(timed, capture_output=True, text=True, env=environment, cwd=parent, check=False)
        records = [json.loads(path.read_text()) for path in Path(parent).rglob("record.json")]
    scores = {record["seed"]: record["test"]["mean"] for record in records}
    if ended.returncode or len(scores) != runs:
        raise RuntimeError(f"{' '.join(words)}\nfinished {len(scores)} of {runs} runs\n{ended.stderr[-3000:]}")
    return json.loads(ended.stdout), scores


def one_round(runs: int, steps: int, cores: int, repeats: int) -> dict[str, Any]:
    """Measure the warm run, alone and with others on the other cores, and all launchers.

    Raises:
        SystemExit: the launchers' runs have different scores.
    """
    alone, beside = (in_processes(WORDS, [steps] * repeats, count) for count in (1, cores))
    result: dict[str, Any] = {"alone": alone, "beside": beside, "launchers": {}}
    expected: dict[int, float] = {}
    for name in LAUNCHERS:
        result["launchers"][name], scores = launch(name, runs, steps, cores)
        expected = expected or scores
        if not all(math.isclose(scores[seed], score, rel_tol=SAME) for seed, score in expected.items()):
            raise SystemExit(f"the runs of {name} have other scores than those of {next(iter(LAUNCHERS))}")
    return result


def summary(rounds: Sequence[Mapping[str, Any]], runs: int, cores: int) -> dict[str, Any]:
    """Summarize rounds by medians and ranges; ratios are to the ideal of the same round."""
    middle = [{key: interval([run[key] for run in each["alone"]])["median"] for key in each["alone"][0]} for each in rounds]
    ideals = [runs * each["seconds"] / cores for each in middle]
    launchers = {}
    for name in LAUNCHERS:
        took = [each["launchers"][name] for each in rounds]
        seconds, processor = [each["seconds"] for each in took], [each["processor"] for each in took]
        launchers[name] = {
            "seconds": interval(seconds),
            "processor": interval(processor),
            "ratio": interval([one / ideal for one, ideal in zip(seconds, ideals, strict=True)]),
            "processor_ratio": interval(
                [one / (runs * each["processor"]) for one, each in zip(processor, middle, strict=True)]
            ),
        }
    return {
        "run": {key: interval([each[key] for each in middle]) for key in middle[0]},
        "run_beside": interval([run["seconds"] for each in rounds for run in each["beside"]]),
        "ideal_seconds": interval(ideals),
        "launchers": launchers,
    }


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of two runs of a step; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    load_before, cores = os.getloadavg(), len(os.sched_getaffinity(0))
    runs, rounds, repeats = (2, 1, 1) if arguments.quick else (arguments.runs, arguments.rounds, REPEATS)
    steps = 1 if arguments.quick else steps_for(WORDS, SECONDS)
    measured = [one_round(runs, steps, cores, repeats) for _ in range(rounds)]
    result = summary(measured, runs, cores)
    print(text_table(launching_rows(result)))
    from metaloop.records.writing import write_json

    arguments.records.mkdir(exist_ok=True)
    head = {"benchmark": "launching", "quick": arguments.quick, "seed": 0, "runs": runs, "rounds": rounds, "cores": cores}
    more = {"words": WORDS, "steps": steps, **result, "measured": measured, **about(load_before)}
    write_json(arguments.records / "launching.json", {**head, **more})


if __name__ == "__main__":
    main()
