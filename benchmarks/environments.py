"""Environment steps a second with random actions, beside gymnasium's vector environments; writes a table of docs/control.md.

    python benchmarks/environments.py

Every contestant first chooses the number of environments with which it is fastest; then they take turns, long enough that the
noise of our starts, which is drawn in blocks of 64 episodes, is drawn in each turn. Seconds are of the processor, and for
AsyncVectorEnv, which has processes, of the clock. Physics are those of gymnasium's environments. Writes
benchmarks/records/environments.json. ``--kept`` takes the record of an earlier call.
"""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from harness.playing import PAGE, RECORDS, fill, parser, record_of
from harness.stepping import FAMILIES, Gymnasium, Ours, Stepping

RECORD = RECORDS / "environments.json"
BAR = 20.0
OURS = ("metaloop", "metaloop, compiled")
SIZES: Mapping[str, Sequence[int]] = {
    "metaloop": (1024, 4096, 16384),
    "metaloop, compiled": (1024, 4096, 16384),
    "SyncVectorEnv": (1, 16, 256),
    "AsyncVectorEnv": (2, 8, 32),
    "its own vectorized form": (1024, 4096, 16384),
}


def contestants(name: str) -> dict[str, Callable[[int], Stepping]]:
    """Makers of a family's contestants, from the number of environments."""
    makers: dict[str, Callable[[int], Stepping]] = {
        "metaloop": lambda count: Ours(name, count, compiled=False),
        "metaloop, compiled": lambda count: Ours(name, count, compiled=True),
        "SyncVectorEnv": lambda count: Gymnasium(name, count, "sync"),
        "AsyncVectorEnv": lambda count: Gymnasium(name, count, "async"),
    }
    if name == "cart_pole":  # the only one of the two that has one
        makers["its own vectorized form"] = lambda count: Gymnasium(name, count, "own")
    return makers


def fastest(make: Callable[[int], Stepping], sizes: Sequence[int], seconds: float) -> tuple[int, dict[str, float]]:
    """Number of environments with the most steps a second, and the steps a second with each."""
    rates = {}
    for size in sizes:
        stepping = make(size)
        stepping.rate(seconds / 2)
        rates[str(size)] = stepping.rate(seconds)
        stepping.close()
    return int(max(rates, key=lambda size: rates[size])), rates


def measure(name: str, rounds: int, seconds: float, sizes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Measure the contestants of a family: rates by size, then rounds in which they take turns at their best size."""
    makers = contestants(name)
    best = {way: fastest(make, sizes[way], seconds / 3) for way, make in makers.items()}
    running = {way: make(best[way][0]) for way, make in makers.items()}
    for stepping in running.values():
        stepping.rate(seconds / 2)
    rates: dict[str, list[float]] = {way: [] for way in running}
    for _ in range(rounds):
        for way, stepping in running.items():
            rates[way].append(stepping.rate(seconds))
    for stepping in running.values():
        stepping.close()
    peers = [way for way in running if way not in OURS]
    against = max(peers, key=lambda way: statistics.median(rates[way]))
    return {
        way: {
            "environments": best[way][0],
            "by_size": best[way][1],
            "rate": _span(rates[way]),
            "fastest_peer": against,
            "ratio": _span([mine / other for mine, other in zip(rates[way], rates[against], strict=True)]),
        }
        for way in running
    }


def _span(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def table(record: Mapping[str, Any]) -> list[str]:
    """Rows of the page's table, and what they say of the bar."""
    lines = ["| environment | contestant | at once | steps a second | times gymnasium's fastest |", "|---|---|---|---|---|"]
    for name, ways in record["families"].items():
        for way, each in ways.items():
            rate, ratio = each["rate"], each["ratio"]
            span = f"{ratio['median']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"
            times = "1" if way == each["fastest_peer"] else span
            lines.append(f"| `{name}` | {way} | {each['environments']} | {rate['median'] / 1e6:.3g} million | {times} |")
    lines += ["", f"{_verdict(record)} Medians (lowest to highest) of {record['rounds']} rounds, {record['threads']} thread."]
    return lines


def _verdict(record: Mapping[str, Any]) -> str:
    said = []
    for name, ways in record["families"].items():
        ratio = max(ways[way]["ratio"]["median"] for way in OURS)
        said.append(f"{'held' if ratio >= BAR else 'missed'} by `{name}` ({ratio:.3g} times)")
    return f"The bar of {BAR:.0f} times is {' and '.join(said)}."


def measured(rounds: int, seconds: float) -> dict[str, Any]:
    """The record: the contestants of all families."""
    import gymnasium

    torch.set_num_threads(1)  # gymnasium's vectorized forms have one thread, too
    families = {name: measure(name, rounds, seconds, SIZES) for name in FAMILIES}
    head = {"rounds": rounds, "seconds": seconds, "threads": torch.get_num_threads()}
    return {**head, "gymnasium": gymnasium.__version__, "families": families}


def main(words: list[str] | None = None) -> int:
    """Measure, and write record and page."""
    asked = parser(__doc__)
    asked.add_argument("--kept", action="store_true", help="take the record of an earlier call")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--seconds", type=float, default=1.5, help="of each contestant in each round")
    options = asked.parse_args(words)
    record = record_of(RECORD, None if options.kept else lambda: measured(options.rounds, options.seconds))
    fill(PAGE, {"environments": table(record)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
