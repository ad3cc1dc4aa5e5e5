"""One escrow after another on real wallets and a real chain, through a node: both endings, to the atomic unit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.ports import WalletRpc
from actors.scan.follower import ScannerWatch
from actors.sealed import digest_of
from domain.events import AddressConfirmed, AnyEvent, DepositSeen, PayoutProposed, SpendConfirmed
from domain.evolve import fold
from domain.ids import Address, EscrowId
from domain.roles import THREE, Role
from domain.setup import is_placeholder, payin_address
from domain.states import Completed, Escrow, Refunded
from domain.terms import Policy
from eventstore.api import Append, EventLog, NewEvent
from eventstore.opening import memory_store
from ops.regtest.chain import FunderWallet, RegtestChain
from schemas.codec import decode, encode
from service.embedded import EmbeddedWorld
from service.node import Node, NodeLimits
from service.reconcile import ReconcileLimits, Reconciler
from tests.chaos.child import do_what_is_awaited
from tests.given import AMOUNT
from tests.real.child import mining_helps
from tests.real_world import FUNDER, RichChain, WrappedHost, balances, funder_running, paid_by

pytestmark = [pytest.mark.timeout(1200)]

LIFE_S = 400.0
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


@dataclass(kw_only=True)
class Stage:
    """A node on real wallets, and an ordinary wallet beside it."""

    node: Node
    daemon: HttpDaemon
    chain: RegtestChain
    funder: FunderWallet
    rich: RichChain
    placeholders: list[Address]

    async def live(self, escrow_id: EscrowId, *, dispute: bool) -> Escrow:
        """Plays one escrow to its end."""
        paid = False
        async with asyncio.timeout(LIFE_S):
            while True:
                state = await self.node.desk.state(escrow_id)
                if isinstance(state, (Completed, Refunded)):
                    return state
                await do_what_is_awaited(
                    self.node, state, dispute=dispute, escrow_id=escrow_id, addresses=self.rich.receivers.__getitem__
                )
                if state is not None and not paid and (address := payin_address(state)):
                    await self.funder.refresh()
                    await self.funder.pay(address, AMOUNT)
                    paid = True
                elif state is not None:
                    await self._mine_if_awaited(state)
                await asyncio.sleep(0.05)

    async def primed(self) -> set[str]:
        """Waits until each slot has a fresh wallet open, and names the wallets."""
        async with asyncio.timeout(LIFE_S):
            while sum(counts.primed for counts in self.node.slot_counts().values()) < len(THREE):
                await asyncio.sleep(0.1)
        return {row.name for row in (await self.node.store.primed.free()).values()}

    async def events(self, escrow_id: EscrowId) -> list[AnyEvent]:
        """Reads an escrow's whole stream."""
        recorded = await self.node.store.log.read_stream(escrow_id)
        return [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded]

    async def _mine_if_awaited(self, state: Escrow) -> None:
        if mining_helps(state):
            await self.chain.mine(1, to=self.rich.miner)


@pytest.fixture
async def stage(home: Path, rich_chain: RichChain) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        world = EmbeddedWorld(home=home)
        stack.push_async_callback(world.stop)
        await world.start_chain_and_slots()
        funder = await stack.enter_async_context(funder_running(home, daemon_url=world.daemon_url))
        await funder.open(FUNDER, password="")
        stack.push_async_callback(funder.close)
        daemon, chain = HttpDaemon(world.daemon_url), RegtestChain(world.daemon_url)
        stack.push_async_callback(daemon.aclose)
        stack.push_async_callback(chain.aclose)
        shown: list[Address] = []
        for slot in world.slots:
            slot.host = WrappedHost(slot.host, lambda rpc: cast(WalletRpc, Curious(rpc, shown)))
        node = Node(
            store=memory_store(partitions=4),
            clock=SystemClock(),
            network="regtest",
            slots=world.slots,
            daemon=daemon,
            watch=ScannerWatch(daemon, clock=SystemClock(), network="regtest"),
            limits=NodeLimits(watch_poll_s=0.2),
        )
        await node.start()
        stack.push_async_callback(node.stop)
        yield Stage(node=node, daemon=daemon, chain=chain, funder=funder, rich=rich_chain, placeholders=shown)


async def test_both_endings_pay_to_the_atomic_unit_and_no_placeholder_is_ever_shown(stage: Stage) -> None:
    # One test for three claims: bringing real wallets up and through a set-up is what costs.
    released = await _released(stage, EscrowId("esc_released"))
    await _refunded(stage, EscrowId("esc_refunded"), before=released)
    assert len(stage.placeholders) == 2 * len(THREE)
    assert all(is_placeholder(shown) for shown in stage.placeholders)
    for escrow_id in ("esc_released", "esc_refunded"):
        _check_addresses(await stage.events(EscrowId(escrow_id)), stage.placeholders)
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
    state = await stage.live(escrow_id, dispute=False)
    assert isinstance(state, Completed)
    vendors = AMOUNT - _network_fee(await stage.events(escrow_id))
    held = await balances(stage.funder, stage.rich)
    assert held == {Role.BUYER: 0, Role.VENDOR: vendors, Role.ARBITER: 0}
    assert await paid_by(stage.funder, state.tx_hash, stage.rich) == {Role.VENDOR: vendors}
    return held


async def _refunded(stage: Stage, escrow_id: EscrowId, *, before: dict[Role, int]) -> None:
    """The arbiter gets exactly two percent of the amount, the buyer all the rest but the network fee."""
    primed = await stage.primed()
    state = await stage.live(escrow_id, dispute=True)
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
