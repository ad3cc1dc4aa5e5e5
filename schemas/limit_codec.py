"""Events of the limits' streams as bytes and back; a set of its own beside the escrows' events."""

import msgspec

from domain.limits import AnyLimitEvent
from schemas.codec import Encoded, UnknownEvent

SCHEMA_VERSION = 1
"""Of every event of these streams so far."""
_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(AnyLimitEvent)


def encode_limit(event: AnyLimitEvent) -> Encoded:
    """Writes an event as its type name, schema version and canonical JSON."""
    return Encoded(str(event.__struct_config__.tag), SCHEMA_VERSION, _encoder.encode(event))


def decode_limit(*, type: str, schema_version: int, body: bytes) -> AnyLimitEvent:
    """Reads an event; raises `UnknownEvent`."""
    if schema_version != SCHEMA_VERSION:
        raise UnknownEvent(type=type, schema_version=schema_version)
    try:
        event: AnyLimitEvent = _decoder.decode(body)
    except msgspec.DecodeError as broken:
        raise UnknownEvent(type=type, schema_version=schema_version) from broken
    if event.__struct_config__.tag != type:
        raise UnknownEvent(type=type, schema_version=schema_version)
    return event
