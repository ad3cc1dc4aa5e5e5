"""A log of draws written by hand, in any order and of any contents, as whoever runs the service could write it."""

import itertools
import secrets
from collections import Counter

import msgspec

from actors.limit_events import new_limit_event
from domain import arbiters as d
from domain import commands as c
from domain.draw import ArbiterDraw, anchor_of, drawn, link_of
from domain.ids import EscrowId, OrderId, Sealed, UserId
from domain.terms import Terms
from eventstore.api import Append, Appended, EventLog, NewEvent
from tests.given import ARBITER, BUYER, START, Life, terms
from tests.model_worlds import new_events

MARA, NOOR = UserId("mara"), UserId("noor")
POOL = (ARBITER, MARA, NOOR)
SEEDS = {chain: bytes([chain] * 32) for chain in range(1, 10)}


class DrawHands:
    """Writes commitments, links and creations; whatever nothing else is said of is as the service would write it."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self._versions = Counter[str]()

    async def commit(self, chain: int, *, seed: int | None = None) -> None:
        """Commits to a chain, or again to that of another seed."""
        anchor = anchor_of(SEEDS[seed or chain])
        event = d.ChainCommitted(at=START, chain=chain, anchor=anchor, seed=Sealed(f"seed-{chain}"))
        await self.append(d.DRAWS_STREAM, new_limit_event(event, meta={}))

    async def take(self, link: int, escrow_id: str, *, chain: int = 1) -> None:
        """Takes a link for an escrow."""
        event = d.LinkTaken(at=START, chain=chain, link=link, escrow_id=EscrowId(escrow_id))
        await self.append(d.DRAWS_STREAM, new_limit_event(event, meta={}))

    async def create(self, escrow_id: str, link: int | None, *, chain: int = 1, seed: int | None = None) -> None:
        """Creates an escrow with a draw that holds, of this link of a chain or of what is said to be that chain."""
        asked, draw = terms_of(escrow_id), None
        if link is not None:
            secret = link_of(SEEDS[seed or chain], link)
            anchor = anchor_of(SEEDS[seed or chain])
            draw = ArbiterDraw(chain=chain, anchor=anchor, link=link, secret=secret, eligible=POOL, excluded={})
            asked = msgspec.structs.replace(asked, arbiter_id=drawn(asked, secret=secret, eligible=POOL))
        await self.begin(asked, draw)

    async def begin(self, asked: Terms, draw: ArbiterDraw | None) -> None:
        """Creates an escrow of these terms."""
        life = Life().when(c.CreateEscrow(at=START, terms=asked, by=BUYER, draw=draw))
        await self.append(asked.escrow_id, *new_events(life.events))

    async def honest(self, link: int, escrow_id: str, *, chain: int = 1) -> None:
        """Takes a link and creates the escrow with it."""
        await self.take(link, escrow_id, chain=chain)
        await self.create(escrow_id, link, chain=chain)

    async def append(self, stream_id: str, *events: NewEvent) -> None:
        version = self._versions[stream_id]
        command_id = secrets.token_hex(32)
        item = Append(stream_id=stream_id, expected_version=version, events=events, command_id=command_id)
        assert isinstance(await self.log.append(item), Appended)
        self._versions[stream_id] += len(events)


def terms_of(escrow_id: str, *, order_id: str | None = None) -> Terms:
    """The terms of an escrow of this name, before its arbiter is drawn."""
    order = OrderId(order_id or f"order of {escrow_id}")
    return msgspec.structs.replace(terms(), escrow_id=EscrowId(escrow_id), order_id=order)


def ground(escrow_id: str, draw: ArbiterDraw, *, wanted: UserId) -> Terms:
    """Tries order ids until a secret that is known already draws the arbiter that is wanted."""
    for number in itertools.count():
        asked = terms_of(escrow_id, order_id=f"ground-{number}")
        if drawn(asked, secret=draw.secret, eligible=draw.eligible) == wanted:
            return msgspec.structs.replace(asked, arbiter_id=wanted)
    raise AssertionError
