"""Peak memory and time of one task's second-order meta-gradient against the number of inner steps: unrolled and reverse sweep.

    python benchmarks/memory.py                # Conv-4-32, 84x84x3, 5-way 1-shot, 15 queries a class
    python benchmarks/memory.py --steps 1 5 --side 28

Every point runs in a process of its own, so that its peak is its own. Writes benchmarks/records/memory.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

RECORD = Path(__file__).parent / "records" / "memory.json"


def measure(method: str, steps: int, side: int) -> dict[str, float]:
    """Bytes above the level before the step, bytes in all, and the best of three times in seconds."""
    import torch

    from metaloop.inner.adapted import All
    from metaloop.inner.head_init import Learned
    from metaloop.inner.meta_gradient import Unrolled
    from metaloop.inner.objective import LastStep
    from metaloop.inner.over_tasks import Loop
    from metaloop.inner.reverse_sweep import ReverseSweep
    from metaloop.inner.rules import GradientDescent
    from metaloop.learners.gradient import GradientLearner
    from metaloop.learners.task_loss import CrossEntropy
    from metaloop.models.conv4 import Conv4
    from metaloop.types import Examples, Tasks

    torch.manual_seed(0)
    model = Conv4((3, side, side), 5, filters=32, downsample="pool")
    meta_gradient = {"unrolled": Unrolled, "reverse_sweep": ReverseSweep}[method]()
    rule = partial(GradientDescent, lr=0.01)
    learner = GradientLearner(model, CrossEntropy(), All(), rule, meta_gradient, LastStep(), Learned(), Loop(), steps)

    def examples(count: int) -> Examples:
        labels = torch.arange(5).repeat_interleave(count)[None]
        return Examples(torch.rand(1, 5 * count, 3, side, side), labels, ways=5)

    tasks = Tasks(examples(1), examples(15), torch.zeros(1, dtype=torch.int64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = []
    for _ in range(3):
        start = time.perf_counter()
        learner.meta_loss(tasks).loss.backward()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    norm = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]).norm().item()
    return {"net_bytes": peak - before, "peak_bytes": peak, "seconds": min(times), "gradient_norm": norm}


def main() -> None:
    """Measure, print the table and the two ratios, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 5, 10, 50, 100])
    parser.add_argument("--side", type=int, default=84)
    parser.add_argument("--unrolled-up-to", type=int, default=10, help="more steps need gigabytes")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(arguments.point[0], int(arguments.point[1]), arguments.side)))
        return
    points = {}
    print(f"{'method':<14} {'steps':>5} {'net MB':>8} {'peak MB':>8} {'seconds':>8}")
    for method in ("unrolled", "reverse_sweep"):
        for steps in arguments.steps:
            if method == "unrolled" and steps > arguments.unrolled_up_to:
                continue
            command = [sys.executable, __file__, "--side", str(arguments.side), "--point", method, str(steps)]
            point = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            points[f"{method} {steps}"] = point
            net, peak = point["net_bytes"] / 1e6, point["peak_bytes"] / 1e6
            print(f"{method:<14} {steps:>5} {net:>8.0f} {peak:>8.0f} {point['seconds']:>8.2f}", flush=True)
    _write(points, arguments.side, max(arguments.steps))


def _write(points: dict[str, dict[str, float]], side: int, most: int) -> None:
    from metaloop.outer.record import git_state, hardware, versions, write_record

    most_steps, one_step = points[f"reverse_sweep {most}"], points["unrolled 1"]
    ratios = {"net_memory_of_most_steps_against_one_unrolled": most_steps["net_bytes"] / one_step["net_bytes"]}
    if "unrolled 5" in points and "reverse_sweep 5" in points:
        ratios["time_at_5_steps_against_unrolled"] = points["reverse_sweep 5"]["seconds"] / points["unrolled 5"]["seconds"]
    for name, ratio in ratios.items():
        print(f"{name.replace('_', ' ')}: {ratio:.2f}")
    RECORD.parent.mkdir(exist_ok=True)
    about = {"hardware": hardware(1), "versions": versions(), "git": git_state()}
    write_record(RECORD, {"points": points, "ratios": ratios, "side": side, **about})


if __name__ == "__main__":
    main()
