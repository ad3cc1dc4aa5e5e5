"""One seat, one wallet: held by the log itself, however many nodes claim at once."""

import asyncio
from collections import Counter

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.directory import Directory
from actors.escrow import Accepted, Answer, EscrowActor
from actors.wallet_register import WalletRegister
from domain import commands as c
from domain.events import WalletClaimed
from domain.ids import EscrowId, Micros, OrderId, Sealed, WalletId
from domain.money import Atomic
from domain.roles import THREE, Role, SeatKind
from domain.terms import Policy, Terms
from eventstore.api import LogBusy, LogUnavailable, OutcomeUnknown
from eventstore.opening import Store
from schemas.codec import decode
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.store_worlds import StoreWorld

ESCROW = EscrowId("esc_seat")


async def test_of_ten_claims_of_one_seat_at_once_one_is_followed_and_nine_are_told_it_is_taken(
    store_world: StoreWorld,
) -> None:
    stores = [await store_world.open(node_id=f"n{number}") for number in range(5)]
    desks = [_desk(store) for store in stores]
    await _create(desks[0])
    claims = [_claim(desks[number % 5], WalletId(f"w-{number}")) for number in range(10)]
    answers = await asyncio.gather(*claims)
    assert Counter(_word(answer) for answer in answers) == {"accepted": 1, "seat_taken": 9}
    recorded = await stores[0].log.read_stream(ESCROW)
    events = [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded]
    (seated,) = [event for event in events if isinstance(event, WalletClaimed)]
    assert seated.wallet_id == f"w-{[_word(answer) for answer in answers].index('accepted')}"


async def test_of_ten_seats_that_claim_one_wallet_at_once_one_has_it(store_world: StoreWorld) -> None:
    stores = [await store_world.open(node_id=f"n{number}") for number in range(5)]
    wallet = WalletId("w-shared")
    answers = await asyncio.gather(*(_assign(stores[number % 5], wallet, number=number) for number in range(10)))
    assert Counter(answers) == {True: 1, False: 9}


async def _assign(store: Store, wallet: WalletId, *, number: int) -> bool:
    register, escrow_id = WalletRegister(store.log), EscrowId(f"esc_{number}")
    while True:
        try:
            return await register.assign(wallet, escrow_id=escrow_id, role=Role.BUYER, at=Micros(1))
        except (LogBusy, LogUnavailable, OutcomeUnknown):
            continue


def _desk(store: Store) -> Desk:
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=store.log, clock=clock),
        clock=clock,
        on_parked=lambda _, failure: print("parked", failure),
    )
    return Desk(directory)


async def _create(desk: Desk) -> None:
    terms = Terms(
        escrow_id=ESCROW,
        order_id=OrderId("order-seat"),
        buyer_id=BUYER,
        vendor_id=VENDOR,
        arbiter_id=ARBITER,
        amount=Atomic(AMOUNT),
        network="regtest",
        seats=dict.fromkeys(THREE, SeatKind.POOL),
        policy=Policy(),
    )
    command = c.CreateEscrow(at=Micros(1), terms=terms, by=BUYER)
    answer = await desk.handle(ESCROW, command, command_id=derived_id("create"), actor="test")
    assert isinstance(answer, Accepted)


async def _claim(desk: Desk, wallet_id: WalletId) -> Answer:
    claim = c.ClaimWallet(
        at=Micros(2), role=Role.BUYER, wallet_id=wallet_id, identity_key="11" * 32, secrets=Sealed("s")
    )
    while True:
        try:
            command_id = derived_id("claim", wallet_id)
            return await desk.handle(ESCROW, claim, command_id=command_id, actor="seat", body_hash="claim")
        except (LogBusy, LogUnavailable):
            continue


def _word(answer: Answer) -> str:
    return "accepted" if isinstance(answer, Accepted) else answer.code
