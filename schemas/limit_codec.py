"""Events of the limits' streams as bytes and back; a set of its own beside the escrows' events."""

import msgspec

from domain.limits import AnyLimitEvent
from schemas.codec import Encoded, UnknownEvent
from schemas.upcast import CURRENT

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(AnyLimitEvent)


def encode_limit(event: AnyLimitEvent) -> Encoded:
    """Writes an event as its type name, schema version and canonical JSON."""
    type_name = str(event.__struct_config__.tag)
    return Encoded(type_name, CURRENT.get(type_name, 1), _encoder.encode(event))


def decode_limit(*, type: str, schema_version: int, body: bytes) -> AnyLimitEvent:
    """Reads an event; raises `UnknownEvent`."""
    if schema_version != CURRENT.get(type, 1):  # none of these events has a second version yet
        raise UnknownEvent(type=type, schema_version=schema_version)
    try:
        event: AnyLimitEvent = _decoder.decode(body)
    except msgspec.DecodeError as broken:
        raise UnknownEvent(type=type, schema_version=schema_version) from broken
    if event.__struct_config__.tag != type:
        raise UnknownEvent(type=type, schema_version=schema_version)
    return event
