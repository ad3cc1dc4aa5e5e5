"""A hosted arbiter's wallet lost with its disk while a ruling waits for it, on real wallets: put back, paid once."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.seat import seat_name
from actors.turn_finder import FinderLimits
from actors.wallet_files import FolderFiles
from actors.wallet_restore import Restorer
from domain import commands as c
from domain.events import EpochAbandoned, ExportGiven, Verdict, WalletRestored
from domain.ids import CaseId, Sealed, UserId
from domain.roles import Role
from domain.states import Escrow, Refunded, money_of
from domain.terms import Policy
from eventstore.opening import Store
from service.backups import find_backup, opened
from service.commands.replay import read_all
from service.embedded import PROGRAMS, WALLETS
from tests.backups import BACKED_UP, OFFLINE, at_rest
from tests.given import AMOUNT, ARBITER, BUYER
from tests.real.stage import pids_of, stage_running
from tests.real.test_endings import LIMITS, Player
from tests.real_world import RichChain
from tests.sim_world import moment

pytestmark = [pytest.mark.timeout(1200)]

SOON = dataclasses.replace(LIMITS, finder=FinderLimits(retry_max_s=2))
"""An agent that cannot open the lost wallet asks again soon."""
FEE = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000


@pytest.fixture
async def life(home: Path, rich_chain: RichChain) -> AsyncIterator[Player]:
    async with stage_running(home, rich_chain, host=lambda slot: slot.host, limits=SOON) as stage:
        yield Player(stage, absent=set(), deaths=[])
        assert stage.node.problems == []


async def test_a_lost_arbiters_wallet_is_put_back_with_the_offline_key_and_its_ruling_is_paid(life: Player) -> None:
    (escrow_id,) = await life.set_up("lost", policy=BACKED_UP)
    await life.pay(escrow_id, AMOUNT)
    await life.ready(escrow_id)
    await life.until(escrow_id, _has_arbiters_export, mine=False)
    at = moment(life.stage.node)
    await life.say(escrow_id, c.OpenDispute(at=at, by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim")))
    folder, wallet = life.stage.home / WALLETS / Role.ARBITER, (await life.state(escrow_id)).core.seats[Role.ARBITER]
    await at_rest(life.stage.node.store, seat_name(escrow_id, Role.ARBITER))
    await _lose_disk(life, folder, wallet.wallet_id)
    ruling = c.ResolveDispute(at=at, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("so"))
    await life.say(escrow_id, ruling)
    await life.until(escrow_id, _has_proposal_nobody_can_sign, mine=False)

    store = life.stage.node.store
    backup = opened(find_backup(await read_all(store.log, escrow_id)), private_key=bytes(OFFLINE))
    await _restorer(life, store, folder).put_back(backup, by=UserId("operator"))
    assert FolderFiles(folder).exists(wallet.wallet_id)

    end = await life.ended(escrow_id)
    assert isinstance(end, Refunded)
    (fee,) = {*await life.network_fees(escrow_id)}
    assert await life.held(escrow_id) == {Role.BUYER: AMOUNT - FEE - fee, Role.VENDOR: 0, Role.ARBITER: FEE}
    events = await life.stage.events(escrow_id)
    (restored,) = [event for event in events if isinstance(event, WalletRestored)]
    after = events[events.index(restored) + 1 :]
    assert [event.reason for event in after if isinstance(event, EpochAbandoned)] == ["export_void"]
    assert [event.role for event in after if isinstance(event, ExportGiven)] == [Role.ARBITER]
    assert len([tx for payout in end.money.payouts for tx in payout.signed]) == 1


async def _lose_disk(life: Player, folder: Path, wallet: str) -> None:
    """Ends the arbiter's wallet processes at once and removes every file of its wallet."""
    for slot in life.stage.slots:
        if slot.role is Role.ARBITER:
            for pid in pids_of("monero-wallet-rpc", folder=life.stage.home / PROGRAMS / slot.name):
                os.kill(pid, signal.SIGKILL)
    for path in folder.glob(f"{wallet}*"):
        await asyncio.to_thread(path.unlink)
    assert FolderFiles(folder).lost(wallet)


def _has_arbiters_export(state: Escrow) -> bool:
    money = money_of(state)
    return money is not None and Role.ARBITER in money.exports


def _has_proposal_nobody_can_sign(state: Escrow) -> bool:
    money = money_of(state)
    epoch = money.payout.epoch if money and money.payout else None
    failed = state.core.failures.get(Role.ARBITER)
    return epoch is not None and epoch.proposal is not None and failed is not None and failed.reason == "open_failed"


def _restorer(life: Player, store: Store, folder: Path) -> Restorer:
    return Restorer(
        desk=life.stage.node.desk,
        seat_leases=store.seat_leases,
        slot_leases=store.slot_leases,
        vault=store.vault,
        files=FolderFiles(folder),
        clock=life.stage.node.clock,
    )
