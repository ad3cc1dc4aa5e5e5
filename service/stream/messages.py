"""What travels to a socket: text, and the place in the log that it brings its reader to."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from domain.ids import Micros
from eventstore.api import Recorded
from schemas.answers import moment
from schemas.codec import UnknownEvent, decode
from schemas.cursor import encode_cursor
from schemas.stream import Message, shown

Place: TypeAlias = tuple[int, ...]
"""A position for each partition, in their order."""

_encoder = msgspec.json.Encoder()


class Outgoing(NamedTuple):
    """One message, written once for everybody who gets it."""

    text: bytes
    place: Place


def event_message(recorded: Recorded, *, place: Place) -> Outgoing:
    """Writes an event; of one that this program cannot read yet, only that it happened."""
    message = Message(
        type=recorded.type,
        escrow_id=recorded.stream_id,
        version=recorded.version,
        cursor=cursor_at(place),
        occurred_at=moment(Micros(recorded.occurred_at)),
        data=_data(recorded),
    )
    return Outgoing(_encoder.encode(message), place)


def other_message(type: str, *, place: Place, at: Micros, data: Mapping[str, Any]) -> Outgoing:
    """Writes what is no event: a heartbeat, a signed head."""
    message = Message(type=type, cursor=cursor_at(place), occurred_at=moment(at), data=dict(data))
    return Outgoing(_encoder.encode(message), place)


def cursor_at(place: Place) -> str:
    """Writes a place as a cursor."""
    return encode_cursor(dict(enumerate(place)))


def moved(place: Place, *, partition: int, position: int) -> Place:
    """Returns a place with one partition further on."""
    return (*place[:partition], position, *place[partition + 1 :])


def _data(recorded: Recorded) -> dict[str, Any]:
    try:
        return shown(decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body))
    except UnknownEvent:
        return {}
