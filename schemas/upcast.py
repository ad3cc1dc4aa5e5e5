"""Upcasters: how an event of an older schema version is read as the next one. Pure, dict to dict."""

from collections.abc import Callable, Mapping

Body = dict[str, object]

CURRENT: Mapping[str, int] = {
    "call_intended": 2,
    "dispute_decided": 2,
    "escrow_created": 4,
    "payout_opened": 2,
    "payout_proposed": 2,
    "spend_seen": 2,
    "turn_failed": 3,
}
"""Schema version written today, by event type; 1 where nothing is said."""


def upcast(type: str, schema_version: int, body: Body) -> Body:
    """Brings a body up to the version written today."""
    for version in range(schema_version, CURRENT.get(type, 1)):
        body = UPCASTERS[type, version](body)
    return body


def _call_told_apart(body: Body) -> Body:
    """Version 1 wrote a wallet's refusal as `call:reason`, and an agent's own reason, which has no colon, alone."""
    call, colon, reason = str(body["reason"]).partition(":")
    return {**body, "call": call, "reason": reason} if colon else {**body, "call": None}


def _without_facts(body: Body) -> Body:
    """Version 1 told nothing but the inputs of a transaction that spends deposits."""
    return {**body, "facts": None}


def _without_inputs_sum(body: Body) -> Body:
    """Version 1 did not say what the inputs came to."""
    return {**body, "inputs_atomic": None}


def _unsigned(body: Body) -> Body:
    """Version 1 was written before arbiters signed what they decide."""
    return {**body, "reason_salt": None, "signed": None}


def _undrawn(body: Body) -> Body:
    """Version 2 was written before arbiters were drawn in a way that can be repeated."""
    return {**body, "draw": None}


def _same(body: Body) -> Body:
    """A word was added to those a field may hold, or a field that may be missing."""
    return body


UPCASTERS: Mapping[tuple[str, int], Callable[[Body], Body]] = {
    ("call_intended", 1): _same,
    ("dispute_decided", 1): _unsigned,
    ("escrow_created", 1): _same,
    ("escrow_created", 2): _undrawn,
    ("escrow_created", 3): _same,
    ("payout_opened", 1): _same,
    ("payout_proposed", 1): _without_inputs_sum,
    ("spend_seen", 1): _without_facts,
    ("turn_failed", 1): _call_told_apart,
    ("turn_failed", 2): _same,
}
"""From (type, version) to the body of version + 1."""
