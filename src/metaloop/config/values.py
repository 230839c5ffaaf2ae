"""Values of a run's config that can be judged before anything is imported or written."""

import re
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.errors import UserError

LEAST = {  # whole numbers that every run has, by key
    "seed": 0,
    "log_every": 1,
    "workers": 0,
    "outer.meta_batch": 1,
    "trainer.max_steps": 1,
    "validation.every": 1,
    "validation.episodes": 2,
    "evaluation.episodes": 2,
    "evaluation.batch": 1,
    "evaluation.seed": 0,
}
_WHOLE = {
    "validation.patience": 1,
    "evaluation.ensemble": 1,
    "algorithm.steps": 1,
    "algorithm.eval_steps": 1,
    "model.filters": 1,
}  # where they are set
_ABOVE_ZERO = ("algorithm.rule.lr", "trainer.gradient_clip_val")
_NOT_NEGATIVE = ("outer.optimizer.lr", "outer.optimizer.weight_decay")
_CHOICES = {
    "trainer.accelerator": ("cpu", "gpu", "cuda", "mps", "auto"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16"),
    "trainer.gradient_clip_algorithm": ("norm", "value"),
    "trainer.profiler": ("simple", "advanced"),
}
_GROUPS = {"outer.schedule": "outer=adam_cosine has one", "outer.optimizer": "outer=sgd and outer=adam have one"}
_OURS = "metaloop."


def check_present(config: Mapping[str, Any]) -> None:
    """Raise a UserError if a number that every run has is missing from a config, whose values need not be resolved."""
    for key, least in LEAST.items():
        *sections, name = key.split(".")
        if name not in _section(config, sections):
            raise UserError(f"{key} is missing; set it to a whole number of at least {least}")


def check_values(config: MutableMapping[str, Any]) -> None:
    """Check numbers, names and paths. Digits in a text, as ``${oc.env:SEED}`` gives, become a number in place.

    The keys of a class outside of metaloop are its own matter.

    Raises:
        UserError: a value is missing, of another type, out of range or unknown, or a path does not exist.
    """
    check_present(config)
    for key, least in LEAST.items():
        _check_whole(config, key, least)
    for key, least in _WHOLE.items():
        if isinstance(_get(config, key), int | float | str) and _is_ours(config, key):  # of each layer: the class checks them
            _check_whole(config, key, least)
    for key in _ABOVE_ZERO:
        value = _get(config, key)
        if isinstance(value, int | float) and value <= 0 and _is_ours(config, key):
            raise UserError(f"{key}={value}: must be above 0")
    for key in _NOT_NEGATIVE:
        value = _get(config, key)
        if isinstance(value, int | float) and value < 0:
            raise UserError(f"{key}={value}: must not be negative")
    for key, names in _CHOICES.items():
        value = _get(config, key)
        if value is not None and str(value) not in names:
            raise UserError(f"{key}={value}: must be one of {', '.join(names)}")
    for key, hint in _GROUPS.items():
        value = _get(config, key)
        if value is not None and not isinstance(value, Mapping):
            raise UserError(f"{key}={value}: must be a section with a _target_; {hint}")
    if not str(config.get("name") or "").strip():
        raise UserError("name is empty; give the run a name, or leave name= out")
    _check_sizes(config)
    _check_paths(config["dataset"])
    start = config.get("start_from")
    if start is not None and not Path(str(start)).exists():
        raise UserError(f"start_from={start}: there is no such run directory or file; the working folder is {Path.cwd()}")


def _section(config: Mapping[str, Any], sections: Sequence[str]) -> Mapping[str, Any]:
    node: Any = config
    for section in sections:
        node = node.get(section) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def _get(config: Mapping[str, Any], key: str) -> Any:
    *sections, name = key.split(".")
    return _section(config, sections).get(name)


def _is_ours(config: Mapping[str, Any], key: str) -> bool:
    """Whether metaloop says what a key means: all but those of a user's own class."""
    part = key.partition(".")[0]
    return part not in ("algorithm", "model", "dataset") or str(_get(config, f"{part}._target_")).startswith(_OURS)


def _check_whole(config: MutableMapping[str, Any], key: str, least: int) -> None:
    *sections, name = key.split(".")
    node = _section(config, sections)
    value = node[name]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        value = int(value)
        assert isinstance(node, MutableMapping)
        node[name] = value
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{key}={value!r}: a whole number of at least {least}")


def _check_sizes(config: Mapping[str, Any]) -> None:
    """Check the sizes of episodes as far as they do not depend on the data set."""
    for section in ("episode", "episode.train"):
        sizes = _get(config, section) or {}
        for name in ("ways", "shots", "queries"):
            value = sizes.get(name)
            if value is not None and not _is_span(value):
                key = f"{section}.{name}"
                raise UserError(f"{key}={value!r}: give a whole number of at least 1, or a range [low, high] of such numbers")


def _is_span(value: object) -> bool:
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2 else (value, value)
    whole = [each for each in numbers if isinstance(each, int) and not isinstance(each, bool) and each >= 1]
    return len(whole) == 2 and whole[0] <= whole[1]


def _check_paths(dataset: Mapping[str, Any]) -> None:
    """Check that the user's own files exist; a folder of them may also be a zip archive of its name."""
    if not str(dataset.get("_target_")).startswith(_OURS):
        return
    path, files = dataset.get("path"), dataset.get("files")
    if "path" in dataset and path is None:
        raise UserError("dataset.path is not set; set it to a folder or a zip archive with one folder of images a class")
    if isinstance(path, str) and not Path(path).expanduser().exists():
        raise UserError(f"dataset.path={path}: there is no such file or folder; the working folder is {Path.cwd()}")
    folder = Path(str(dataset.get("data_dir", "."))).expanduser()
    for name in [files] if isinstance(files, str) else files if isinstance(files, list) else []:
        file = folder / str(name)
        packed = any(Path(f"{each}.zip").is_file() for each in (file.parent.resolve(), folder.resolve())) or folder.is_file()
        if not file.exists() and not packed and dataset.get("source") is None:
            raise UserError(f"dataset.files={name}: there is no file {file}; the working folder is {Path.cwd()}")
