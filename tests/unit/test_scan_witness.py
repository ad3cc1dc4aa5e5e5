"""Two daemons followed as one: they agree, one is behind, down, on another branch, or lies about one block."""

import copy
from collections.abc import Callable, Sequence

import msgspec
import pytest

from actors.clock import VirtualClock
from actors.ports import Blindness, BlockFacts, ChainTx, DaemonDown, KeyImageStatus
from actors.scan.follower import ScannerWatch
from actors.scan.witnessed import BEHIND_MAX_BLOCKS, WitnessedDaemon
from domain.ids import KeyImage, TxHash
from tests.scan_world import NOW_S, MemoryChain, Receiver, image_of, keys_of, look, payment, places, watch

ALICE, BOB = Receiver("alice"), Receiver("bob")


class Node(MemoryChain):
    """A daemon that can be shut, or be made to lie: each lie changes one kind of answer."""

    shut = False
    lie_block: Callable[[BlockFacts], BlockFacts] | None = None
    lie_tx: Callable[[ChainTx], ChainTx] | None = None
    lie_unspent = False
    mines_unseen = 0
    """Blocks that come between the reading of the blocks and that of the pool."""

    async def pool_hashes(self) -> tuple[TxHash, ...]:
        if self.mines_unseen:
            self.mines_unseen -= 1
            self.mine()
        return await super().pool_hashes()

    async def info(self):
        if self.shut:
            raise DaemonDown("as arranged")
        return await super().info()

    async def block(self, height: int) -> BlockFacts:
        block = await super().block(height)
        return self.lie_block(block) if self.lie_block else block

    async def transactions(self, tx_hashes: Sequence[TxHash]) -> tuple[ChainTx, ...]:
        found = await super().transactions(tx_hashes)
        return tuple(self.lie_tx(each) for each in found) if self.lie_tx else found

    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]:
        return (KeyImageStatus.UNSPENT,) * len(images) if self.lie_unspent else await super().key_images(images)


class Pair:
    """Two daemons that know the same until a test says otherwise, and a scanner that follows both."""

    def __init__(self, *, blocks: int = 5) -> None:
        self.first = Node(blocks=blocks)
        self.second = copy.deepcopy(self.first)
        self.scanner = scanner_of(self)

    def send(self, body: dict[str, object]) -> TxHash:
        self.second.send(body)
        return self.first.send(body)

    def mine(self, blocks: int = 1) -> int:
        self.second.mine(blocks)
        return self.first.mine(blocks)

    async def places(self) -> list[tuple[int, int | None, bool]]:
        return places(await look(self.scanner, ALICE.target()))

    async def blind(self) -> DaemonDown:
        with pytest.raises(DaemonDown) as said:
            await look(self.scanner, ALICE.target())
        return said.value


def scanner_of(pair: Pair) -> ScannerWatch:
    daemon = WitnessedDaemon(pair.first, pair.second)
    return ScannerWatch(daemon, clock=VirtualClock(start=NOW_S * 1_000_000), network="regtest")


def other(pair: Pair, which: str) -> Node:
    return pair.first if which == "first" else pair.second


both = pytest.mark.parametrize("which", ["first", "second"])


async def test_where_both_say_the_same_all_is_as_with_one():
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    assert await pair.places() == [(7, None, False)]
    mined = pair.mine(10)
    assert await pair.places() == [(7, mined, True)]
    assert await look(pair.scanner, ALICE.target()) == await look(watch(pair.first), ALICE.target())


async def test_a_deposit_in_a_block_that_only_the_first_has_waits_in_the_pool_until_the_second_has_it_too():
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    assert await pair.places() == [(7, None, False)]
    mined = pair.first.mine(BEHIND_MAX_BLOCKS)
    view = await look(pair.scanner, ALICE.target())
    assert (view.height, places(view)) == (mined, [(7, None, False)])
    pair.second.mine(BEHIND_MAX_BLOCKS)
    assert await pair.places() == [(7, mined, False)]


async def test_a_deposit_that_the_first_mines_between_the_reading_of_blocks_and_pool_does_not_vanish():
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    assert await pair.places() == [(7, None, False)]
    pair.first.mines_unseen = 1
    assert await pair.places() == [(7, None, False)]
    assert pair.first.mines_unseen == 0


async def test_a_first_daemon_whose_chain_never_rests_shows_nothing():
    pair = Pair()
    pair.first.mines_unseen = 1_000
    assert (await pair.blind()).why in (Blindness.CONTRADICTORY, Blindness.BEHIND)


async def test_a_view_goes_no_further_than_the_first_daemon():
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    pair.second.mine(BEHIND_MAX_BLOCKS)
    view = await look(pair.scanner, ALICE.target())
    assert (view.height, places(view)) == (5, [(7, None, False)])


@both
async def test_a_daemon_far_behind_the_other_shows_nothing_until_it_has_caught_up(which: str):
    pair = Pair()
    behind, ahead = other(pair, which), pair.second if which == "first" else pair.first
    ahead.mine(BEHIND_MAX_BLOCKS + 1)
    said = await pair.blind()
    assert said.why is Blindness.BEHIND and which in str(said)
    behind.mine(1)
    assert await pair.places() == []


@both
async def test_a_daemon_that_is_down_or_still_synchronising_shows_nothing(which: str):
    pair = Pair()
    other(pair, which).shut = True
    said = await pair.blind()
    assert said.why is Blindness.DOWN and which in str(said)
    other(pair, which).shut = False
    other(pair, which).synchronized = False
    said = await pair.blind()
    assert said.why is Blindness.SYNCHRONISING and which in str(said)
    other(pair, which).synchronized = True
    assert await pair.places() == []


@both
@pytest.mark.parametrize("depth", [1, 3])
async def test_daemons_on_different_branches_show_nothing_until_one_has_followed_the_other(which: str, depth: int):
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    pair.mine(3)
    await pair.places()
    forked = other(pair, which)
    forked.pop(depth)
    forked.pool.clear()
    forked.mine(depth)
    assert (await pair.blind()).why is Blindness.FORKED
    follower = pair.second if which == "first" else pair.first
    follower.pop(depth)
    follower.pool.clear()
    follower.mine(depth)
    assert await pair.places() == ([(7, 5, False)] if depth < 3 else [])


def without_its_last(block: BlockFacts) -> BlockFacts:
    return msgspec.structs.replace(block, tx_hashes=block.tx_hashes[:1])


@both
async def test_a_daemon_that_leaves_a_transaction_out_of_a_block_is_not_believed(which: str):
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    mined = pair.mine()
    other(pair, which).lie_block = without_its_last
    said = await pair.blind()
    assert said.why is Blindness.DIFFERENT and str(mined) in str(said)
    other(pair, which).lie_block = None
    assert await pair.places() == [(7, mined, False)]


def richer(tx: ChainTx) -> ChainTx:
    return changed(tx, payment(ALICE, 7_000, nonce="deposit"))


def poorer(tx: ChainTx) -> ChainTx:
    return changed(tx, payment(BOB, 7, nonce="deposit"))


def unspent(tx: ChainTx) -> ChainTx:
    return changed(tx, payment(ALICE, 7, nonce="deposit", spending=[image_of("nothing")]))


def impossible(tx: ChainTx) -> ChainTx:
    return changed(tx, payment(ALICE, 7, nonce="deposit", unlock_time=2**64))


def elsewhere(tx: ChainTx) -> ChainTx:
    return msgspec.structs.replace(tx, height=None if tx.height is None else tx.height - 1)


def changed(tx: ChainTx, body: dict[str, object]) -> ChainTx:
    is_coinbase = "gen" in tx.body["vin"][0]
    return tx if is_coinbase else msgspec.structs.replace(tx, body=body)


@both
@pytest.mark.parametrize("lie", [richer, poorer, unspent, impossible, elsewhere])
async def test_a_daemon_that_lies_about_a_transaction_in_a_block_is_not_believed(which: str, lie):
    pair = Pair()
    paid = pair.send(payment(ALICE, 7, nonce="deposit"))
    mined = pair.mine(2)
    other(pair, which).lie_tx = lie
    said = await pair.blind()
    assert said.why in (Blindness.DIFFERENT, Blindness.CONTRADICTORY)
    assert said.why is Blindness.CONTRADICTORY or lie is elsewhere or paid in str(said)
    other(pair, which).lie_tx = None
    assert await pair.places() == [(7, mined, False)]


@pytest.mark.parametrize("lie", [richer, poorer, unspent])
async def test_a_lie_told_while_a_transaction_was_in_the_pool_is_noticed_once_it_is_in_a_block(lie):
    pair = Pair()
    pair.send(payment(ALICE, 7, nonce="deposit"))
    pair.first.lie_tx = lie
    await pair.places()
    pair.first.lie_tx = None
    pair.mine()
    assert (await pair.blind()).why is Blindness.DIFFERENT


async def test_a_spend_that_the_first_denies_is_found_by_what_the_second_says():
    pair = Pair()
    (key,) = keys_of(payment(ALICE, 7, nonce="deposit"))
    pair.send(payment(ALICE, 7, nonce="deposit"))
    pair.mine()
    pair.send(payment(BOB, 6, nonce="payout", spending=[image_of("of the deposit")]))
    mined = pair.mine(2)
    await pair.places()
    pair.first.lie_unspent = True
    view = await look(pair.scanner, ALICE.target(images={key: image_of("of the deposit")}))
    assert [spend.height for spend in view.spends] == [mined]
