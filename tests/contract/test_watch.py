"""What every watch shows: the simulated one, and the scanner on a daemon in memory, here and in its own process.

The scanner on a real daemon is compared with a real wallet in `tests/real/test_scanner.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Protocol

import msgspec
import pytest

from actors.ports import DaemonDown, Watch, WatchTarget
from actors.scan.process import ScannerProcess
from actors.simulation import SimChain, SimWatch
from actors.simulation.chain import SimTx, key_image_of, outputs_of
from domain.chain import ChainView, SeenSpend, TxFacts
from domain.ids import KeyImage, OneTimeKey, TxHash
from tests.given import NETWORK_FEE
from tests.scan_daemon import answering
from tests.scan_process import PATIENT
from tests.scan_world import NOW_S, MemoryChain, Receiver, image_of, payment
from tests.scan_world import watch as scanner_on

ALICE, BOB = Receiver("alice"), Receiver("bob")
FACTS = TxFacts(network_fee=NETWORK_FEE, unlock_time=0, outputs=2)
"""What a stage's spends say of themselves."""


class Stage(Protocol):
    """A chain on which receivers are paid and their outputs spent, and a watch of it."""

    @property
    def watch(self) -> Watch: ...
    @property
    def chain(self) -> SimChain | MemoryChain: ...
    def pay(self, receiver: Receiver, *amounts: int, unlock_time: int = 0) -> TxHash: ...
    def spend(self, output: OneTimeKey) -> TxHash: ...
    def image(self, output: OneTimeKey) -> KeyImage: ...
    def hide(self) -> None:
        """Lets the daemon show nothing any more."""


class SimulatedStage:
    def __init__(self) -> None:
        self.chain = SimChain()
        self.watch = SimWatch(self.chain)

    def pay(self, receiver: Receiver, *amounts: int, unlock_time: int = 0) -> TxHash:
        return self.chain.pay_many([(receiver.address, amount) for amount in amounts], unlock_time=unlock_time)

    def spend(self, output: OneTimeKey) -> TxHash:
        tx_hash = TxHash(self.chain.fresh("payout"))
        outputs = outputs_of(tx_hash, [(BOB.address, 1), (BOB.address, 2)])
        assert self.chain.relay(SimTx(hash=tx_hash, inputs=(output,), outputs=outputs, fee=NETWORK_FEE))
        return tx_hash

    def image(self, output: OneTimeKey) -> KeyImage:
        return key_image_of(output)

    def hide(self) -> None:
        self.chain.online = False


class ScannedStage:
    def __init__(self, chain: MemoryChain, watch: Watch) -> None:
        self.chain, self.watch = chain, watch
        self._nonces = count()

    def pay(self, receiver: Receiver, *amounts: int, unlock_time: int = 0) -> TxHash:
        return self.chain.send(payment(receiver, *amounts, nonce=str(next(self._nonces)), unlock_time=unlock_time))

    def spend(self, output: OneTimeKey) -> TxHash:
        return self.chain.send(payment(BOB, 1, 2, nonce=str(next(self._nonces)), spending=[self.image(output)]))

    def image(self, output: OneTimeKey) -> KeyImage:
        return image_of(output)

    def hide(self) -> None:
        self.chain.synchronized = False


@asynccontextmanager
async def simulated() -> AsyncIterator[Stage]:
    yield SimulatedStage()


@asynccontextmanager
async def scanned_here() -> AsyncIterator[Stage]:
    chain = MemoryChain(blocks=5)
    yield ScannedStage(chain, scanner_on(chain))


@asynccontextmanager
async def scanned_apart() -> AsyncIterator[Stage]:
    chain = MemoryChain(blocks=5)
    async with answering(chain) as door:
        watch = ScannerProcess([door.url], network="regtest", limits=PATIENT)
        yield ScannedStage(chain, watch)
        await watch.aclose()


@pytest.fixture(params=[simulated, scanned_here, scanned_apart])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with request.param() as stage:
        yield stage


async def look(stage: Stage, target: WatchTarget | None = None) -> ChainView:
    target = target or ALICE.target()
    return (await stage.watch.look([target]))[target.escrow_id]


async def places(stage: Stage) -> list[tuple[int, int | None, bool]]:
    return sorted((output.amount, output.height, output.unlocked) for output in (await look(stage)).outputs)


async def test_an_address_that_was_never_paid_shows_nothing_at_the_chains_height(stage: Stage):
    stage.pay(BOB, 5)
    stage.chain.mine()
    assert await look(stage) == ChainView(height=stage.chain.height)


async def test_a_deposit_is_in_the_pool_then_in_its_block_and_unlocks_at_exactly_ten_confirmations(stage: Stage):
    stage.pay(ALICE, 7)
    assert await places(stage) == [(7, None, False)]
    height = stage.chain.height
    stage.chain.mine(9)
    assert await places(stage) == [(7, height, False)]
    stage.chain.mine()
    assert await places(stage) == [(7, height, True)]


async def test_two_outputs_of_one_transaction_are_two_deposits_of_the_same_hash(stage: Stage):
    paid = stage.pay(ALICE, 7, 8)
    stage.chain.mine()
    outputs = (await look(stage)).outputs
    assert {(output.tx_hash, output.amount) for output in outputs} == {(paid, 7), (paid, 8)}
    assert len({output.one_time_key for output in outputs}) == 2


async def test_an_unlock_height_keeps_a_deposit_locked_until_the_chain_is_that_high(stage: Stage):
    height = stage.chain.height
    stage.pay(ALICE, 7, unlock_time=height + 13)
    stage.chain.mine(12)
    assert await places(stage) == [(7, height, False)]
    stage.chain.mine()
    assert await places(stage) == [(7, height, True)]


async def test_an_unlock_time_far_away_keeps_a_deposit_locked(stage: Stage):
    height = stage.chain.height
    stage.pay(ALICE, 7, unlock_time=NOW_S + 10**9)
    stage.chain.mine(20)
    assert await places(stage) == [(7, height, False)]


async def test_a_deposit_whose_block_is_gone_is_in_the_pool_again_and_nowhere_once_that_forgot_it(stage: Stage):
    paid = stage.pay(ALICE, 7)
    stage.chain.mine(3)
    await look(stage)
    stage.chain.pop(3)
    assert await places(stage) == [(7, None, False)]
    del stage.chain.pool[paid]
    assert await places(stage) == []
    stage.chain.mine(5)
    assert await places(stage) == []


async def test_a_deposit_that_is_mined_again_higher_up_keeps_its_one_time_key(stage: Stage):
    stage.pay(ALICE, 7)
    stage.chain.mine(3)
    (before,) = (await look(stage)).outputs
    stage.chain.pop(4)
    height = stage.chain.height
    stage.chain.mine(6)
    (after,) = (await look(stage)).outputs
    assert after == msgspec.structs.replace(before, height=height)


async def test_a_spend_is_seen_by_its_key_image_in_the_pool_and_in_its_block_and_its_output_stays(stage: Stage):
    stage.pay(ALICE, 7)
    stage.chain.mine(10)
    (output,) = (await look(stage)).outputs
    informed = ALICE.target(images={output.one_time_key: stage.image(output.one_time_key)})
    assert (await look(stage, informed)).spends == ()
    paid = stage.spend(output.one_time_key)
    spend = SeenSpend(one_time_key=output.one_time_key, tx_hash=paid, height=None, facts=FACTS)
    assert (await look(stage, informed)).spends == (spend,)
    height = stage.chain.height
    stage.chain.mine()
    view = await look(stage, informed)
    assert view.spends == (msgspec.structs.replace(spend, height=height),)
    assert view.outputs == (output,)


async def test_what_the_daemon_told_nobody_of_is_not_shown_until_it_is_sent_again(stage: Stage):
    stage.pay(ALICE, 7)
    stage.chain.mine(11)
    (output,) = (await look(stage)).outputs
    target = ALICE.target(images={output.one_time_key: stage.image(output.one_time_key)})
    paid = stage.spend(output.one_time_key)
    stage.chain.unrelayed.add(paid)
    assert (await look(stage, target)).spends == ()
    stage.chain.unrelayed.clear()
    assert (await look(stage, target)).spends == (
        SeenSpend(one_time_key=output.one_time_key, tx_hash=paid, height=None, facts=FACTS),
    )


async def test_without_a_key_image_a_spend_is_not_seen_and_a_later_one_finds_it(stage: Stage):
    stage.pay(ALICE, 7)
    stage.chain.mine(10)
    (output,) = (await look(stage)).outputs
    paid, height = stage.spend(output.one_time_key), stage.chain.height
    stage.chain.mine(3)
    assert (await look(stage)).spends == ()
    informed = ALICE.target(images={output.one_time_key: stage.image(output.one_time_key)})
    spend = SeenSpend(one_time_key=output.one_time_key, tx_hash=paid, height=height, facts=FACTS)
    assert (await look(stage, informed)).spends == (spend,)


async def test_a_wrong_key_image_shows_no_spend(stage: Stage):
    stage.pay(ALICE, 7)
    stage.chain.mine(10)
    (output,) = (await look(stage)).outputs
    stage.spend(output.one_time_key)
    stage.chain.mine()
    wrong = ALICE.target(images={output.one_time_key: image_of("of another")})
    assert (await look(stage, wrong)).spends == ()


async def test_each_target_has_its_own_view_and_all_are_at_one_height(stage: Stage):
    stage.pay(ALICE, 7)
    stage.pay(BOB, 8)
    stage.chain.mine(2)
    views = await stage.watch.look([ALICE.target(), BOB.target()])
    seen = {escrow_id: [output.amount for output in view.outputs] for escrow_id, view in views.items()}
    assert seen == {"alice": [7], "bob": [8]}
    assert {view.height for view in views.values()} == {stage.chain.height}


async def test_blocks_below_the_start_of_a_target_are_not_looked_at(stage: Stage):
    stage.pay(ALICE, 7)
    stage.chain.mine()
    start = stage.chain.height
    stage.pay(ALICE, 8)
    stage.chain.mine()
    view = await look(stage, ALICE.target(since=start))
    assert [output.amount for output in view.outputs] == [8]


async def test_looking_for_nobody_shows_nothing(stage: Stage):
    assert await stage.watch.look([]) == {}


async def test_a_daemon_that_shows_nothing_is_told_of_whoever_is_watched(stage: Stage):
    stage.hide()
    for targets in ([ALICE.target()], []):
        with pytest.raises(DaemonDown):
            await stage.watch.look(targets)
