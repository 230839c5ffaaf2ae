"""Tables of records as lists of rows of text; the first row holds the column names."""

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from metaloop.metrics.interval import mean_interval
from metaloop.metrics.paired import paired_difference
from metaloop.records.runs import Run

Rows = list[list[str]]
Cases = Mapping[str, Mapping[str, Any]]
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str, make: Callable[[str], str]) -> str:
    """The page with its tables, between ``<!-- table: NAME -->`` and ``<!-- end -->``, made anew by their names."""
    return _BLOCK.sub(lambda block: f"{block[1]}{make(block[2])}\n{block[3]}", page)


def text_table(rows: Rows) -> str:
    """Format a table for the terminal, with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown_table(rows: Rows) -> str:
    """Format a table as Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def number(value: float) -> str:
    """Format a number with three significant digits, or with all digits before the decimal point if these are more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def span(interval: Mapping[str, float]) -> str:
    """Format a median with the lowest and the highest of the rounds."""
    return f"{number(interval['median'])} ({number(interval['low'])} to {number(interval['high'])})"


def megabytes(value: float) -> str:
    """Format bytes in megabytes."""
    return f"{value / 1e6:,.0f}"


def _ratio(result: Mapping[str, Any], name: str) -> str:
    if name == "metaloop" and "ratio" in result:
        return f"{span(result['ratio'])} x {result['fastest_peer']}"
    return ""


def speed_rows(cases: Cases) -> Rows:
    """Speed, share of the machine's peak and memory of every case and contestant."""
    memories = ["memory of a step, MB", "highest of the process, MB"]
    rows = [["case", "", "tasks/s", "against the fastest peer", "of the peak", *memories]]
    for letter, result in cases.items():
        for name, rate in result["rates"].items():
            memory, share = result["memory"][name], f"{result['share_of_peak'][name]:.0%}"
            step = megabytes(memory["step_peak"] - memory["baseline"])
            rows.append([letter, name, span(rate), _ratio(result, name), share, step, megabytes(memory["whole_peak"])])
    return rows


def rate_rows(cases: Cases, unit: str) -> Rows:
    """Rates of every case and contestant."""
    rows = [["case", "", unit, "against the fastest peer"]]
    for letter, result in cases.items():
        rows += [[letter, name, span(rate), _ratio(result, name)] for name, rate in result["rates"].items()]
    return rows


def agreement_rows(cases: Cases) -> Rows:
    """Distance of every contestant's meta-gradient in float64 to the one of plain autograd."""
    names = list(next(iter(cases.values()))["float64"])
    return [["case", *names]] + [
        [letter, *(f"{result['float64'][name]:.1e}" for name in names)] for letter, result in cases.items()
    ]


def precision_rows(cases: Cases) -> Rows:
    """Median distance, and the worst, of every contestant's float32 meta-gradients to plain autograd in float64."""
    names = list(next(iter(cases.values()))["float32"])
    ratios = ["metaloop's median over autograd's", "median of the ratios, pair by pair"]
    rows = [["case", "tasks run by", "seeds", *names, *ratios]]
    for letter, result in cases.items():
        cells = [f"{result['float32'][name]['median']:.1e} ({result['float32'][name]['worst']:.1e})" for name in names]
        ours, plain = (result["float32"][name]["values"] for name in ("metaloop", "plain autograd"))
        paired = median(a / b for a, b in zip(ours, plain, strict=True) if b)
        rows.append([letter, result["chosen"], str(len(ours)), *cells, f"{result['ratio']:.2f}", f"{paired:.2f}"])
    return rows


def setting_rows(cases: Cases) -> Rows:
    """Settings of the cases, and how metaloop ran their tasks."""
    rows = [["case", "network and episode", "inner steps", "meta-batch", "operations of a task, GFLOP", "tasks run by"]]
    for letter, result in cases.items():
        case, count = result["setting"], f"{result['operations_per_task'] / 1e9:.3g}"
        how = result["about"]["metaloop"].get("gradient", "")
        rows.append([letter, case["title"], str(case["steps"]), str(case["meta_batch"]), count, how])
    return rows


def profile_rows(cases: Cases) -> Rows:
    """Shares of an outer step's time by kind of operation, for the profiled cases."""
    profiled = {letter: result["profile"] for letter, result in cases.items() if result.get("profile")}
    kinds: Sequence[str] = list(next(iter(profiled.values()), {}))
    return [["case", *kinds]] + [[letter, *(f"{shares[kind]:.0%}" for kind in kinds)] for letter, shares in profiled.items()]


def share_rows(sampling: Cases, speed: Cases, meta_batch: int) -> Rows:
    """Time to draw a meta-batch relative to an outer step, for cases in which both were measured."""
    rows = [["case", "drawing a meta-batch, ms", "outer step, ms", "share"]]
    for letter in sampling.keys() & speed.keys():
        drawing = meta_batch / sampling[letter]["rates"]["metaloop"]["median"]
        step = meta_batch / speed[letter]["rates"]["metaloop"]["median"]
        rows.append([letter, number(1e3 * drawing), number(1e3 * step), f"{drawing / step:.2%}"])
    return [rows[0], *sorted(rows[1:])]


def memory_rows(points: Mapping[str, Mapping[str, Mapping[str, float]]], key: str) -> Rows:
    """Megabytes (of ``net`` or ``peak``) by method and inner steps; a dash if a method was not measured there."""
    steps = sorted({int(step) for result in points.values() for step in result})
    rows = [["inner steps", *map(str, steps)]]
    for method, result in points.items():
        rows.append([method, *(megabytes(result[str(step)][key]) if str(step) in result else "–" for step in steps)])
    return rows


def seconds_rows(points: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Rows:
    """Seconds of one task's meta-gradient by method and inner steps."""
    steps = sorted({int(step) for result in points.values() for step in result})
    rows = [["inner steps", *map(str, steps)]]
    for method, result in points.items():
        rows.append([method, *(number(result[str(step)]["seconds"]) if str(step) in result else "–" for step in steps)])
    return rows


def kernel_rows(cases: Cases) -> Rows:
    """Speed, memory and precision with and without metaloop's C++ kernels."""
    rows = [["case", "", "processor ms a task", "speed-up", "memory, MB", "distance to float64"]]
    for letter, result in cases.items():
        for name in result["distance"]:
            far = result["distance"][name]
            row = [letter, name, "", "", "", f"{far['median']:.1e} ({far['low']:.1e} to {far['high']:.1e})"]
            if name in result["seconds"]:
                row[2] = span({key: 1000 * value for key, value in result["seconds"][name].items()})
                row[4] = megabytes(result["memory"][name])
            rows.append(row)
        rows[-len(result["distance"])][3] = span(result["speed_up"])
    return rows


def scaling_rows(ranks: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Tasks per second of one rank and of two."""
    return [["ranks", "tasks/s"]] + [[count, span(result["rate"])] for count, result in ranks.items()]


def launching_rows(result: Mapping[str, Any]) -> Rows:
    """Launchers of many short runs against the ideal."""
    rows = [["launcher", "seconds", "times the ideal", "processor seconds", "times the runs' own"]]
    rows.append(["ideal", span(result["ideal_seconds"]), "1", "", "1"])
    for name, one in result["launchers"].items():
        rows.append([name, *(span(one[key]) for key in ("seconds", "ratio", "processor", "processor_ratio"))])
    return rows


def seed_rows(ways: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Sweeps over seeds against one run, which is the first way."""
    rows = [["", "seconds", "times one run", "processor seconds", "times one run"]]
    one = next(iter(ways.values()))
    for name, way in ways.items():
        cells = [(number(way[key]), number(way[key] / one[key])) for key in ("seconds", "processor")]
        rows.append([name, *(cell for pair in cells for cell in pair)])
    return rows


def reporting_rows(result: Mapping[str, Any]) -> Rows:
    """A report over many records, and its page in a browser."""
    rows = [["", "median (lowest to highest)"]]
    report = result["report"]
    rows += [["report, seconds", span(report["seconds"])], ["report, processor seconds", span(report["processor"])]]
    rows.append(["report, largest memory at most, MB", span({key: value / 1e6 for key, value in report["memory"].items()})])
    rows.append(["page, MB", number(result["page"]["bytes"] / 1e6)])
    for name, label in (("load", "loaded by Chromium"), ("filter", "a filter"), ("sort", "a sort")):
        if name in result["page"]:
            rows.append([f"page, {label}, ms", span(result["page"][name])])
    return rows


def image_rows(augmentations: Mapping[str, Cases]) -> Rows:
    """Images per second, drawn into warm episodes."""
    rows = [["training images are changed by", "episodes of", "images/s (slowest to fastest round)"]]
    for name, by_ways in augmentations.items():
        for ways, result in by_ways.items():
            rounds = {"median": result["images_per_second"], "low": result["worst_round"], "high": result["best_round"]}
            rows.append([name, ways, span(rounds)])
    return rows


def optimizer_rows(optimizers: Mapping[str, Any]) -> Rows:
    """Losses at the end and over all steps, and their excess over the learned optimizer's."""
    against = ["more than learned, at the end", "learned is better on"]
    rows = [["", "setting", "loss at the end", "median", "mean over steps", *against]]
    for name, one in optimizers.items():
        settings = ", ".join(f"{key} {value:.3g}" for key, value in (one["settings"] or {}).items())
        final, over, excess = (_plus_minus(one[key]) for key in ("final", "mean_over_steps", "excess_final"))
        rest = ["", ""] if name == "learned" else [excess, f"{one['problems_where_learned_is_better']:.0%}"]
        rows.append([name, settings, final, f"{one['median_final']:.2g}", over, *rest])
    return rows


def _plus_minus(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:.3g} ± {interval['half_width']:.2g}"


def noisy_rows(pairs: Sequence[tuple[int, Run, Run]]) -> Rows:
    """Scores of learned weights and of the plain mean by seed, with the paired difference in per cent."""
    rows = [["seed", "learned weights", "mean", "difference, paired"]]
    for seed, learned, mean in pairs:
        difference = paired_difference(learned.episodes, mean.episodes).interval
        scores = [run.metric.interval(run.test.mean, run.test.half_width) for run in (learned, mean)]
        rows.append([str(seed), *scores, f"{100 * difference.mean:+.2f} ± {100 * (difference.half_width or 0):.2f}"])
    differences = [learned.test.mean - mean.test.mean for _, learned, mean in pairs]
    if len(differences) > 1:
        over = mean_interval(differences)
        rows.append(["all", "", "", f"{100 * over.mean:+.2f} ± {100 * (over.half_width or 0):.2f} over seeds"])
    return rows
