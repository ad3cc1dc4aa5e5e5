"""What a bundle's events say of evidence, for whoever holds a picture and wants to know whether it was in the case."""

from collections.abc import Iterator, Sequence

from domain import events as e
from eventstore.api import Recorded
from schemas.codec import UnknownEvent, decode

TYPES = frozenset({"evidence_added", "evidence_shown"})


def evidence_told(events: Sequence[Recorded]) -> Iterator[str]:
    """Names every picture with its hash, its size and the name of its sealed bytes, and who was shown it."""
    for recorded in events:
        if recorded.type not in TYPES:
            continue
        try:
            event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        except UnknownEvent:
            continue  # that is among the findings
        match event:
            case e.EvidenceAdded():
                what = f"{event.media_type}, {event.size} bytes, sha256 {event.sha256}, sealed as {event.cid}"
                yield f"picture {event.photo_id} of the {event.by.value}: {what}"
            case e.EvidenceShown():
                yield f"picture {event.photo_id} shown to {event.user} ({event.by.value}), sha256 {event.sha256}"
            case _:
                pass
