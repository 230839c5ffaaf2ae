"""What drawing episodes costs next to an outer step: MAML on Omniglot-like images (Conv-4-64, stride 2, 32 tasks).

    python benchmarks/sampling.py

Both are timed in one run on made-up pixels of Omniglot's size. Writes benchmarks/records/sampling.json.
"""

import time
from functools import partial
from pathlib import Path

import torch

from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.inner.adapted import All
from metaloop.inner.auto import Auto
from metaloop.inner.head_init import Learned
from metaloop.inner.meta_gradient import Unrolled
from metaloop.inner.objective import LastStep
from metaloop.inner.rules import GradientDescent
from metaloop.learners.gradient import GradientLearner
from metaloop.learners.task_loss import CrossEntropy
from metaloop.models.conv4 import Conv4
from metaloop.outer.allocator import tune
from metaloop.outer.record import git_state, hardware, versions, write_record
from metaloop.types import EpisodeSpec

BATCH, BATCHES = 32, 40
RECORD = Path(__file__).parent / "records" / "sampling.json"


def measure(spec: EpisodeSpec, pool: ClassPool) -> dict[str, float]:
    """Milliseconds to draw a meta-batch and to take an outer step on it."""
    episodes = Episodes(pool, spec, Stream(0, "train"))
    start = time.perf_counter()
    for drawn in episodes.batches(0, BATCH * BATCHES, BATCH, "cpu"):
        tasks = drawn
    sampling = (time.perf_counter() - start) / BATCHES
    model = Conv4(pool.input_shape, pool.outputs(spec), filters=64, downsample="stride")
    rule = partial(GradientDescent, lr=0.4)
    learner = GradientLearner(model, CrossEntropy(), All(), rule, Unrolled(), LastStep(), Learned(), Auto(1), 1)
    learner.meta_loss(tasks).loss.backward()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        learner.meta_loss(tasks).loss.backward()
        times.append(time.perf_counter() - start)
    step = sorted(times)[2]
    rate = BATCH / sampling
    return {"sampling_ms": sampling * 1e3, "step_ms": step * 1e3, "share": sampling / step, "episodes_per_second": rate}


def main() -> None:
    """Measure three sizes, print the table, write the record."""
    tune()
    images = torch.randint(0, 256, (1100 * 20, 1, 28, 28), dtype=torch.uint8)
    pool = ClassPool(images, [20] * 1100, [str(i) for i in range(1100)], rotations="augment", split="train")
    found = {}
    print(f"{'episode':<28} {'sampling ms':>11} {'step ms':>8} {'share':>7} {'episodes/s':>11}")
    for name, spec in {
        "5-way 1-shot, 1 query": EpisodeSpec(5, 1, 1),
        "5-way 1-shot, 15 queries": EpisodeSpec(5, 1, 15),
        "20-way 1-shot, 15 queries": EpisodeSpec(20, 1, 15),
    }.items():
        row = found[name] = measure(spec, pool)
        times = f"{row['sampling_ms']:>11.2f} {row['step_ms']:>8.1f} {row['share']:>7.2%}"
        print(f"{name:<28} {times} {row['episodes_per_second']:>11.0f}")
    RECORD.parent.mkdir(exist_ok=True)
    about = {"hardware": hardware(1), "versions": versions(), "git": git_state()}
    write_record(RECORD, {"meta_batch": BATCH, "rows": found, **about})


if __name__ == "__main__":
    main()
