"""Numbers as people read them: percent for accuracies, four decimals for errors, a true minus sign."""

import math
from collections.abc import Sequence
from typing import Any

NONE = "–"


def metric_title(metric: str) -> str:
    """How a score is headed and labelled, with its unit."""
    return {"accuracy": "accuracy (%)", "entity_f1": "entity F1 (%)", "mse": "mean squared error"}[metric]


def metric_name(metric: str) -> str:
    """A score's short name in a column of its own."""
    return {"accuracy": "accuracy, %", "entity_f1": "entity F1, %", "mse": "MSE"}[metric]


def score(mean: float, half_width: float | None, metric: str) -> str:
    """A score with its interval: ``97.31 ± 0.42`` (percent) for accuracies, ``0.5731 ± 0.0410`` for errors."""
    text = number(mean, metric)
    if half_width is None:
        return text
    same = "e" if "e" in text else "f"  # an interval is written in the notation of its mean
    return f"{text} ± {100 * half_width:.2f}" if metric != "mse" else f"{text} ± {_error(half_width, same)}"


def number(value: float | None, metric: str) -> str:
    """A score or a spread without sign."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "diverged"
    return f"{100 * value:.2f}" if metric != "mse" else _error(value, "f" if value == 0 or value >= 1e-3 else "e")


def _error(value: float, notation: str) -> str:
    return f"{value:.4f}" if notation == "f" else f"{value:.2e}"


def difference(value: float | None, metric: str) -> str:
    """A signed difference of two scores, in percentage points or the metric's unit."""
    if value is None or not math.isfinite(value):
        return number(value, metric)
    text = number(abs(value), metric)
    return f"{'+' if value > 0 else '−'}{text}" if float(text) else text


def p_value(value: float | None) -> str:
    """A p-value with as many digits as it is worth."""
    if value is None:
        return NONE
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def either(counts: Sequence[int]) -> str:
    """``600``, or ``100 to 600`` where they differ."""
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def span(value: Any, dash: str = "–") -> str:
    """``5``, or ``5–20`` for a range drawn per episode."""
    return f"{value[0]}{dash}{value[1]}" if isinstance(value, list | tuple) else str(value)


def setting(kind: str, ways: Any, shots: Any) -> str:
    """``5-way 1-shot``; regression has no ways."""
    return f"{span(ways)}-way {span(shots)}-shot" if kind == "classification" else f"{span(shots)}-shot"


def memory(count: float | None) -> str:
    """Bytes as MiB or GiB."""
    if count is None:
        return NONE
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def rate(value: float | None) -> str:
    """Tasks per second, three digits."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
