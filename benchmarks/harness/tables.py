"""Tables from records: lists of rows of words, the first of which are the columns' names."""

from collections.abc import Mapping, Sequence
from typing import Any

from metaloop.metrics.interval import mean_interval
from metaloop.metrics.paired import paired_difference
from metaloop.records.runs import Run

Rows = list[list[str]]
Cases = Mapping[str, Mapping[str, Any]]


def text_table(rows: Rows) -> str:
    """For the screen, columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown_table(rows: Rows) -> str:
    """For a page."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def number(value: float) -> str:
    """Three significant digits, or all before the decimal point where there are more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def span(interval: Mapping[str, float]) -> str:
    """A median with the lowest and the highest of the rounds."""
    return f"{number(interval['median'])} ({number(interval['low'])} to {number(interval['high'])})"


def megabytes(value: float) -> str:
    """Of bytes."""
    return f"{value / 1e6:,.0f}"


def _ratio(found: Mapping[str, Any], name: str) -> str:
    if name == "metaloop" and "ratio" in found:
        return f"{span(found['ratio'])} x {found['fastest_peer']}"
    return ""


def speed_rows(cases: Cases) -> Rows:
    """Speed, share of the machine and memory of every case and contestant."""
    memories = ["memory of a step, MB", "highest of the process, MB"]
    rows = [["case", "", "tasks/s", "against the fastest peer", "of the peak", *memories]]
    for letter, found in cases.items():
        for name, rate in found["rates"].items():
            memory, share = found["memory"][name], f"{found['share_of_peak'][name]:.0%}"
            step = megabytes(memory["step_peak"] - memory["baseline"])
            rows.append([letter, name, span(rate), _ratio(found, name), share, step, megabytes(memory["whole_peak"])])
    return rows


def rate_rows(cases: Cases, unit: str) -> Rows:
    """Speed alone."""
    rows = [["case", "", unit, "against the fastest peer"]]
    for letter, found in cases.items():
        rows += [[letter, name, span(rate), _ratio(found, name)] for name, rate in found["rates"].items()]
    return rows


def agreement_rows(cases: Cases) -> Rows:
    """How far every contestant's meta-gradient is from the one written out with autograd."""
    names = list(next(iter(cases.values()))["distance"]["float64"])
    rows = [["case", *(f"{name}, {dtype}" for dtype in ("float64", "float32") for name in names)]]
    for letter, found in cases.items():
        far = [found["distance"][dtype][name] for dtype in ("float64", "float32") for name in names]
        rows.append([letter, *(f"{value:.1e}" for value in far)])
    return rows


def setting_rows(cases: Cases) -> Rows:
    """What the cases are, and how metaloop ran their tasks."""
    rows = [["case", "network and episode", "inner steps", "meta-batch", "operations of a task, GFLOP", "tasks run by"]]
    for letter, found in cases.items():
        case, count = found["setting"], f"{found['operations_per_task'] / 1e9:.3g}"
        how = found["about"]["metaloop"].get("gradient", "")
        rows.append([letter, case["title"], str(case["steps"]), str(case["meta_batch"]), count, how])
    return rows


def profile_rows(cases: Cases) -> Rows:
    """Where an outer step's time goes, of the cases that were profiled."""
    profiled = {letter: found["profile"] for letter, found in cases.items() if found.get("profile")}
    kinds: Sequence[str] = list(next(iter(profiled.values()), {}))
    return [["case", *kinds]] + [[letter, *(f"{shares[kind]:.0%}" for kind in kinds)] for letter, shares in profiled.items()]


def share_rows(sampling: Cases, speed: Cases, meta_batch: int) -> Rows:
    """What drawing a meta-batch takes beside an outer step, where both were measured."""
    rows = [["case", "drawing a meta-batch, ms", "outer step, ms", "share"]]
    for letter in sampling.keys() & speed.keys():
        drawing = meta_batch / sampling[letter]["rates"]["metaloop"]["median"]
        step = meta_batch / speed[letter]["rates"]["metaloop"]["median"]
        rows.append([letter, number(1e3 * drawing), number(1e3 * step), f"{drawing / step:.2%}"])
    return [rows[0], *sorted(rows[1:])]


def memory_rows(points: Mapping[str, Mapping[str, Mapping[str, float]]], key: str) -> Rows:
    """Megabytes (of ``net`` or ``peak``) by method and inner steps; a dash where a method was stopped or is not there."""
    steps = sorted({int(step) for found in points.values() for step in found})
    rows = [["inner steps", *map(str, steps)]]
    for method, found in points.items():
        rows.append([method, *(megabytes(found[str(step)][key]) if str(step) in found else "–" for step in steps)])
    return rows


def seconds_rows(points: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Rows:
    """Seconds of one task's meta-gradient by method and inner steps."""
    steps = sorted({int(step) for found in points.values() for step in found})
    rows = [["inner steps", *map(str, steps)]]
    for method, found in points.items():
        rows.append([method, *(number(found[str(step)]["seconds"]) if str(step) in found else "–" for step in steps)])
    return rows


def kernel_rows(cases: Cases) -> Rows:
    """Speed, memory and precision with metaloop's C++ kernels and without."""
    rows = [["case", "", "processor ms a task", "speed-up", "memory, MB", "distance to float64"]]
    for letter, found in cases.items():
        for name in found["distance"]:
            far = found["distance"][name]
            row = [letter, name, "", "", "", f"{far['median']:.1e} ({far['low']:.1e} to {far['high']:.1e})"]
            if name in found["seconds"]:
                row[2] = span({key: 1000 * value for key, value in found["seconds"][name].items()})
                row[4] = megabytes(found["memory"][name])
            rows.append(row)
        rows[-len(found["distance"])][3] = span(found["speed_up"])
    return rows


def scaling_rows(ranks: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Tasks a second of one rank and of two."""
    return [["ranks", "tasks/s"]] + [[count, span(found["rate"])] for count, found in ranks.items()]


def launching_rows(found: Mapping[str, Any]) -> Rows:
    """Launchers of many short runs against the ideal."""
    rows = [["launcher", "seconds", "times the ideal", "processor seconds", "times the runs' own"]]
    rows.append(["ideal", span(found["ideal_seconds"]), "1", "", "1"])
    for name, one in found["launchers"].items():
        rows.append([name, *(span(one[key]) for key in ("seconds", "ratio", "processor", "processor_ratio"))])
    return rows


def reporting_rows(found: Mapping[str, Any]) -> Rows:
    """A report over many records, and its page in a browser."""
    rows = [["", "median (lowest to highest)"]]
    told = found["report"]
    rows += [["report, seconds", span(told["seconds"])], ["report, processor seconds", span(told["processor"])]]
    rows.append(["report, largest memory at most, MB", span({key: value / 1e6 for key, value in told["memory"].items()})])
    rows.append(["page, MB", number(found["page"]["bytes"] / 1e6)])
    for name, said in (("load", "loaded by Chromium"), ("filter", "a filter"), ("sort", "a sort")):
        if name in found["page"]:
            rows.append([f"page, {said}, ms", span(found["page"][name])])
    return rows


def image_rows(augmentations: Mapping[str, Cases]) -> Rows:
    """Images drawn into warm episodes."""
    rows = [["training images are changed by", "episodes of", "images/s (slowest to fastest round)"]]
    for name, by_ways in augmentations.items():
        for ways, found in by_ways.items():
            rounds = {"median": found["images_per_second"], "low": found["worst_round"], "high": found["best_round"]}
            rows.append([name, ways, span(rounds)])
    return rows


def optimizer_rows(optimizers: Mapping[str, Any]) -> Rows:
    """Losses at the end and on the way, and what they exceed the learned optimiser's by."""
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
    """Learned weights and plain mean by seed, with the paired difference; in per cent."""
    rows = [["seed", "learned weights", "mean", "difference, paired"]]
    for seed, learned, mean in pairs:
        difference = paired_difference(learned.episodes, mean.episodes).interval
        own = [run.metric.interval(run.test.mean, run.test.half_width) for run in (learned, mean)]
        rows.append([str(seed), *own, f"{100 * difference.mean:+.2f} ± {100 * (difference.half_width or 0):.2f}"])
    differences = [learned.test.mean - mean.test.mean for _, learned, mean in pairs]
    if len(differences) > 1:
        over = mean_interval(differences)
        rows.append(["all", "", "", f"{100 * over.mean:+.2f} ± {100 * (over.half_width or 0):.2f} over seeds"])
    return rows
