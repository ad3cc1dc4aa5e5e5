"""The scanner against what a real wallet says of the same address, on a private chain that grows, forks and shrinks.

The wallet is an ordinary one: which outputs are an address' own, and their key images, do not depend on who holds
shares of the spend key.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.monero_programs import WalletProgram, launch_regtest, launch_wallet, reserved_port
from actors.ports import WatchTarget
from actors.processes import ProcessKeeper
from actors.scan.follower import ScannerWatch
from actors.scan.process import ScannerProcess
from actors.wallet_rpc import HttpWallet
from domain.chain import ChainView, SeenOutput, SeenSpend
from domain.ids import Address, EscrowId, KeyImage, OneTimeKey, TxHash
from ops.regtest.chain import FunderWallet, RegtestChain
from tests.real_world import until_passed_on
from tests.scan_process import PATIENT

pytestmark = [
    pytest.mark.xdist_group("real"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1200),
]

RING_AND_UNLOCK = 80
"""Blocks until rewards may be spent (60) and enough of them exist to hide a spend among (16)."""
XMR = 10**12
TO_A_SUBADDRESS = 5 * XMR
"""An amount paid nowhere else: the wallet lists its subaddresses as well, the scanner watches main addresses only."""


class Purse(msgspec.Struct):
    """A wallet in a process of its own, and the address that it watches."""

    payer: FunderWallet
    wallet: HttpWallet
    address: Address
    target: WatchTarget


class World(msgspec.Struct):
    """A private chain, a wallet whose address is watched, another that pays, and one scanner for all tests."""

    url: str
    daemon: HttpDaemon
    chain: RegtestChain
    watched: Purse
    funder: Purse
    scanner: ScannerWatch

    async def look(self) -> ChainView:
        return (await self.scanner.look([self.watched.target]))[self.watched.target.escrow_id]

    async def seen(self, tx_hash: TxHash) -> list[tuple[int, int | None, bool]]:
        view = await self.look()
        mine = [output for output in view.outputs if output.tx_hash == tx_hash]
        return sorted((output.amount, output.height, output.unlocked) for output in mine)

    async def pay(self, amount: int, *, unlock_time: int = 0) -> TxHash:
        await self.funder.payer.refresh()
        return await self.passed_on(self.funder.payer.pay(self.watched.address, amount, unlock_time=unlock_time))

    async def passed_on(self, paying: Awaitable[TxHash]) -> TxHash:
        paid = await paying
        await until_passed_on(self.daemon, paid)
        return paid

    async def mine(self, blocks: int = 1) -> int:
        """Mines blocks and returns the height of the first."""
        return await self.chain.mine(blocks, to=self.funder.address) - blocks + 1

    async def height(self) -> int:
        return (await self.daemon.info()).height


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("scanner")
    keeper = ProcessKeeper(folder / "programs")
    async with AsyncExitStack() as stack:
        port = stack.enter_context(reserved_port())
        process = await launch_regtest(keeper, folder=folder / "chain", port=port)
        stack.push_async_callback(process.kill)
        url = f"http://127.0.0.1:{port}"
        daemon, chain = HttpDaemon(url), RegtestChain(url)
        stack.push_async_callback(daemon.aclose)
        stack.push_async_callback(chain.aclose)
        opening = (_purse(name, keeper, stack, folder=folder, daemon_port=port) for name in ("watched", "funder"))
        watched, funder = await asyncio.gather(*opening)
        await chain.mine(1, to=watched.address)
        await chain.mine(RING_AND_UNLOCK, to=funder.address)
        scanner = ScannerWatch(daemon, clock=SystemClock(), network="regtest")
        yield World(url=url, daemon=daemon, chain=chain, watched=watched, funder=funder, scanner=scanner)


async def _purse(name: str, keeper: ProcessKeeper, stack: AsyncExitStack, *, folder: Path, daemon_port: int) -> Purse:
    port = stack.enter_context(reserved_port())
    program = WalletProgram(name=name, folder=folder / name, port=port, daemon_address=f"127.0.0.1:{daemon_port}")
    process, wallet = await launch_wallet(keeper, program)
    stack.push_async_callback(process.kill)
    stack.push_async_callback(wallet.aclose)
    payer = FunderWallet(program.url)
    stack.push_async_callback(payer.aclose)
    address = await payer.open(name, password="throw-away")
    target = WatchTarget(escrow_id=EscrowId(name), address=address, view_key=await wallet.view_key(), since_height=1)
    return Purse(payer=payer, wallet=wallet, address=address, target=target)


async def as_the_wallet_lists(purse: Purse) -> list[SeenOutput]:
    for _ in range(2):  # after a reorganisation the first refresh may answer success and not move
        await purse.wallet.refresh()
    return in_order(
        SeenOutput(
            one_time_key=output.one_time_key,
            tx_hash=output.tx_hash,
            amount=output.amount,
            height=output.height,
            unlocked=output.unlocked,
        )
        for output in await purse.wallet.incoming_transfers()
    )


def mined(view: ChainView) -> list[SeenOutput]:
    return in_order(output for output in view.outputs if output.height is not None)


def in_order(outputs) -> list[SeenOutput]:
    return sorted(outputs, key=lambda output: (output.height, output.one_time_key))


async def key_images(purse: Purse) -> dict[OneTimeKey, KeyImage]:
    await purse.wallet.refresh()
    listed = await purse.wallet.incoming_transfers()
    return {output.one_time_key: output.key_image for output in listed if output.key_image}


async def test_a_mined_reward_counts_and_unlocks_like_any_deposit(world: World):
    (reward,) = mined(await world.look())
    assert (reward.height, reward.unlocked) == (1, True)
    assert [reward] == await as_the_wallet_lists(world.watched)


async def test_a_deposit_goes_from_the_pool_to_its_block_and_unlocks_at_exactly_ten_confirmations(world: World):
    paid = await world.pay(2 * XMR)
    assert await world.seen(paid) == [(2 * XMR, None, False)]
    height = await world.mine()
    assert await world.seen(paid) == [(2 * XMR, height, False)]
    await world.mine(8)
    assert await world.seen(paid) == [(2 * XMR, height, False)]
    assert mined(await world.look()) == await as_the_wallet_lists(world.watched)
    await world.mine()
    assert await world.height() - height == 10
    assert await world.seen(paid) == [(2 * XMR, height, True)]
    assert mined(await world.look()) == await as_the_wallet_lists(world.watched)


async def test_two_outputs_and_a_subaddress_of_another_in_one_transaction(world: World):
    await world.funder.payer.refresh()
    to, other = world.watched.address, await world.funder.payer.new_address()
    payments = [(to, 3 * XMR), (to, 4 * XMR), (other, TO_A_SUBADDRESS)]
    paid = await world.passed_on(world.funder.payer.pay_many(payments))
    assert await world.seen(paid) == [(3 * XMR, None, False), (4 * XMR, None, False)]
    height = await world.mine()
    assert await world.seen(paid) == [(3 * XMR, height, False), (4 * XMR, height, False)]


async def test_an_unlock_time_keeps_a_deposit_locked_until_the_very_block_at_which_the_wallet_has_it_unlocked(
    world: World,
):
    until = await world.height() + 13
    paid = await world.pay(XMR, unlock_time=until)
    height = await world.mine(12)
    assert await world.height() == until - 1 >= height + 10
    assert await world.seen(paid) == [(XMR, height, False)]
    assert mined(await world.look()) == await as_the_wallet_lists(world.watched)
    await world.mine()
    assert await world.seen(paid) == [(XMR, height, True)]
    assert mined(await world.look()) == await as_the_wallet_lists(world.watched)


async def test_a_reorganisation_returns_a_deposit_to_the_pool_and_its_flushing_makes_it_vanish(world: World):
    paid = await world.pay(XMR)
    height = await world.mine(3)
    assert await world.seen(paid) == [(XMR, height, False)]
    await world.chain.pop(3)
    assert await world.seen(paid) == [(XMR, None, False)]
    await world.chain.flush_pool([paid])
    assert await world.seen(paid) == []
    await world.mine(4)
    assert await world.seen(paid) == []
    assert mined(await world.look()) == await as_the_wallet_lists(world.watched)


async def test_a_longer_branch_that_came_unseen_takes_a_deposit_back_and_brings_another(world: World):
    paid = await world.pay(XMR)
    await world.mine(3)
    await world.look()
    await world.chain.pop(3)
    await world.chain.flush_pool([paid])
    reward = await world.chain.mine(1, to=world.watched.address)
    await world.mine(3)
    assert await world.seen(paid) == []
    assert [output.height for output in mined(await world.look())][-1] == reward
    assert mined(await world.look()) == await as_the_wallet_lists(world.watched)


async def test_a_payout_is_seen_by_its_key_images_in_the_pool_in_its_block_and_back_in_the_pool(world: World):
    without = world.watched.target
    world.watched.target = msgspec.structs.replace(without, key_images=await key_images(world.watched))
    assert (await world.look()).spends == ()
    paid = await world.passed_on(world.watched.payer.pay(world.funder.address, XMR))
    assert {(spend.tx_hash, spend.height) for spend in (await world.look()).spends} == {(paid, None)}
    height = await world.mine()
    assert {(spend.tx_hash, spend.height) for spend in (await world.look()).spends} == {(paid, height)}
    await world.chain.pop(1)
    assert {(spend.tx_hash, spend.height) for spend in (await world.look()).spends} == {(paid, None)}
    height = await world.mine()
    spends = (await world.look()).spends
    assert {(spend.tx_hash, spend.height) for spend in spends} == {(paid, height)}
    await world.watched.wallet.refresh()
    listed = {output.one_time_key for output in await world.watched.wallet.incoming_transfers() if output.spent}
    assert {spend.one_time_key for spend in spends} == listed
    world.watched.target = without


async def test_key_images_learned_after_a_payout_was_mined_still_find_it(world: World):
    scanner = ScannerWatch(world.daemon, clock=SystemClock(), network="regtest")
    without = world.watched.target
    informed = msgspec.structs.replace(without, key_images=await key_images(world.watched))
    assert (await scanner.look([without]))[without.escrow_id].spends == ()
    late: tuple[SeenSpend, ...] = (await scanner.look([informed]))[without.escrow_id].spends
    at_once = ScannerWatch(world.daemon, clock=SystemClock(), network="regtest")
    assert late
    assert late == (await at_once.look([informed]))[without.escrow_id].spends


async def test_a_target_added_later_and_scanners_started_later_here_and_apart_see_all_that_the_wallets_list(
    world: World,
):
    targets = [world.watched.target, world.funder.target]
    views = await world.scanner.look(targets)
    for purse in (world.watched, world.funder):
        listed = [output for output in await as_the_wallet_lists(purse) if output.amount != TO_A_SUBADDRESS]
        assert len(listed) > 5
        assert mined(views[purse.target.escrow_id]) == listed
    fresh = ScannerWatch(world.daemon, clock=SystemClock(), network="regtest")
    assert await fresh.look(targets) == views
    for daemons in ([world.url], [world.url, world.url]):
        apart = ScannerProcess(daemons, network="regtest", limits=PATIENT)
        assert await apart.look(targets) == views
        await apart.aclose()
    assert world.scanner.reports == ()
