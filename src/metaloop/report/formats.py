"""Numbers as people read them: percent for accuracies, three digits for errors, a true minus sign."""

import math
from typing import Any

NONE = "–"


def metric_title(metric: str) -> str:
    """How a score is headed and labelled, with its unit."""
    return {"accuracy": "accuracy (%)", "mse": "mean squared error"}[metric]


def score(mean: float, half_width: float | None, metric: str) -> str:
    """A score with its interval: ``97.31 ± 0.42`` (percent) for accuracies, ``0.573 ± 0.041`` for errors."""
    text = number(mean, metric)
    return text if half_width is None else f"{text} ± {number(half_width, metric)}"


def number(value: float | None, metric: str) -> str:
    """A score, a spread or a half-width without sign."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "diverged"
    if metric == "accuracy":
        return f"{100 * value:.2f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"


def difference(value: float | None, metric: str) -> str:
    """A signed difference of two scores, in percentage points or the metric's unit."""
    if value is None or not math.isfinite(value):
        return number(value, metric)
    text = number(abs(value), metric)
    zero = not float(text)
    return text if zero else f"{'+' if value > 0 else '−'}{text}"


def p_value(value: float | None) -> str:
    """A p-value with as many digits as it is worth."""
    if value is None:
        return NONE
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def span(value: Any) -> str:
    """``5``, or ``5–20`` for a range drawn per episode."""
    return f"{value[0]}–{value[1]}" if isinstance(value, list | tuple) else str(value)


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
