"""What is frozen of every event: its JSON Schema and one sample, made from the types so that none is forgotten."""

from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from domain.events import EVENT_TYPES
from domain.limits import AnyLimitEvent
from schemas.upcast import CURRENT

LIMIT_TYPES: Mapping[str, type[msgspec.Struct]] = {
    str(event.__struct_config__.tag): event for event in get_args(AnyLimitEvent)
}
"""Event classes of the limits' streams by the name in the log."""
ALL_TYPES: Mapping[str, type[msgspec.Struct]] = {**EVENT_TYPES, **LIMIT_TYPES}
"""Every class of event that the log can hold."""

_REF = "#/$defs/"
_TOLD_IN_CODE = ("title", "description")
_encoder = msgspec.json.Encoder(order="deterministic")


def current_version(type: str) -> int:
    """Names the version in which events of a type are written today."""
    return CURRENT.get(type, 1)


def schema_of(event: type[msgspec.Struct]) -> bytes:
    """Writes the JSON Schema of an event as it is today: whole, without names of classes and without docstrings.

    So a better sentence or a renamed record changes nothing here, and whatever changes the bytes of a body does.
    """
    (schema,), parts = msgspec.json.schema_components([event], ref_template=_REF + "{name}")
    return msgspec.json.format(_encoder.encode(_inlined(schema, parts)), indent=2) + b"\n"


def sample_of(event: type[msgspec.Struct]) -> bytes:
    """Writes the body of an event with every field filled: text is the field's name, a number its length."""
    return _encoder.encode(_sample(event, name="event"))


def _inlined(part: Any, parts: Mapping[str, Any]) -> Any:
    match part:
        case {"$ref": str(ref)}:
            return _inlined(parts[ref.removeprefix(_REF)], parts)
        case dict():
            kept = {key: value for key, value in part.items() if not (key in _TOLD_IN_CODE and isinstance(value, str))}
            return {key: _inlined(value, parts) for key, value in kept.items()}
        case list():
            return [_inlined(value, parts) for value in part]
        case _:
            return part


def _sample(hint: Any, *, name: str) -> Any:
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) in (Union, UnionType):
        return _sample(next(part for part in get_args(hint) if part is not NoneType), name=name)
    if get_origin(hint) is tuple:
        parts = [part for part in get_args(hint) if part is not Ellipsis]
        return tuple(_sample(part, name=name) for part in parts)
    if get_origin(hint) is dict:
        key, value = get_args(hint)
        return {_sample(key, name=name): _sample(value, name=name)}
    if issubclass(hint, msgspec.Struct):
        return hint(**{field: _sample(each, name=field) for field, each in get_type_hints(hint).items()})
    if issubclass(hint, Enum):
        return min(hint, key=str)
    return _PLAIN[hint](name)


_PLAIN: Mapping[type, Callable[[str], object]] = {str: str, int: len, bool: bool}
