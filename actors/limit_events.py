"""How events of the limits' streams are handed to the log and read from it, whoever decided them."""

import msgspec

from domain.limits import AnyLimitEvent
from eventstore.api import EventLog, NewEvent, Recorded
from schemas.limit_codec import decode_limit, encode_limit

READ_PAGE = 1_000


def new_limit_event(event: AnyLimitEvent, *, meta: object) -> NewEvent:
    """Writes an event as it is appended; `meta` says who is behind it, and becomes JSON in a settled order."""
    encoded = encode_limit(event)
    return NewEvent(
        type=encoded.type,
        schema_version=encoded.schema_version,
        occurred_at=event.at,
        meta=msgspec.json.encode(meta, order="deterministic"),
        body=encoded.body,
    )


def event_of(recorded: Recorded) -> AnyLimitEvent:
    """Reads an event of a limit's stream; raises `UnknownEvent`."""
    return decode_limit(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)


async def read_on(event_log: EventLog, stream: str, known: list[Recorded]) -> list[Recorded]:
    """Reads a stream to its end behind what is known of it, and returns both; raises `LogUnavailable`."""
    while page := await event_log.read_stream(stream, after_version=len(known), limit=READ_PAGE):
        known = [*known, *page]
    return known
