"""Keys that a run's config may have, where metaloop itself reads them; others would be ignored without a word."""

from collections.abc import Iterator, Mapping
from functools import cache

from omegaconf import DictConfig, OmegaConf

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

_EPISODE = ("ways", "shots", "queries", "unlabelled", "distractors")  # of types.EpisodeSpec, whose module imports torch
_OUTER = ("meta_batch", "low_precision_meta_gradient", "optimizer", "schedule")
_PARTS = ("algorithm", "model", "dataset", "episode", "outer", "trainer", "validation", "evaluation")
_ITS_OWN = "metaloop sets it itself"
_FEWER = "a part of a run would look like a whole one; set trainer.max_steps, validation.episodes or evaluation.episodes"
_TRAINER = {  # keys of Lightning's trainer that would be ignored, or would change what a record means
    **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "plugins"), _ITS_OWN),
    **dict.fromkeys(("inference_mode", "num_sanity_val_steps", "use_distributed_sampler", "barebones"), _ITS_OWN),
    **dict.fromkeys(("fast_dev_run", "overfit_batches", "max_epochs", "min_epochs", "max_time"), _FEWER),
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches"), _FEWER),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), "set validation.every"),
    "accumulate_grad_batches": "set outer.meta_batch",
    "callbacks": "name each in the group callbacks: +callbacks.NAME._target_=PACKAGE.CLASS",
    "log_every_n_steps": "set log_every",
}


def check_known(config: DictConfig) -> None:
    """Check the keys of a composed config, without Hydra's node.

    At the top, keys that other values refer to (``${width}``) and keys that begin with an underscore are the user's own.

    Raises:
        UserError: a key is unknown; the message has the nearest known ones.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    for part in _PARTS:
        if not isinstance(plain.get(part), Mapping):
            raise UserError(f"{part} is missing; every run has one: {part}=...")
    for key in plain["trainer"]:
        if key in _TRAINER:
            raise UserError(f"trainer.{key}: {_TRAINER[str(key)]}")
    referred = " ".join(text for text in _texts(plain) if "${" in text)
    for section, known in known_keys().items():
        node: object = plain
        for part in filter(None, section.split(".")):
            node = node.get(part) if isinstance(node, Mapping) else None
        for key in node if isinstance(node, Mapping) else ():
            own = not section and (str(key).startswith("_") or f"${{{key}" in referred)
            if key not in known and not own:
                path = f"{section}.{key}" if section else str(key)
                where = f"keys of {section}" if section else "groups and keys at the top"
                near = did_you_mean(str(key), known, prefix=f"{section}." if section else "")
                raise UserError(f"{path}: there is no such key; {near}{where}: {', '.join(known)}")


@cache
def known_keys() -> dict[str, tuple[str, ...]]:
    """Known keys by section; the top and what stands in conf/train.yaml are read there."""
    primary = OmegaConf.to_container(OmegaConf.load(conf_dir() / "train.yaml"), resolve=False)
    assert isinstance(primary, dict)
    groups = [str(group) for entry in primary["defaults"] if isinstance(entry, dict) for group in entry]
    top = [*groups, *(str(key) for key in primary if key not in ("defaults", "hydra"))]
    return {
        "": tuple(top),
        "episode": (*_EPISODE, "fit", "train"),
        "episode.train": _EPISODE,
        "outer": _OUTER,
        "validation": tuple(primary["validation"]),
        "evaluation": tuple(primary["evaluation"]),
    }


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node
