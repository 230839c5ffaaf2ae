"""Check that an overridden key exists and that its value has the type of the default."""

from collections.abc import Iterator, Mapping, Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metaloop.config.values import LEAST
from metaloop.config.words.known_keys import known_keys
from metaloop.config.words.other_words import KEYS
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

Leaves = Mapping[str, object]  # default by dotted key; includes inner nodes, as dicts and lists

_NAMES = {bool: "true or false", int: "a whole number", float: "a number"}


def is_true(key: str, values: Sequence[str]) -> bool:
    """Read the last value of a key of a command as true or false; false without a value.

    Raises:
        UserError: the value is neither.
    """
    value = values[-1].lower() if values else "false"
    if value not in ("true", "false"):
        raise UserError(f"{key}={values[-1]}: must be true or false")
    return value == "true"


def flatten(config: DictConfig) -> Leaves:
    """All keys of a composed config, inner nodes included, with their defaults; interpolations are not resolved."""
    return dict(_walk("", OmegaConf.to_container(config, resolve=False)))


def _walk(prefix: str, node: object) -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list):
        children = [(str(number), value) for number, value in enumerate(node)]
    else:
        return
    for key, value in children:
        path = f"{prefix}.{key}" if prefix else key
        yield path, value
        yield from _walk(path, value)


def check_value(config: DictConfig, leaves: Leaves, choices: Sequence[str], override: Override) -> None:
    """Check that ``override`` names a key of ``leaves`` and that its value has the type of the default.

    Args:
        config: Composed config, to resolve an interpolated default.
        leaves: Keys of the config, from `flatten`.
        choices: Groups of the config's defaults list, which are suggested too.
        override: Change or deletion with a single value.

    Raises:
        UserError: the key is unknown, or the value has another type than the default.
    """
    key = override.key_or_group.replace("[", ".").replace("]", "")
    if key not in leaves:
        raise UserError(_unknown(str(override.input_line), key, leaves, choices))
    if not override.is_delete():
        _check_type(config, leaves, choices, key, override.value())


def _unknown(line: str, key: str, leaves: Leaves, choices: Sequence[str]) -> str:
    visible = [name for name in leaves if key.startswith("hydra") or not name.startswith("hydra")]
    groups = [name for name in choices if key.startswith("hydra") or not name.startswith("hydra")]
    slashes = {name.replace("/", ".") for name in groups} if "/" in key else ()  # a group's section is no second suggestion
    near = did_you_mean(key, dict.fromkeys([*groups, *(name for name in visible if name not in slashes)]), also=KEYS)
    section = key
    while section and not isinstance(leaves.get(section), dict):
        section = section.rpartition(".")[0]
    inside = [name.rpartition(".")[2] for name in visible if name.rpartition(".")[0] == section]
    where = f"keys of {section}" if section else "groups and keys at the top"
    fixed = line.startswith("~") or section in known_keys()
    add = "" if fixed else f". A new key that the class behind it accepts is added with +{line}"
    return f"{line}: there is no {key!r}; {near}{where}: {', '.join(inside)}{add}"


def _check_type(config: DictConfig, leaves: Leaves, choices: Sequence[str], key: str, value: object) -> None:
    default = _default(config, leaves, key)
    if isinstance(value, dict) and isinstance(default, dict):
        for name, inner in value.items():
            path = f"{key}.{name}"
            if path not in leaves:
                raise UserError(_unknown(f"{path}={inner}", path, leaves, choices))
            _check_type(config, leaves, choices, path, inner)
    elif isinstance(default, dict) and value is not None:
        group = key.replace(".", "/")
        hint = f"choose it with {group}={value}" if group in choices else f"override one of its keys: {', '.join(default)}"
        raise UserError(f"{key}={value}: {key} is a section, not a value; {hint}")
    elif type(default) in _NAMES:
        _check_scalar(key, type(default), default, value)


def _default(config: DictConfig, leaves: Leaves, key: str) -> object:
    """Default of a key, with an interpolation resolved if possible; None if it has no value yet."""
    default = leaves[key]
    if default == "???":
        return None
    if isinstance(default, str) and "${" in default:
        try:
            return OmegaConf.select(config, key, throw_on_missing=False)
        except OmegaConfBaseException:
            return None
    return default


def _check_scalar(key: str, kind: type, default: object, value: object) -> None:
    """Check the type of ``value``, or of the elements of a list, because a number may become a range."""
    for part in value if isinstance(value, list) and value else [value]:
        if type(part) is kind or (kind is float and type(part) is int) or (isinstance(part, str) and "${" in part):
            continue
        whole = kind is int and isinstance(part, float) and part.is_integer()
        hint = f"; did you mean {key}={part:.0f}?" if whole else ""
        received = "null" if value is None else repr(value)
        freely = "" if key in LEAST else f" (++{key}=... sets it with any type)"
        raise UserError(f"{key}={received}: expected {_NAMES[kind]}, such as the default {_yaml(default)}{hint}{freely}")


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
