"""Decoding of JSON into dataclasses, each value checked against the type of its field."""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from metaloop.errors import UserError
from metaloop.problems.metric import Metric

T = TypeVar("T")


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Read the JSON object in a file.

    Args:
        path: the file.
        what: name of the expected content, for the error message.

    Raises:
        UserError: the file is missing or broken, or holds something else.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise OSError("not a plain file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no readable {what} ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a mapping: a {what}")
    return content


def decode(kind: type[T], value: object, source: str, key: str = "") -> T:
    """Decode a mapping from JSON into a dataclass.

    Args:
        kind: the dataclass; its fields may be plain types, tuples, mappings, unions and further dataclasses.
        value: the mapping.
        source: the file, for error messages.
        key: dotted key of ``value`` in the file; empty at the top.

    Raises:
        UserError: a key is missing or unknown, or a value is of another type; names source and key.
    """
    return cast(T, _decode(kind, value, source, key))


def _decode(kind: Any, value: Any, source: str, key: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if kind is Metric:
        return _metric(value, source, key)
    if origin in (Union, types.UnionType):
        return _decode(_alternative(arguments, value), value, source, key)
    if is_dataclass(kind):
        return _dataclass(kind, value, source, key)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(
                _decode(each, item, source, f"{key}[{i}]") for i, (each, item) in enumerate(zip(kinds, value, strict=True))
            )
    if origin is Mapping and isinstance(value, Mapping):
        return {str(name): _decode(arguments[1], item, source, f"{key}.{name}") for name, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise UserError(f"{source}: {key or 'the content'} is {value!r}, expected {_name(kind)}")


def _dataclass(kind: Any, value: Any, source: str, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(f"{source}: {key or 'the content'} is {value!r}, expected a mapping")
    hints, prefix = _hints(kind), f"{key}." if key else ""
    unknown = [str(name) for name in value if name not in hints]
    if unknown:
        raise UserError(f"{source}: {prefix}{unknown[0]} is an unknown key; known are {', '.join(hints)}")
    for field in fields(kind):
        if field.name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{source}: {prefix}{field.name} is missing")
    return kind(**{name: _decode(hints[name], item, source, f"{prefix}{name}") for name, item in value.items()})


def _metric(value: Any, source: str, key: str) -> Metric:
    try:
        return Metric.from_dict(value)
    except UserError as error:
        raise UserError(f"{source}: {key}: {error}") from error


def _alternative(kinds: tuple[Any, ...], value: Any) -> Any:
    """Choose the member of a union that has the JSON type of the value: null, a list, a mapping, or a plain value."""
    if value is None and types.NoneType in kinds:
        return types.NoneType
    others = [kind for kind in kinds if kind is not types.NoneType]
    return next((kind for kind in others if _shape(kind) == _shape(type(value))), others[0])


def _shape(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin in (tuple, list):
        return "list"
    return "mapping" if origin in (dict, Mapping) or is_dataclass(origin) else "plain"


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is tuple:
        return "a list" if get_args(kind)[-1] is Ellipsis else f"a list of {len(get_args(kind))}"
    return "a mapping" if origin is Mapping else kind.__name__ if isinstance(kind, type) else str(kind)
