"""Put a finished run into the package, without what only its training needs.

    python benchmarks/ship_run.py outputs/pfn_tables/DATE pfn 4 0.9

Copies config, record and the best checkpoint's parameters to src/metaloop/shipped/NAME. Folders of data become relative, and
the config gets the number of members that predictions are averaged over, and the temperature of their logits if one is given.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from metaloop.config.identity import fingerprint
from metaloop.data.distribution import SPLITS
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.records.schema import IDENTITY, RECORD
from metaloop.records.writing import write_json
from metaloop.system.tensors import load_checkpoint, save_tensors

SHIPPED = Path(__file__).resolve().parents[1] / "src" / "metaloop" / "shipped"


def shipped_config(config: dict[str, Any], members: int, temperature: float | None) -> dict[str, Any]:
    """The config of the shipped run: data below the working folder, and ``members`` and ``temperature`` in its reader."""
    chosen = {"members": members} if temperature is None else {"members": members, "temperature": temperature}
    reader = {**config["algorithm"]["reader"], **chosen}
    dataset = {**config["dataset"], "data_dir": "data/tabular"}
    if dataset["_target_"].endswith(".Anomalies"):  # it reads all tables at once, and predictions need none of them
        dataset["tables"] = dict.fromkeys(SPLITS, ())
    return {**config, "start_from": None, "dataset": dataset, "algorithm": {**config["algorithm"], "reader": reader}}


def _without_folders(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command without those that name a folder of the machine."""
    return tuple(word for word in words if not word.startswith(("hydra.", "start_from=")))


def main(source: Path, name: str, members: int, temperature: float | None = None) -> None:
    """Write the folder of the shipped run anew."""
    run = FinishedRun.open(source)
    config = shipped_config(json.loads(json.dumps(dict(run.identity.config))), members, temperature)
    target = SHIPPED / name
    shutil.rmtree(target, ignore_errors=True)
    (target / "checkpoints").mkdir(parents=True)
    command, overrides = (_without_folders(words) for words in (run.identity.command, run.identity.overrides))
    words = {"command": command, "overrides": overrides}
    identity = replace(run.identity, config=config, folder=".", fingerprint=fingerprint(config), **words)
    write_json(target / IDENTITY, asdict(identity))
    record = json.loads((source / RECORD).read_text()) | {"config": config, **words}
    write_json(target / RECORD, record)
    saved = load_checkpoint(run.checkpoint)
    content = {"state_dict": saved["state_dict"], "metaloop": {**saved["metaloop"], "fingerprint": identity.fingerprint}}
    save_tensors(content, target / "checkpoints" / run.checkpoint.name)
    print(*(f"{path.relative_to(SHIPPED)}  {path.stat().st_size:,} bytes" for path in sorted(target.rglob("*.*"))), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *(float(word) for word in sys.argv[4:5]))
