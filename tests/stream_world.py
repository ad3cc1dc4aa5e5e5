"""Listeners to the stream, and escrows that grow by as many events as a test likes."""

import asyncio
import hashlib
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import ClientWebSocketResponse, WSMsgType

from domain.events import AnyEvent, EscrowCreated, PayoutAddressSet
from domain.ids import EscrowId, Micros, OrderId, Sealed, UserId
from domain.money import Atomic
from domain.roles import THREE, Role, SeatKind
from domain.terms import Policy, Terms
from eventstore.api import Append, Appended, NewEvent
from eventstore.opening import Store
from schemas.codec import encode
from schemas.stream import HEARTBEAT, Message
from service.auth import Right
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S
from tests.worlds import World

ADMIN = "root"


def escrow_id_of(number: int) -> EscrowId:
    """An escrow id of the form the service makes."""
    return EscrowId(f"esc_{hashlib.sha256(str(number).encode()).hexdigest()[:32]}")


def created(
    escrow_id: EscrowId, *, buyer: str = BUYER, vendor: str = VENDOR, arbiter: str = ARBITER, at: int = 1
) -> EscrowCreated:
    terms = Terms(
        escrow_id=escrow_id,
        order_id=OrderId(f"order-{escrow_id}"),
        buyer_id=UserId(buyer),
        vendor_id=UserId(vendor),
        arbiter_id=UserId(arbiter),
        amount=Atomic(AMOUNT),
        network="regtest",
        seats=dict.fromkeys(THREE, SeatKind.POOL),
        policy=Policy(),
    )
    return EscrowCreated(at=Micros(at), terms=terms, created_by=UserId(buyer))


def noise(at: int = 1) -> PayoutAddressSet:
    """An event that may come any number of times."""
    return PayoutAddressSet(at=Micros(at), role=Role.BUYER, tag="t" * 32, address=Sealed("sealed"))


async def append(store: Store, stream_id: str, version: int, *events: AnyEvent) -> Appended:
    """Writes events behind a version of a stream, past all rules."""
    outcome = await store.log.append(item_of(stream_id, version, *events))
    assert isinstance(outcome, Appended), outcome
    return outcome


def item_of(stream_id: str, version: int, *events: AnyEvent) -> Append:
    """The same command each time it is made again."""
    new = tuple(_new(event) for event in events)
    command_id = hashlib.sha256(f"{stream_id} {version}".encode()).hexdigest()
    return Append(stream_id=stream_id, expected_version=version, events=new, command_id=command_id)


def _new(event: AnyEvent) -> NewEvent:
    encoded = encode(event)
    return NewEvent(
        type=encoded.type,
        schema_version=encoded.schema_version,
        occurred_at=event.at,
        meta=b'{"by":"test"}',
        body=encoded.body,
    )


class Cut(Exception):
    """The service closed the socket."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.word, _, self.cursor = reason.partition(" ")


class Listener:
    """One socket, and the last cursor it was told."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket, self.cursor = socket, ""

    async def next(self) -> Message:
        """Returns the next message of whatever type; raises `Cut`."""
        async with asyncio.timeout(PATIENCE_S):
            got = await self.socket.receive()
        if got.type is not WSMsgType.TEXT:
            raise Cut(self.socket.close_code or 0, str(got.extra or ""))
        message = msgspec.json.decode(got.data, type=Message)
        self.cursor = message.cursor
        return message

    async def event(self) -> Message:
        """Returns the next message about an escrow."""
        while (message := await self.next()).type == HEARTBEAT:
            pass
        return message

    async def events(self, count: int) -> list[Message]:
        return [await self.event() for _ in range(count)]

    async def caught_up(self) -> list[Message]:
        """Returns what comes before the first heartbeat: from there on the socket is live."""
        missed = []
        while (message := await self.next()).type != HEARTBEAT:
            missed.append(message)
        return missed

    def drop(self) -> None:
        """Breaks the connection without a word, as a network does."""
        self.socket.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        await self.socket.close()


async def listen(
    world: World,
    user: str = BUYER,
    *,
    after: str | None = None,
    rights: tuple[Right, ...] = (),
    ttl_s: int = 600,
    headers: Mapping[str, str] | None = None,
) -> Listener:
    """Opens a socket as a user."""
    sent = (
        dict(headers) if headers is not None else {"Authorization": f"Bearer {world.token(user, *rights, ttl_s=ttl_s)}"}
    )
    query = "" if after is None else f"?after={after}"
    return Listener(await world.client.ws_connect(f"/api/stream{query}", headers=sent))


async def listen_live(world: World, user: str = BUYER, **more: Any) -> Listener:
    """Opens a socket and waits until it is live."""
    listener = await listen(world, user, **more)
    await listener.caught_up()
    return listener
