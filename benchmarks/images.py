"""Warm episodes from CIFAR-100: gathered and augmented images per second, and the time to prepare the pool.

    python benchmarks/images.py --data DIR       # DIR holds cifar-100-python or its archive

Episodes are those of a run (5 and 20 ways, 1 shot, 15 queries, meta-batches of 4), drawn into float32 on the CPU or, with
--device cuda, on the GPU. Writes benchmarks/records/images.json.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from harness.driver import RECORDS
from harness.machine import about

AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "flip and crop": {"flip": True, "padding": 4},
    "flip, crop, colour and rotation": {
        "flip": True, "padding": 4, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "rotation": 15.0,
    },
}  # fmt: skip
WAYS = (5, 20)
META_BATCH = 4


def rate(dataset: Any, ways: int, device: str, rounds: int, seconds: float) -> dict[str, float]:
    """Measure images per second in every round, and per second of processor time."""
    from metaloop.data.episodes import Episodes
    from metaloop.data.philox import Stream
    from metaloop.types import EpisodeSpec

    episodes = Episodes(dataset.split("train").to(device), EpisodeSpec(ways, 1, 15), Stream(0, "train"))
    block, each, first = 64 * META_BATCH, ways * 16, 0
    walls, used = [], []
    for warm in range(rounds + 1):
        start, busy, images = time.perf_counter(), time.process_time(), 0
        while not images or time.perf_counter() - start < seconds:
            for tasks in episodes.batches(first, first + block, META_BATCH, device):
                images += len(tasks) * each
            if device != "cpu":
                torch.cuda.synchronize()
            first += block
        if warm:
            walls.append(images / (time.perf_counter() - start))
            used.append(images / (time.process_time() - busy))
    return {
        "images_per_second": statistics.median(walls),
        "best_round": max(walls),
        "worst_round": min(walls),
        "images_per_processor_second": statistics.median(used),
    }


def main(words: list[str] | None = None) -> None:
    """Measure, print the rates and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-100's official files")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    parser.add_argument("--quick", action="store_true", help="one short round; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    load_before = os.getloadavg()
    rounds, seconds = (1, 0.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    from metaloop.data.augmentation import Augmentation
    from metaloop.data.images.cifar100 import Cifar100
    from metaloop.records.writing import write_json

    rates: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        opening = []
        for _ in range(2):
            start = time.perf_counter()
            Cifar100(str(arguments.data), cache_dir=folder).split("train")
            opening.append(time.perf_counter() - start)
        for name, changes in AUGMENTATIONS.items():
            dataset = Cifar100(str(arguments.data), augmentation=Augmentation(**changes), cache_dir=folder)
            rates[name] = {f"{ways} ways": rate(dataset, ways, arguments.device, rounds, seconds) for ways in WAYS}
            for ways, figures in rates[name].items():
                print(f"{name}, {ways}: {figures['images_per_second']:,.0f} images/s", flush=True)
    print(f"prepared in {opening[0]:.2f} s, opened again in {opening[1]:.3f} s")
    head = {"benchmark": "images", "quick": arguments.quick, "rounds": rounds, "meta_batch": META_BATCH}
    head |= {"device": arguments.device, "threads": torch.get_num_threads()}
    seconds_of = {"prepared_seconds": opening[0], "opened_again_seconds": opening[1]}
    arguments.records.mkdir(exist_ok=True)
    write_json(arguments.records / "images.json", {**head, **seconds_of, "augmentations": rates, **about(load_before)})


if __name__ == "__main__":
    main()
