"""A hosted arbiter's wallet is backed up before there is an address, and put back wherever it was lost: paid once."""

import asyncio
import dataclasses
import itertools
from collections.abc import Mapping
from typing import cast

import pytest
from msgspec.structs import replace

from actors.desk import derived_id
from actors.escrow import LostLease
from actors.sealed import EscrowSecrets
from actors.seat import seat_name
from actors.simulation import Fault, SimFiles, SimFolder
from actors.simulation.faults import Faults, PlannedFault
from actors.wallet_backup import WalletBackup, open_backup
from actors.wallet_restore import NotRestored, RestoreLimits, Restorer
from domain import commands as c
from domain.events import Verdict, WalletBackedUp, WalletRestored
from domain.ids import CaseId, EscrowId, Micros, Sealed, UserId
from domain.roles import Role
from domain.setup import payin_address
from domain.states import Refunded, money_of
from domain.terms import Policy
from eventstore.api import Fence, LeaseRow, Leases
from service.node import Node
from tests.backups import BACKED_UP, OFFLINE, at_rest, backup_in, events_of
from tests.given import AMOUNT, ARBITER, BUYER
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, pay_in, payout_address, set_addresses, tell, until, until_true

FEE = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000
OPERATOR = UserId("operator")
IMPATIENT = RestoreLimits(wait_s=0.2, look_s=0.05)


class DyingDisk(Faults):
    """Faults of a wallet process whose folder is lost in the moment in which one of them strikes."""

    def __init__(self, folder: SimFolder, method: str, fault: Fault) -> None:
        super().__init__()
        self._folder = folder
        self.plan(method, fault)

    def take(self, method: str) -> PlannedFault | None:
        """Hands out the fault, and loses the folder with it."""
        planned = super().take(method)
        if planned is not None:
            empty(self._folder)
        return planned


class FullDisk(SimFiles):
    """A folder on a disk that takes nothing more."""

    def put_back(self, name: str, keys: bytes) -> None:
        raise OSError("the disk is full")


def lose(world: SimWorld) -> None:
    """Ends the arbiter's wallet process at once, and loses all that lay in its folder."""
    for wallet in world.wallets[Role.ARBITER]:
        wallet.kill()  # politely ended, or left alone, it would save what it has open beside what is put back
    empty(world.folders[Role.ARBITER])


def empty(folder: SimFolder) -> None:
    """Loses all that lies in a folder."""
    folder.keys.clear()
    folder.caches.clear()


async def backed_up(world: SimWorld, node: Node, escrow_id: str = "esc_sim") -> tuple[EscrowId, WalletBackup]:
    """Sets an escrow up and opens its backup, as an operator does on another machine."""
    created = await create(node, escrow_id=escrow_id, policy=BACKED_UP)
    await set_addresses(node, created)
    await until(node, created, "awaiting_funding")
    await at_rest(node.store, seat_name(created, Role.ARBITER))
    box = backup_in(await events_of(node.store, created)).box
    return created, open_backup(box, private_key=bytes(OFFLINE))


def restorer(world: SimWorld, node: Node, limits: RestoreLimits | None = None) -> Restorer:
    """A restorer beside the node that runs, on the same log."""
    return Restorer(
        desk=node.desk,
        seat_leases=node.store.seat_leases,
        slot_leases=node.store.slot_leases,
        vault=node.store.vault,
        files=SimFiles(world.folders[Role.ARBITER]),
        clock=node.clock,
        limits=limits or RestoreLimits(look_s=0.02),
    )


async def ruled_for_the_buyer(world: SimWorld, node: Node, escrow_id: EscrowId) -> None:
    """Pays in, and lets the buyer complain and the arbiter give it the money back."""
    await pay_in(world, node, escrow_id)
    await until(node, escrow_id, "funded")
    complaint = c.OpenDispute(at=Micros(0), by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim"))
    await tell(node, escrow_id, complaint, key="dispute")
    ruling = c.ResolveDispute(
        at=Micros(0), by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("because")
    )
    await tell(node, escrow_id, ruling, key="rule")


async def refunded(world: SimWorld, node: Node, escrow_id: EscrowId) -> Refunded:
    """Mines until the ruling is paid for good."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            world.chain.mine(1)
            state = await node.desk.state(escrow_id)
            if isinstance(state, Refunded):
                return state
            await asyncio.sleep(0.02)


def paid_once(world: SimWorld, state: Refunded) -> None:
    """Compares what buyer and arbiter got with the ruling, to the atomic unit, and looks for anything paid twice."""
    mined = [tx for block in world.chain.blocks_from(0) for tx in block.txs]
    (tx,) = [each for each in (*mined, *world.chain.pool.values()) if each.inputs]
    assert tx.hash == state.tx_hash
    paid = {role: sum(o.amount for o in tx.outputs if o.address == payout_address(role)) for role in Role}
    assert paid == {Role.BUYER: AMOUNT - FEE - tx.fee, Role.VENDOR: 0, Role.ARBITER: FEE}
    assert world.chain.nonce_reuses == []


# -- backed up -----------------------------------------------------------------------------------------------


async def test_the_box_holds_the_keys_file_and_the_password_that_open_the_wallet() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        state = await until(node, escrow_id, "awaiting_funding")
        own = await EscrowSecrets(node.store.vault, escrow_id).wallet(state, Role.ARBITER)
        assert (backup.file, backup.password, backup.identity_seed) == (own.file, own.password, own.identity_seed)
        assert backup.keys_file == SimFiles(world.folders[Role.ARBITER]).keys(own.file)
        money = money_of(state)
        assert money is not None and backup.address == money.address == payin_address(state)
        assert backup.height <= money.since_height + 1
        assert (backup.escrow_id, backup.role, backup.network) == (escrow_id, Role.ARBITER, "regtest")


async def test_a_folder_that_cannot_be_read_keeps_the_address_from_being_shown_and_says_so() -> None:
    world = SimWorld()
    world.folders[Role.ARBITER].readable = False
    async with world.running() as node:
        escrow_id = await create(node, policy=BACKED_UP)
        await set_addresses(node, escrow_id)
        async with asyncio.timeout(PATIENCE_S):
            while Role.ARBITER not in (state := await until(node, escrow_id, "setting_up")).core.failures:
                await asyncio.sleep(0.01)
        assert state.core.failures[Role.ARBITER].reason == "keys_file_unreadable"
        assert payin_address(state) is None
        world.folders[Role.ARBITER].readable = True
        await until(node, escrow_id, "awaiting_funding")
        backup_in(await events_of(node.store, escrow_id))


async def test_a_keys_file_that_changes_while_it_is_read_is_not_backed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read, numbers = SimFiles.keys, itertools.count()
    monkeypatch.setattr(SimFiles, "keys", lambda self, name: read(self, name) + next(numbers).to_bytes(8))
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node, policy=BACKED_UP)
        async with asyncio.timeout(PATIENCE_S):
            while Role.ARBITER not in (state := await until(node, escrow_id, "setting_up")).core.failures:
                await asyncio.sleep(0.01)
        assert state.core.failures[Role.ARBITER].reason == "keys_file_changed"
        monkeypatch.undo()
        await until(node, escrow_id, "awaiting_funding")


async def test_without_a_key_in_the_terms_no_wallet_is_backed_up() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await create(node)
        await until(node, escrow_id, "awaiting_funding")
        events = await events_of(node.store, escrow_id)
    assert not [event for event in events if isinstance(event, WalletBackedUp)]


# -- put back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("export_multisig_info", Fault.KILLED_BEFORE),
        ("export_multisig_info", Fault.KILLED_AFTER),
        ("describe_transfer", Fault.KILLED_BEFORE),
        ("sign_multisig", Fault.KILLED_BEFORE),
        ("sign_multisig", Fault.KILLED_AFTER),
        ("submit_multisig", Fault.KILLED_BEFORE),
        ("submit_multisig", Fault.KILLED_AFTER),
    ],
)
async def test_a_wallet_lost_in_the_middle_of_an_epoch_is_put_back_and_the_money_is_paid_once(
    method: str, fault: Fault
) -> None:
    world = SimWorld()
    process, folder = world.wallets[Role.ARBITER][0], world.folders[Role.ARBITER]
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        process.faults = DyingDisk(folder, method, fault)
        await ruled_for_the_buyer(world, node, escrow_id)
        await until_true(lambda: not process.faults.left(method))
        await restorer(world, node).put_back(backup, by=OPERATOR)
        assert set(folder.keys) >= {backup.file}
        state = await refunded(world, node, escrow_id)
        events = await events_of(node.store, escrow_id)
    paid_once(world, state)
    assert len([event for event in events if isinstance(event, WalletRestored)]) == 1


async def test_a_wallet_lost_at_rest_with_its_service_is_put_back_beside_the_next_one() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
    lose(world)
    async with world.running() as node:
        await restorer(world, node).put_back(backup, by=OPERATOR)
        await ruled_for_the_buyer(world, node, escrow_id)
        paid_once(world, await refunded(world, node, escrow_id))


async def test_nothing_is_put_back_beside_a_wallet_that_is_there_nor_beside_its_cache() -> None:
    world = SimWorld()
    folder = world.folders[Role.ARBITER]
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        with pytest.raises(NotRestored, match="has files in the folder"):
            await restorer(world, node).put_back(backup, by=OPERATOR)
        del folder.keys[backup.file]
        with pytest.raises(NotRestored, match="has files in the folder"):
            await restorer(world, node).put_back(backup, by=OPERATOR)
        events = await events_of(node.store, escrow_id)
    assert not [event for event in events if isinstance(event, WalletRestored)]


async def test_a_restore_that_breaks_off_before_the_file_is_there_is_begun_again() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        lose(world)
        broken = dataclasses.replace(restorer(world, node), files=FullDisk(world.folders[Role.ARBITER]))
        with pytest.raises(OSError, match="full"):
            await broken.put_back(backup, by=OPERATOR)
        assert SimFiles(world.folders[Role.ARBITER]).lost(backup.file)
        await restorer(world, node).put_back(backup, by=OPERATOR)
        await ruled_for_the_buyer(world, node, escrow_id)
        paid_once(world, await refunded(world, node, escrow_id))
        events = await events_of(node.store, escrow_id)
    assert len([event for event in events if isinstance(event, WalletRestored)]) == 2


async def test_a_box_that_somebody_else_sealed_is_not_put_back() -> None:
    world = SimWorld()
    async with world.running() as node:
        _, backup = await backed_up(world, node)
        _, other = await backed_up(world, node, "esc_other")
        lose(world)
        forged = replace(backup, password="somebody else's")
        moved = replace(other, escrow_id=backup.escrow_id)
        for wrong in (forged, moved, replace(backup, escrow_id=EscrowId("esc_none"))):
            with pytest.raises(NotRestored):
                await restorer(world, node).put_back(wrong, by=OPERATOR)
    assert not world.folders[Role.ARBITER].keys


async def test_nothing_is_put_back_while_an_agent_is_at_work_on_the_seat() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        lose(world)
        async with asyncio.timeout(PATIENCE_S):
            seat = seat_name(escrow_id, Role.ARBITER)
            while (lease := await node.store.seat_leases.acquire(seat, holder="another node", seconds=600)) is None:
                await asyncio.sleep(0.01)
        with pytest.raises(NotRestored, match="an agent is at work"):
            await restorer(world, node, IMPATIENT).put_back(backup, by=OPERATOR)
        assert SimFiles(world.folders[Role.ARBITER]).lost(backup.file)
        await node.store.seat_leases.release(lease)
        await restorer(world, node).put_back(backup, by=OPERATOR)


async def test_nothing_is_put_back_while_a_slot_may_have_the_wallet_open_unless_that_is_gone_for_good() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        lose(world)
        seat, slots = seat_name(escrow_id, Role.ARBITER), node.store.slot_leases
        lease = await slots.acquire("rpc-of-old", holder="a dead node", seconds=600, detail=seat)
        assert lease is not None
        with pytest.raises(NotRestored, match="rpc-of-old"):
            await restorer(world, node, IMPATIENT).put_back(backup, by=OPERATOR)
        with pytest.raises(NotRestored, match="rpc-of-old is in use"):
            await restorer(world, node, IMPATIENT).put_back(backup, by=OPERATOR, gone=["rpc-of-old"])
        assert await slots.renew(replace(lease, seconds=0))
        await restorer(world, node).put_back(backup, by=OPERATOR, gone=["rpc-of-old"])
        assert (await slots.held())["rpc-of-old"].released


class StandingStill:
    """Slot leases that are asked by a restore which then stands still until the seat is another's."""

    def __init__(self, node: Node, seat: str) -> None:
        self._node, self._seat = node, seat

    async def held(self) -> Mapping[str, LeaseRow]:
        """Lets another node have the seat before it answers."""
        assert await self._node.store.seat_leases.acquire(self._seat, holder="another node", seconds=600)
        return {}


async def test_a_restore_that_stood_still_until_the_seat_was_anothers_says_and_does_nothing() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        lose(world)
        slow = dataclasses.replace(
            restorer(world, node, RestoreLimits(lease_s=0, look_s=0.02)),
            slot_leases=cast(Leases, StandingStill(node, seat_name(escrow_id, Role.ARBITER))),
        )
        with pytest.raises(LostLease):
            await slow.put_back(backup, by=OPERATOR)
        assert SimFiles(world.folders[Role.ARBITER]).lost(backup.file)
        events = await events_of(node.store, escrow_id)
    assert not [event for event in events if isinstance(event, WalletRestored)]


async def test_an_agent_of_the_lost_machine_that_lives_on_can_add_nothing_after_the_restore() -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id, backup = await backed_up(world, node)
        lose(world)
        async with asyncio.timeout(PATIENCE_S):
            seat = seat_name(escrow_id, Role.ARBITER)
            while (lease := await node.store.seat_leases.acquire(seat, holder="lost", seconds=0)) is None:
                await asyncio.sleep(0.01)
        await restorer(world, node).put_back(backup, by=OPERATOR)
        late = c.GiveExport(at=Micros(0), role=Role.ARBITER, export=Sealed("x"), digest="old", covers=())
        with pytest.raises(LostLease):
            await node.desk.handle(
                escrow_id,
                late,
                command_id=derived_id("late"),
                actor="seat:arbiter",
                fence=Fence(seat=seat, fence=lease.fence),
            )
