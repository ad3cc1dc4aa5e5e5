"""Events as bytes and back: canonical JSON, exactly the bytes that are hashed."""

import msgspec

from domain.events import EVENT_TYPES, AnyEvent
from schemas.upcast import CURRENT, upcast

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(AnyEvent)
_WRITTEN = {type: CURRENT.get(type, 1) for type in EVENT_TYPES}
_untyped, _in_order = msgspec.json.Decoder(dict[str, object]), msgspec.json.Encoder()


class UnknownEvent(Exception):
    """The log holds an event this program cannot read: that escrow stops, it is never skipped."""

    def __init__(self, *, type: str, schema_version: int) -> None:
        super().__init__(f"{type} version {schema_version} is no event this program can read; a newer one may")
        self.type, self.schema_version = type, schema_version


class Encoded(msgspec.Struct, frozen=True):
    """An event ready for the log."""

    type: str
    schema_version: int
    body: bytes


def encode(event: AnyEvent) -> Encoded:
    """Writes an event as its type name, schema version and canonical JSON."""
    type_name = str(event.__struct_config__.tag)
    return Encoded(type_name, CURRENT.get(type_name, 1), _encoder.encode(event))


def decode(*, type: str, schema_version: int, body: bytes) -> AnyEvent:
    """Reads an event of any version ever written; raises `UnknownEvent`."""
    current = _WRITTEN.get(type)
    if current is None or schema_version > current:
        raise UnknownEvent(type=type, schema_version=schema_version)
    try:
        if schema_version < current:
            body = _encoder.encode(upcast(type, schema_version, _untyped.decode(body)))
        event: AnyEvent = _decoder.decode(body)
    except (msgspec.DecodeError, KeyError) as broken:
        raise UnknownEvent(type=type, schema_version=schema_version) from broken
    return event


def canonical(event: AnyEvent, *, schema_version: int, body: bytes) -> bytes:
    """Writes anew what `decode` read: the body it must have had, byte for byte, in the version it was written in.

    Of an older version only the writing is judged (no space, no second way to write a text), since its fields and
    their order are no longer known here.
    """
    encoded = encode(event)
    return encoded.body if schema_version == encoded.schema_version else _in_order.encode(_untyped.decode(body))
