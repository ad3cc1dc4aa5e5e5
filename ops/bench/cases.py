"""Cases with conversations, sealed as the service seals them: what `make bench-disputes` fills a log with."""

import random
from collections.abc import AsyncIterator, Sequence

import msgspec

from actors.sealed import EscrowSecrets
from domain import events as e
from domain.event import Event
from domain.events import AnyEvent
from domain.ids import CaseId, EscrowId, Micros, OrderId, UserId
from domain.roles import THREE, Role
from eventstore.api import NewEvent, Vault
from ops.bench.life import Part, whole_life
from ops.bench.load import META
from schemas.codec import decode, encode
from schemas.sealing import SealedKind

ARBITER = UserId("judy")
WORDS = (
    *("the", "parcel", "was", "empty", "when", "it", "came", "and", "weighed", "forty", "grams"),
    *("as", "the", "receipt", "of", "the", "post", "says"),
)
MINUTE = 60_000_000
_BEFORE = "shipped"
"""The case is opened in the funded escrow, before this event of the recorded life."""


def escrow_of(number: int) -> EscrowId:
    """Names an escrow."""
    return EscrowId(f"esc_{number:032x}")


def case_of(number: int) -> CaseId:
    """Names its case."""
    return CaseId(f"case_{number:032x}")


def buyer_of(number: int) -> UserId:
    """Names its buyer."""
    return UserId(f"buyer-{number}")


async def conversations(vault: Vault, *, cases: int, messages: int) -> AsyncIterator[Part]:
    """Yields every case with its claim, and then message after message, each time one for every case in turn.

    So many conversations go on side by side, as they do; each text has about 40 words and is sealed by itself.
    """
    begun = [await _opened(vault, number) for number in range(cases)]
    for number, life in enumerate(begun):
        yield escrow_of(number), 1, [_new(event) for event in life]
    for said in range(1, messages + 1):
        for number, life in enumerate(begun):
            at = Micros(life[-1].at + said * MINUTE)
            event = await _message(vault, number, said=said, at=at)
            yield escrow_of(number), len(life) + said, [_new(event)]


def _text(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=40))


async def _opened(vault: Vault, number: int) -> Sequence[AnyEvent]:
    events = [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in whole_life()]
    kinds = [each.type for each in whole_life()]
    life = events[: kinds.index(_BEFORE)]
    (created, *rest) = life
    assert isinstance(created, e.EscrowCreated)
    terms = msgspec.structs.replace(
        created.terms,
        escrow_id=escrow_of(number),
        order_id=OrderId(f"order-{number}"),
        buyer_id=buyer_of(number),
        vendor_id=UserId(f"vendor-{number}"),
        arbiter_id=ARBITER,
    )
    later = Micros(life[-1].at + number * MINUTE)
    claim = await EscrowSecrets(vault, terms.escrow_id).seal(SealedKind.CLAIM, Role.BUYER.value, _text(number))
    opened = e.DisputeOpened(at=later, case_id=case_of(number), by=Role.BUYER, claim=claim)
    return [msgspec.structs.replace(created, terms=terms), *rest, opened]


async def _message(vault: Vault, number: int, *, said: int, at: Micros) -> AnyEvent:
    by = THREE[said % 2]
    sealing = EscrowSecrets(vault, escrow_of(number))
    text = await sealing.seal(SealedKind.MESSAGE, by.value, _text(number * 1_000 + said))
    return e.DisputeMessageAdded(at=at, number=said, by=by, message=text)


def _new(event: Event) -> NewEvent:
    made = encode(event)  # type: ignore[arg-type]
    return NewEvent(type=made.type, schema_version=made.schema_version, occurred_at=event.at, meta=META, body=made.body)
