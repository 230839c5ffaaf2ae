"""Fill the tables of docs/performance.md and docs/learned_optimizers.md from records, so that no number is typed by hand.

    python benchmarks/pages.py

Text between ``<!-- table: NAME -->`` and ``<!-- end -->`` is generated; the rest of the page is written by hand.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import tables
from harness.cases import CASES
from harness.tables import markdown_table, number, span, with_tables

from metaloop.records.runs import Run, read_run

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
PERFORMANCE, LEARNED = DOCS / "performance.md", DOCS / "learned_optimizers.md"
Record = Mapping[str, Any]
Records = Mapping[str, Record]


def records(folder: Path) -> dict[str, Record]:
    """Read the records that exist and were measured in full size, by name (speed, memory, ...)."""
    contents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: record for name, record in contents.items() if "benchmark" in record and not record["quick"]}


def noisy_runs(folder: Path) -> dict[str, Record]:
    """Read the runs of experiment=noisy_labels_glyphs as one record."""
    runs = [read_run(path.parent) for path in sorted((folder / "noisy_labels_glyphs").glob("*/record.json"))]
    return {"noisy_labels": {"runs": runs}} if runs else {}


def fill(page: str, records: Records) -> str:
    """Fill every table of a page from the records.

    Raises:
        KeyError: the page names an unknown table.
    """
    return with_tables(page, lambda name: _table(name, records))


def _table(name: str, records: Records) -> str:
    needs, make = TABLES[name]
    missing = [record for record in needs if record not in records]
    if missing:
        commands = ", ".join(f"`{COMMANDS[record]}`" for record in missing)
        return f"\n{NOTHING.get(name, '')}Not measured yet: {commands}.\n"
    return f"\n{make(*(records[record] for record in needs))}\n"


def machine(record: Record) -> str:
    """Describe the machine, versions and commit of a record."""
    hardware, versions, git = record["hardware"], record["versions"], record["git"] or {"commit": "unknown", "dirty": False}
    commit = f"`{git['commit'][:10]}`" + (", with changes" if git["dirty"] else "")
    load = record["load_average"]["before"][0]
    gpu = f", {hardware['gpu']}" if hardware["gpu"] else ""
    where = f"{hardware['cpu'] or hardware['machine']}, {hardware['cores']} cores{gpu}"
    return f"{where}; torch {versions['torch']}; commit {commit}; load average before: {load:.2f}."


def speed(record: Record) -> str:
    """Main table, plot, and the machine of the measurement."""
    peaks = [result["matrix_product_peak"] for result in record["cases"].values()]
    peak = f"Matrix-product peak of the run: {number(min(peaks) / 1e9)} to {number(max(peaks) / 1e9)} GFLOP/s."
    note = f"Median of {record['rounds']} rounds (lowest to highest). {peak} {machine(record)} {_versions(record)}"
    picture = "![Tasks a second by case](../benchmarks/records/speed.png)"
    return "\n\n".join([markdown_table(tables.speed_rows(record["cases"])), picture, note])


def _versions(record: Record) -> str:
    about = next(iter(record["cases"].values()))["about"]
    peers = [f"{name} {result[name]} on torch {result['torch']}" for name, result in about.items() if name != "metaloop"]
    return f"Peers: {', '.join(peers)}." if peers else "The peers were not installed: metaloop alone."


def precision(record: Record) -> str:
    """Distances in float32, of all contestants, and whether the bar is held."""
    others = ", ".join(letter for letter in CASES if letter not in record["cases"])
    unmeasured = f" Not measured so far: case {others}." if others else ""
    missed = [letter for letter, result in record["cases"].items() if not result["ratio"] <= record["bar"]]
    verdict = f"missed by case {', '.join(missed)}" if missed else "held by every measured case"
    note = (
        f"Medians (worst) over weights and meta-batches of {record['tasks']} tasks, one for each seed. The bar, a median of at "
        f"most {record['bar']} times autograd's, is {verdict}.{unmeasured} {machine(record)}"
    )
    return markdown_table(tables.precision_rows(record["cases"])) + "\n\n" + note


def gpu(record: Record) -> str:
    """Case a on a GPU, with the time that the paper's 60,000 outer steps would take."""
    case = record["cases"]["a"]
    rate, batch = case["rates"]["metaloop"]["median"], case["setting"]["meta_batch"]
    hours = 60_000 * batch / rate / 3600
    return f"{speed(record)}\n\nAt this rate 60,000 outer steps of case a take {number(hours)} hours."


def rates(unit: str) -> Callable[[Record], str]:
    """Make a function that formats a table of rates."""

    def make(record: Record) -> str:
        note = f"Median of {record['rounds']} rounds (lowest to highest). {machine(record)}"
        return markdown_table(tables.rate_rows(record["cases"], unit)) + "\n\n" + note

    return make


def memory(record: Record) -> str:
    """Peaks beyond the imports and of the whole process, ratios of the peaks, and times."""
    net, whole = (markdown_table(tables.memory_rows(record["points"], key)) for key in ("net", "peak"))
    bar = record["ratios"]
    note = (
        f"{bar['steps']:.0f} second-order steps swept back take {bar['peak']:.2f} times the process memory of one unrolled "
        f"step and {bar['net']:.2f} times what is beyond the imports; against one swept step "
        f"{bar['net_against_one_swept']:.2f} times."
        if bar
        else "The bar was not measured."
    )
    seconds = markdown_table(tables.seconds_rows(record["points"]))
    titles = ("Peak beyond the imports, MB:", "Peak of the whole process, MB:", "Seconds of the meta-gradient:")
    body = "\n\n".join(f"{title}\n\n{table}" for title, table in zip(titles, (net, whole, seconds), strict=True))
    body += "\n\n![Peak memory against inner steps](../benchmarks/records/memory.png)"
    return f"{body}\n\n{note} Median of {record['repeats']} processes a point. {machine(record)}"


def kernels(record: Record) -> str:
    """Conv-4 with and without its C++ kernels."""
    note = (
        f"Medians (lowest to highest) of {record['rounds']} rounds in which the two take turns; distances of "
        f"{record['seeds']} weights and tasks; one thread. {machine(record)}"
    )
    return markdown_table(tables.kernel_rows(record["cases"])) + "\n\n" + note


def scaling(record: Record) -> str:
    """One rank against two."""
    note = f"Two ranks against one: {span(record['ratio'])}. Median of {record['rounds']} rounds. {machine(record)}"
    return markdown_table(tables.scaling_rows(record["ranks"])) + "\n\n" + note


def launching(record: Record) -> str:
    """Launchers of many short runs against the ideal."""
    run = record["run"]
    note = (
        f"{record['runs']} runs of {record['steps']} outer steps. Alone and warm, one takes {span(run['seconds'])} s, of which "
        f"{span(run['training'])} s are the outer loop; with one on each core, {span(record['run_beside'])} s. "
        f"Median of {record['rounds']} rounds. {machine(record)}"
    )
    return markdown_table(tables.launching_rows(record)) + "\n\n" + note


def seeds(record: Record) -> str:
    """Several seeds against one."""
    packs = dict.fromkeys(line.partition(":")[2].strip() for way in record["ways"].values() for line in way["packs"])
    loads = [way["load_after"] for way in record["ways"].values()]
    note = (
        f"`experiment={record['experiment']}`, {record['seeds']} seeds, one thread a process. Trials before the packs: "
        f"{'; '.join(packs)}. Load average after each command: {', '.join(f'{load:.1f}' for load in loads)}. {machine(record)}"
    )
    return markdown_table(tables.seed_rows(record["ways"])) + "\n\n" + note


def images(record: Record) -> str:
    """Warm episodes from CIFAR-100."""
    note = (
        f"Preparing the pool took {number(record['prepared_seconds'])} s, opening it again "
        f"{number(1e3 * record['opened_again_seconds'])} ms. {record['threads']} threads; median of {record['rounds']} rounds. "
        f"{machine(record)}"
    )
    return markdown_table(tables.image_rows(record["augmentations"])) + "\n\n" + note


def reporting(record: Record) -> str:
    """A report over many records."""
    note = f"{record['count']} records of 600 episodes. Median of {record['rounds']} rounds. {machine(record)}"
    return markdown_table(tables.reporting_rows(record)) + "\n\n" + note


def optimizers(record: Record) -> str:
    """Losses of the optimizers on unseen problems, and the number of steps after which the learned one's mean is lowest."""
    results = record["optimizers"]
    curves = {name: [point["mean"] for point in one["curve"]] for name, one in results.items()}
    steps = len(curves["learned"]) - 1
    lowest = sum(all(curves["learned"][k] <= curve[k] for curve in curves.values()) for k in range(1, steps + 1))
    learned, config = record["learned"], record["learned"]["config"]
    tests = config["evaluation"]["episodes"]
    note = (
        f"{tests} unseen problems, {steps} steps; 95 % intervals over problems, differences paired. The others were tuned on "
        f"{record.get('tuning', 16) * tests:,} problems of meta-validation. "  # older records had no choice
        f"The learned optimiser's mean loss is the lowest of all after {lowest} of {steps} steps. It was trained for "
        f"{learned['training']['steps']:,} outer steps of {config['outer']['meta_batch']} problems (seed {config['seed']}) in "
        f"{learned['training']['wall_seconds'] / 60:.0f} minutes."
    )
    hardware, git = record["hardware"], record["git"]
    where = f"{hardware['cpu']}, {hardware['threads']} of {hardware['cores']} cores; torch {record['versions']['torch']}"
    commit = f"commit `{git['commit'][:10]}`{', with changes' if git['dirty'] else ''}"
    return f"{note}\n\n{markdown_table(tables.optimizer_rows(results))}\n\n{where}; {commit}."


def noisy_labels(record: Record) -> str:
    """Learned weights of support examples against the plain mean, seed by seed."""
    runs: dict[str, dict[int, Run]] = {}
    for run in record["runs"]:
        loss = run.record.choices["algorithm/support_loss"]
        runs.setdefault(loss, {})[run.seed] = run
    pairs = [(seed, run, runs["mean"][seed]) for seed, run in sorted(runs["learned_weights"].items())]
    gits = [run.record.git for run in record["runs"]]
    commits = {git.commit[:10] + (" (with changes)" if git.dirty else "") for git in gits if git}
    cpu = record["runs"][0].record.hardware.cpu
    return f"{markdown_table(tables.noisy_rows(pairs))}\n\n{cpu}; commit {', '.join(sorted(commits))}."


NOTHING = {"gpu": "Nothing of the GPU path has been measured: neither speed nor memory nor agreement, on one GPU or several. "}
TABLES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "settings": (("speed",), lambda r: markdown_table(tables.setting_rows(r["cases"]))),
    "speed": (("speed",), speed),
    "agreement": (("agreement",), lambda r: markdown_table(tables.agreement_rows(r["cases"]))),
    "precision": (("agreement",), precision),
    "profile": (("speed",), lambda r: markdown_table(tables.profile_rows(r["cases"]))),
    "gpu": (("speed_cuda",), gpu),
    "evaluation": (("evaluation",), rates("episodes/s")),
    "sampling": (("sampling",), rates("episodes/s")),
    "share": (
        ("sampling", "speed"),
        lambda drawn, step: markdown_table(tables.share_rows(drawn["cases"], step["cases"], drawn["meta_batch"])),
    ),
    "memory": (("memory",), memory),
    "kernels": (("kernels",), kernels),
    "scaling": (("scaling",), scaling),
    "launching": (("launching",), launching),
    "seeds": (("seeds",), seeds),
    "images": (("images",), images),
    "reporting": (("reporting",), reporting),
    "quadratics": (("andrychowicz2016_quadratics",), optimizers),
    "quadratics_again": (("andrychowicz2016_quadratics_evaluation.seed_1",), optimizers),
    "digits": (("andrychowicz2016_digits",), optimizers),
    "noisy_labels": (("noisy_labels",), noisy_labels),
}
COMMANDS = {
    "speed": "python benchmarks/speed.py --peers VENV",
    "agreement": "python benchmarks/agreement.py --peers VENV",
    "speed_cuda": "python benchmarks/speed.py --device cuda --peers VENV",
    "evaluation": "python benchmarks/evaluation.py --peers VENV",
    "sampling": "python benchmarks/sampling.py --peers VENV",
    "memory": "python benchmarks/memory.py --peers VENV",
    "kernels": "OMP_NUM_THREADS=1 python benchmarks/kernels.py",
    "scaling": "python benchmarks/scaling.py",
    "launching": "python benchmarks/launching.py",
    "seeds": "OMP_NUM_THREADS=1 python benchmarks/seeds.py",
    "images": "python benchmarks/images.py --data DIR",
    "reporting": "python benchmarks/reporting.py",
    "andrychowicz2016_quadratics": "python benchmarks/optimizers.py",
    "andrychowicz2016_quadratics_evaluation.seed_1": "python benchmarks/optimizers.py --run DIR --change evaluation.seed=1",
    "andrychowicz2016_digits": "python benchmarks/optimizers.py --experiment andrychowicz2016_digits --tuning 4",
    "noisy_labels": "metaloop train -m experiment=noisy_labels_glyphs algorithm/support_loss=mean,learned_weights seed=0,1,2",
}


def main(words: list[str] | None = None) -> None:
    """Rewrite the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=HERE / "records")
    arguments = parser.parse_args(words)
    contents = records(arguments.records) | noisy_runs(DOCS / "records")
    for page in (PERFORMANCE, LEARNED):
        page.write_text(fill(page.read_text(), contents))


if __name__ == "__main__":
    main()
