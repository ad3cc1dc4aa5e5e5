"""The life of an escrow as a story: recorded events in, lines out. Pure, and sealed fields stay sealed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_type_hints

import msgspec

from domain.events import AnyEvent
from domain.evolve import evolve
from domain.ids import Micros, Sealed
from domain.money import ATOMIC_PER_XMR, Atomic
from domain.states import Escrow, name
from domain.turns import awaited
from eventstore.api import Recorded
from schemas.answers import moment
from schemas.codec import decode
from schemas.stream import MOMENTS

SEALED = "(sealed)"
SHOWN = 12
"""Characters of a hash, key, signature or address that a line shows; JSON shows all of them."""
LONG = 40
_ONLY_IN_JSON = frozenset(
    {"policy", "digest", "export_digest", "signature", "tag", "view_key_tag", "identity_key", "covers", "key_images"}
)
"""Proofs and figures that a reader of the story does not miss."""
_INNER_AMOUNTS = frozenset({"amount", "network_fee", "fee_atomic", "least", "most"})
"""Fields of what stands inside an event's fields that are amounts."""
_MOMENTS = MOMENTS | {"seen_at"}
"""Fields that are microseconds in the log."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a life, with the state after it."""

    version: int
    type: str
    occurred_at: str
    recorded_at: str
    by: str
    state: str
    data: dict[str, Any]
    """Sealed fields replaced, amounts in atomic units."""
    amounts: tuple[str, ...] = ()
    """Which fields of `data` are amounts."""


def life(
    events: Iterable[Recorded], *, at_version: int | None = None, at_time: Micros | None = None
) -> tuple[Escrow | None, list[Recorded]]:
    """Folds a stream up to a version and up to a moment of the database's clock, both included.

    Returns the state and the events it comes from. Raises `UnknownEvent`, `ImpossibleHistory`.
    """
    state: Escrow | None = None
    kept = []
    for recorded in events:
        late = at_time is not None and recorded.recorded_at > at_time
        if late or (at_version is not None and recorded.version > at_version):
            break
        state = evolve(state, _event(recorded))
        kept.append(recorded)
    return state, kept


def steps(events: Iterable[Recorded]) -> Iterator[Step]:
    """Tells a life event by event, from its first event on."""
    state: Escrow | None = None
    for recorded in events:
        event = _event(recorded)
        state = evolve(state, event)
        yield _step(recorded, event, state)


def story(events: Sequence[Recorded]) -> Iterator[str]:
    """Writes a life as lines of text, one an event, and how it stands at the end."""
    before = ""
    for step in steps(events):
        yield _line(step, before=before)
        before = step.state
    state, _ = life(events)
    if state is not None:
        yield from _standing(state)


def json_lines(events: Iterable[Recorded]) -> Iterator[bytes]:
    """Writes a life as JSON, one object a line."""
    for step in steps(events):
        shown = {field: getattr(step, field) for field in step.__struct_fields__ if field != "amounts"}
        yield msgspec.json.encode(shown, order="deterministic")


def xmr(atomic: int) -> str:
    """Writes an amount in XMR with all its 12 decimals."""
    return f"{atomic // ATOMIC_PER_XMR}.{atomic % ATOMIC_PER_XMR:012d} XMR"


def _event(recorded: Recorded) -> AnyEvent:
    return decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)


def _step(recorded: Recorded, event: AnyEvent, state: Escrow) -> Step:
    data, amounts = _fields(event)
    return Step(
        version=recorded.version,
        type=recorded.type,
        occurred_at=moment(Micros(recorded.occurred_at)),
        recorded_at=moment(Micros(recorded.recorded_at)),
        by=_by(recorded),
        state=name(state),
        data=data,
        amounts=amounts,
    )


def _by(recorded: Recorded) -> str:
    try:
        return str(msgspec.json.decode(recorded.meta, type=dict[str, str]).get("by", ""))
    except msgspec.DecodeError:
        return ""


def _fields(event: AnyEvent) -> tuple[dict[str, Any], tuple[str, ...]]:
    hints = get_type_hints(type(event))
    data: dict[str, Any] = {}
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if field != "at" and value is not None:
            data[field] = SEALED if _mentions(hints[field], Sealed) else msgspec.to_builtins(value, str_keys=True)
    return data, tuple(field for field in data if _mentions(hints[field], Atomic))


def _mentions(hint: Any, kind: Any) -> bool:
    return hint is kind or any(_mentions(part, kind) for part in get_args(hint))


# -- text ----------------------------------------------------------------------------------------------------


def _line(step: Step, *, before: str) -> str:
    state = step.state if step.state != before else f"  {step.state}"
    shown = {field: value for field, value in step.data.items() if field not in _ONLY_IN_JSON}
    told = ", ".join(_told(field, value, amount=field in step.amounts) for field, value in shown.items())
    head = f"{step.version:4d}  {step.occurred_at[:10]} {step.occurred_at[11:23]}  {step.type:<24} {state:<28}"
    return f"{head} {step.by:<12} {told}".rstrip()


def _told(field: str, value: Any, *, amount: bool) -> str:
    return f"{field} {xmr(value) if amount else _short(field, value)}"


def _short(field: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and field in _INNER_AMOUNTS:
        return xmr(value)
    if isinstance(value, int) and field in _MOMENTS:
        return moment(Micros(value))
    if isinstance(value, str):
        return value if len(value) <= LONG else f"{value[:SHOWN]}…"
    if isinstance(value, Mapping):
        inner = {str(key): each for key, each in value.items() if key not in _ONLY_IN_JSON}
        return "(" + ", ".join(f"{_short('', key)} {_short(key, each)}" for key, each in inner.items()) + ")"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short("", each) for each in value) + "]"
    return str(value)


def _standing(state: Escrow) -> Iterator[str]:
    yield f"state {name(state)} at version {state.core.version}"
    for waits in awaited(state):
        until = f" until {moment(waits.until)}" if waits.until else ""
        yield f"awaited: {waits.who.value}, {waits.what}, since {moment(waits.since)}{until}"
