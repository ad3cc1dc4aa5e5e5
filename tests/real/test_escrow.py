"""One escrow after another on real wallets and a real chain, through a node: both endings, to the atomic unit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from actors.clock import SystemClock
from actors.ports import WalletRpc
from actors.scan.follower import ScannerWatch
from actors.sealed import digest_of
from actors.slots import Slot, SlotHost
from domain.events import AddressConfirmed, AnyEvent, DepositSeen, PayoutProposed, SpendConfirmed
from domain.evolve import fold
from domain.ids import Address, EscrowId
from domain.roles import THREE, Role
from domain.setup import is_placeholder, payin_address
from domain.states import Completed, Escrow, Refunded
from domain.terms import Policy
from eventstore.api import Append, EventLog, NewEvent
from eventstore.opening import memory_store
from schemas.codec import encode
from service.reconcile import ReconcileLimits, Reconciler
from tests.chaos.child import Ending, do_what_is_awaited
from tests.given import AMOUNT
from tests.real.child import mining_helps
from tests.real.stage import LIFE_S, Stage, stage_running
from tests.real_world import RichChain, WrappedHost, balances, paid_by

pytestmark = [pytest.mark.timeout(1200)]

ARBITERS = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000


class Curious:
    """A wallet that is asked for its address right after `make_multisig`: it then shows its placeholder."""

    def __init__(self, rpc: WalletRpc, shown: list[Address]) -> None:
        self._rpc, self._shown = rpc, shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    async def make_multisig(self, infos: Sequence[str], *, password: str) -> str:
        made = await self._rpc.make_multisig(infos, password=password)
        self._shown.append(await self._rpc.get_address())
        return made


@pytest.fixture
async def stage(home: Path, rich_chain: RichChain, placeholders: list[Address]) -> AsyncIterator[Stage]:
    def curious(slot: Slot) -> SlotHost:
        return WrappedHost(slot.host, lambda rpc: cast(WalletRpc, Curious(rpc, placeholders)))

    async with stage_running(home, rich_chain, host=curious) as stage:
        yield stage


@pytest.fixture
def placeholders() -> list[Address]:
    """What wallets showed right after `make_multisig`."""
    return []


async def live(stage: Stage, escrow_id: EscrowId, *, ending: Ending) -> Escrow:
    """Plays one escrow to its end."""
    paid = False
    async with asyncio.timeout(LIFE_S):
        while True:
            state = await stage.node.desk.state(escrow_id)
            if isinstance(state, (Completed, Refunded)):
                return state
            await do_what_is_awaited(
                stage.node, state, ending=ending, escrow_id=escrow_id, addresses=stage.rich.receivers.__getitem__
            )
            if state is not None and not paid and (address := payin_address(state)):
                await stage.funder.refresh()
                await stage.funder.pay(address, AMOUNT)
                paid = True
            elif state is not None and mining_helps(state):
                await stage.mine()
            await asyncio.sleep(0.05)


async def test_both_endings_pay_to_the_atomic_unit_and_no_placeholder_is_ever_shown(
    stage: Stage, placeholders: list[Address]
) -> None:
    # One test for three claims: bringing real wallets up and through a set-up is what costs.
    released = await _released(stage, EscrowId("esc_released"))
    await _refunded(stage, EscrowId("esc_refunded"), before=released)
    assert len(placeholders) == 2 * len(THREE)
    assert all(is_placeholder(shown) for shown in placeholders)
    for escrow_id in ("esc_released", "esc_refunded"):
        _check_addresses(await stage.events(EscrowId(escrow_id)), placeholders)
    assert stage.node.problems == []
    await _agree_with_the_chain(stage)


async def _agree_with_the_chain(stage: Stage) -> None:
    """The log that was lived agrees with the chain, fees and inputs included; a copy that was changed does not."""
    assert await _differences(stage, stage.node.store.log) == {"esc_released": [], "esc_refunded": []}
    top = (await stage.daemon.info()).height
    looked_up = await _differences(stage, stage.node.store.log, ended_from=top - 1)
    assert looked_up == {"esc_released": [], "esc_refunded": []}
    copy = memory_store(partitions=4).log
    for escrow_id in ("esc_released", "esc_refunded"):
        await _copy(await stage.events(EscrowId(escrow_id)), to=copy, escrow_id=escrow_id)
    assert await _differences(stage, copy) == {
        "esc_released": ["deposit_amount", "payout_fee", "spend_height"],
        "esc_refunded": ["deposit_amount", "payout_fee", "spend_height"],
    }


async def _differences(stage: Stage, log: EventLog, *, ended_from: int | None = None) -> dict[str, list[str]]:
    clock = SystemClock()
    reconciler = Reconciler(
        log,
        stage.node.store.vault,
        stage.daemon,
        watch=lambda: ScannerWatch(stage.daemon, clock=clock, network="regtest"),
        clock=clock,
        limits=ReconcileLimits(settle_s=1, ended_from=ended_from),
    )
    compared = [each async for each in reconciler.all()]
    assert [each.unchecked for each in compared] == [None, None]
    return {each.escrow_id: [found.code for found in each.differences] for each in compared}


async def _copy(events: list[AnyEvent], *, to: EventLog, escrow_id: str) -> None:
    """Writes a life into another log, changed."""
    changed = [_changed(event) for event in events]
    encoded = [(event.at, encode(event)) for event in changed]
    new = tuple(
        NewEvent(type=each.type, schema_version=each.schema_version, occurred_at=at, meta=b"{}", body=each.body)
        for at, each in encoded
    )
    await to.append(Append(stream_id=escrow_id, expected_version=0, events=new, command_id=digest_of(escrow_id)))


def _changed(event: AnyEvent) -> AnyEvent:
    """Another amount, another network fee, another height of the payout."""
    match event:
        case DepositSeen():
            return replace(event, amount=event.amount + 1)
        case PayoutProposed():
            return replace(event, network_fee=event.network_fee + 1)
        case SpendConfirmed():
            return replace(event, height=event.height - 1)
        case _:
            return event


async def _released(stage: Stage, escrow_id: EscrowId) -> dict[Role, int]:
    """The vendor gets all but the network fee; returns what the receivers hold."""
    state = await live(stage, escrow_id, ending=Ending.RELEASE)
    assert isinstance(state, Completed)
    vendors = AMOUNT - _network_fee(await stage.events(escrow_id))
    held = await balances(stage.funder, stage.rich)
    assert held == {Role.BUYER: 0, Role.VENDOR: vendors, Role.ARBITER: 0}
    assert await paid_by(stage.funder, state.tx_hash, stage.rich) == {Role.VENDOR: vendors}
    return held


async def _refunded(stage: Stage, escrow_id: EscrowId, *, before: dict[Role, int]) -> None:
    """The arbiter gets exactly two percent of the amount, the buyer all the rest but the network fee."""
    primed = await stage.primed()
    state = await live(stage, escrow_id, ending=Ending.REFUND)
    assert isinstance(state, Refunded)
    assert {state.core.seats[role].wallet_id for role in THREE} == primed, "made beforehand, with a 1:1 lookahead"
    buyers = AMOUNT - ARBITERS - _network_fee(await stage.events(escrow_id))
    held = await balances(stage.funder, stage.rich)
    assert held == {**before, Role.BUYER: buyers, Role.ARBITER: ARBITERS}
    paid = await paid_by(stage.funder, state.tx_hash, stage.rich)
    assert paid == {Role.BUYER: buyers, Role.ARBITER: ARBITERS}


def _network_fee(events: list[AnyEvent]) -> int:
    return next(event.network_fee for event in reversed(events) if isinstance(event, PayoutProposed))


def _check_addresses(events: list[AnyEvent], placeholders: list[Address]) -> None:
    """Looks at the escrow after each of its events: what address would be shown then?"""
    confirmed: dict[Role, AddressConfirmed] = {}
    shown: set[Address] = set()
    state: Escrow | None = None
    for event in events:
        state = fold([event], start=state)
        if isinstance(event, AddressConfirmed):
            confirmed[event.role] = event
        address = payin_address(state) if state is not None else None
        if address is not None:
            assert set(confirmed) == set(THREE)
            assert all(each.ready and (each.threshold, each.total) == (2, 3) for each in confirmed.values())
            assert {each.address for each in confirmed.values()} == {address}
            shown.add(address)
    assert len(shown) == 1
    assert not shown & set(placeholders)
