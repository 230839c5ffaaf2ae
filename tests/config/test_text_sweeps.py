"""Every kind of run of the sweeps over texts takes two steps; the real data and encoder are replaced by small ones."""

from pathlib import Path

import pytest

from metaloop.sweeps.plan import read_plan
from small_runs import trained

SMALL = {
    "dataset": "words",
    "episode.ways": "3",
    "episode.shots": "1",
    "episode.queries": "2",
    "episode.train.queries": "2",
    "validation.every": "1",
    "validation.episodes": "2",
    "evaluation.episodes": "2",
    "evaluation.batch": "2",
    "trainer.max_steps": "2",
    "outer.meta_batch": "2",
}
SETTING = {"dataset": "clinc150", "episode": "5w1s"}
RUNS = {
    f"{name}-{run['algorithm']}-{run['model']}": run
    for name in ("text_few_shot", "text_within_domain")
    for run in read_plan(name).runs()
    if SETTING.items() <= run.items() and run.get("seed", "0") == "0"
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_takes_two_steps(name: str, tmp_path: Path) -> None:
    run = {key: value for key, value in RUNS[name].items() if key != "dataset.sampler"} | SMALL
    run |= {"model.size": "100"} if run["model"] == "tfidf" else {"model": "tiny_bert"}
    run |= {key: "8" for key in run if key == "model.projection"}
    run |= {key: "query" for key in run if key == "algorithm.adapted.at"}
    if run.get("algorithm/over_tasks") == "vmap":
        run["algorithm.over_tasks.compiled"] = "false"  # no compiler runs here
    record = trained(tmp_path, *(f"{key}={value}" for key, value in run.items()), small=("name=small", "log_every=1"))
    assert record["training"]["steps"] == (1 if run["algorithm"] == "nearest_centroid" else 2)
    assert record["test"]["episodes"] == 2


def test_the_sweeps_have_the_runs_of_their_tables() -> None:
    assert len(read_plan("text_few_shot").runs()) == 2 * 2 * 7
    assert len(read_plan("text_within_domain").runs()) == 3 * 3
    assert len(RUNS) == 7 + 3
