"""The files of a kept model: an adapted model's description, tensors and encoder, as they are read back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloop.config.folder import check_packages
from metaloop.config.trust import check_complete, check_received, remember_derived
from metaloop.data.user.tasks import Columns, UserTask, from_tensors
from metaloop.errors import UserError
from metaloop.records.directory import check_links
from metaloop.records.typed_json import read_object
from metaloop.system.tensors import load_checkpoint
from metaloop.types import Field

TENSORS, ABOUT, ENCODER = "adapted.pt", "model.json", "encoder"


@dataclass(frozen=True)
class KeptModel:
    """What a folder of a kept model holds.

    Attributes:
        about: Plain data: the run, its checkpoint's step and config, the support file and its hash, versions.
        build_config: Config to build the learner from; it takes the encoder's weights from ``learner``.
        tasks: Number of outputs and of classes of the meta-training tasks, and the fields of their inputs.
        input_shape: Shape of one example of them.
        columns: Names of the columns in the support file.
        encoder: Identity of a frozen encoder; None without one.
        task: The support set.
        learner: State of the learner.
        adapted: Adapted parameters; None for a learner without them.
        catalogue: Digest of what a user's files refer to by name; None for nothing, and in models kept before there was one.
    """

    about: Mapping[str, Any]
    build_config: Mapping[str, Any]
    tasks: Mapping[str, Any]
    input_shape: tuple[int, ...]
    columns: Columns
    encoder: Any
    task: UserTask
    learner: Mapping[str, Any]
    adapted: Mapping[str, Any] | None
    catalogue: str | None = None


def read_kept_model(folder: Path, trust: Collection[str]) -> KeptModel:
    """Read a folder that :meth:`metaloop.evaluation.adapted_model.AdaptedModel.save` wrote; nothing is built.

    Raises:
        UserError: the folder holds no such model, or its config names what is not trusted.
    """
    how = f"metaloop predict run=... save={folder} makes one"
    if not (folder / ABOUT).is_file():
        raise UserError(f"model={folder} holds no adapted model ({ABOUT}); {how}")
    about = read_object(folder / ABOUT, "description of an adapted model")
    try:
        tasks, columns, encoder = dict(about.pop("tasks")), Columns(**about.pop("columns")), about.pop("encoder", None)
        catalogue = about.pop("catalogue", None)
        check_received(about["config"], folder / ABOUT, trust)
        check_complete(about["config"], folder / ABOUT)
        check_packages(about["config"], folder / ABOUT)
        check_links(folder)
        config, build_config = _with_encoder(about["config"], folder, trust)
        remember_derived(config, about["config"])
        saved = load_checkpoint(folder / TENSORS)
        return KeptModel(
            about={**about, "config": config},
            build_config=build_config,
            input_shape=tuple(tasks.pop("input_shape")),
            tasks={
                "outputs": tasks["outputs"],
                "classes": tasks["classes"],
                "fields": tuple(Field(**field) for field in tasks.get("fields", ())),
            },
            columns=columns,
            encoder=encoder,
            task=from_tensors(saved["task"]),
            learner=saved["learner"],
            adapted=saved["adapted"],
            catalogue=catalogue,
        )
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"model={folder} holds no adapted model, a part is missing or of another kind ({reason}); {how}"
        ) from error


def _with_encoder(
    config: Mapping[str, Any], folder: Path, trust: Collection[str]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The config with the kept files of the encoder, for its tokenizer, and with its settings, for the learner."""
    if not (folder / ENCODER).is_dir():
        return config, config
    path = folder / ENCODER / "config.json"
    settings = read_object(path, "configuration of the encoder")
    check_received({"model": {"config": settings}}, path, trust)
    return with_model(config, {"name_or_path": str(folder / ENCODER)}), with_model(
        config, {"name_or_path": None, "config": settings}
    )


def with_model(config: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The config with other values of some of the model's keys."""
    return {**config, "model": {**config["model"], **keys}}
