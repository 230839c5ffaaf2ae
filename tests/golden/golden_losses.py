"""Losses of twenty outer steps of each preset in conf/algorithm, on made-up images, meta-features or rows of a table.

They stand in one JSON file a preset and hold still what no oracle says: the presets' defaults, initialisation, the stream
of episodes.
After a change that is meant to move them, write them anew and explain the change in CHANGELOG.md:

    PYTHONPATH=tests python tests/golden/golden_losses.py [PRESETS]
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from made_rule import write_rule
from made_scenario import write_scenario
from metaloop.config.build import build_learner
from metaloop.config.composition import DEFAULTS
from metaloop.control.environments.bandits import BernoulliBandits
from metaloop.control.environments.navigation import PointNavigation
from metaloop.data.distribution import TaskDistribution
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.data.scenarios.selection import ASlib, SelectionTasks
from metaloop.data.tables.anomalies.anomaly_prior import AnomalyPrior
from metaloop.data.tables.anomalies.layout import Supervision
from metaloop.problems.anomaly_scoring import AnomalyScoring
from metaloop.types import EpisodeSpec

LOSSES = Path(__file__).parent / "losses"
CONF = Path(__file__).parents[2] / "conf"
PRESETS = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
STEPS, META_BATCH = 20, 2
DETECTORS = ("anomaly_transformer", "background_prototypes", "deep_sad")  # of synthetic rows
SELECTORS = ("meta_tree", "meta_forest", "nearest_datasets", "dataset_embedding")  # they read no images
ADAPTING = ("maml_control", "promp")  # policies that adapt
ACTING = (
    "agent",
    "algorithm_distillation",
    "decision_pretrained",
    "disco103",
    "lpg",
    "pearl",
    "rl2",
    "varibad",
    *ADAPTING,
)  # they act in environments
# What a preset needs to run on small images, or to run in a second.
WITH = {
    "cavia": ("algorithm/adapted=context_film",),
    "anomaly_transformer": ("model=cells", "algorithm.reader.width=8"),
    "background_prototypes": ("model=mlp",),
    "deep_sad": ("model=sphere", "algorithm/over_tasks=loop"),
    "dn4": ("model.halvings=2",),
    "estimator": ("algorithm/estimator=logistic",),
    "es_maml": ("algorithm.meta_gradient.pairs=4",),
    "imaml": ("algorithm.steps=4",),
    "learned_optimizer": ("algorithm.steps=5", "algorithm.meta_gradient.length=3"),
    "meta_baseline": ("algorithm.regime.classification_steps=10",),
    "relation": ("model.halvings=2",),
    **dict.fromkeys((*SELECTORS, *ACTING), ("model=cells",)),
    **dict.fromkeys(ADAPTING, ("model=tanh_mlp", "model.hidden=[6]", "algorithm.episodes=3")),
    "lpg": ("model=cells", "algorithm.hidden=8", "algorithm.updates=4", "algorithm.window=2", "algorithm.streams=2"),
    "scratch": ("algorithm.steps=5",),
}
OVERRIDES = ("algorithm/over_tasks=loop", "model=conv4", "model.filters=4", "model.downsample=stride")


def pool() -> ClassPool:
    """Ten classes of eight noisy 8x8 images around a class mean each."""
    random = torch.Generator().manual_seed(0)
    means = torch.randint(0, 200, (10, 1, 1, 8, 8), generator=random)
    noise = torch.randint(0, 55, (10, 8, 1, 8, 8), generator=random)
    return ClassPool((means + noise).flatten(0, 1).to(torch.uint8), [8] * 10, [f"class {i}" for i in range(10)])


def scenario() -> SelectionTasks:
    """The tasks of a made-up scenario of algorithm selection."""
    with TemporaryDirectory() as folder:
        return ASlib(str(write_scenario(Path(folder)))).split("train")


def data_of(preset: str) -> tuple[TaskDistribution, EpisodeSpec]:
    """The tasks of a preset, and the size of an episode."""
    if preset in SELECTORS:
        return scenario(), EpisodeSpec(1, 1000, 1)
    if preset in DETECTORS:
        supervision = Supervision.of("train", [0, 3], 0.0, 0.3)
        return AnomalyPrior(AnomalyScoring(), 4, 3, 0.2, supervision), EpisodeSpec(1, (8, 12), 6)
    if preset in ACTING:
        continuous = preset == "pearl"
        return PointNavigation(4, "square", 0.2) if continuous else BernoulliBandits(arms=3), EpisodeSpec(1, 1, 6)
    more = {"unlabelled": 2, "distractors": 2} if preset.startswith("soft_kmeans") else {}
    return pool(), EpisodeSpec(ways=3, shots=2, queries=3, **more)


def losses(preset: str, steps: int = STEPS) -> list[float]:
    """The meta-loss at each of the first steps of outer SGD, in float64 so that machines agree."""
    with initialize_config_dir(str(CONF), **DEFAULTS), TemporaryDirectory() as folder:
        images = () if preset in SELECTORS + DETECTORS + ACTING else OVERRIDES
        composed = compose("train", [f"algorithm={preset}", *images, *WITH.get(preset, ())])
        if preset == "disco103":
            composed.algorithm.weights = write_rule(Path(folder))
        config = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("algorithm", "model")}
        data, spec = data_of(preset)
        learner = build_learner(config | {"seed": 0}, data, spec).double()
    sgd = torch.optim.SGD(learner.parameters(), lr=0.1)
    found = []
    episodes = Episodes(data, spec, Stream(0, "train")).batches(0, steps * META_BATCH, META_BATCH, "cpu")
    for learner.outer_step, tasks in enumerate(episodes):
        sgd.zero_grad()
        loss = learner.meta_loss(tasks.map(lambda t: t.double() if t.is_floating_point() else t)).loss
        loss.backward()
        sgd.step()
        found.append(loss.item())
    return found


if __name__ == "__main__":
    for each in sys.argv[1:] or PRESETS:
        (LOSSES / f"{each}.json").write_text(json.dumps([round(loss, 8) for loss in losses(each)], indent=0) + "\n")
