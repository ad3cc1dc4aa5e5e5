"""Upcasters: how an event of an older schema version is read as the next one. Pure, dict to dict."""

from collections.abc import Callable, Mapping

Body = dict[str, object]

CURRENT: Mapping[str, int] = {}
"""Schema version written today, by event type; 1 where nothing is said."""

UPCASTERS: Mapping[tuple[str, int], Callable[[Body], Body]] = {}
"""From (type, version) to the body of version + 1."""


def upcast(type: str, schema_version: int, body: Body) -> Body:
    """Brings a body up to the version written today."""
    for version in range(schema_version, CURRENT.get(type, 1)):
        body = UPCASTERS[type, version](body)
    return body
