"""Following a chain that forks, shrinks, moves while it is read, or stops answering."""

import msgspec
import pytest

from actors.ports import Blindness, BlockFacts, DaemonDown
from actors.scan.trail import TRAIL_BLOCKS, Trail
from domain.ids import EscrowId, TxHash
from tests.scan_world import MemoryChain, Receiver, look, payment, places, watch

ALICE, BOB = Receiver("alice"), Receiver("bob")


async def test_a_popped_deposit_falls_back_to_the_pool_and_is_gone_when_it_leaves_that_too():
    chain = MemoryChain(blocks=3)
    scanner = watch(chain)
    paid = chain.send(payment(ALICE, 7, nonce="deposit"))
    chain.mine(2)
    await look(scanner, ALICE.target())
    chain.pop(2)
    assert places(await look(scanner, ALICE.target())) == [(7, None, False)]
    del chain.pool[paid]
    assert places(await look(scanner, ALICE.target())) == []


@pytest.mark.parametrize("longer_by", [-1, 0, 1, 4])
async def test_a_branch_that_replaced_ours_unseen_is_followed_whatever_its_length(longer_by):
    chain = MemoryChain(blocks=5)
    scanner = watch(chain)
    lost = chain.send(payment(ALICE, 7, nonce="lost"))
    chain.mine(3)
    await look(scanner, ALICE.target())
    chain.pop(3)
    del chain.pool[lost]
    chain.send(payment(ALICE, 8, nonce="of the other branch"))
    mined = chain.mine(3 + longer_by)
    view = await look(scanner, ALICE.target())
    assert view == await look(watch(chain), ALICE.target())
    assert places(view) == [(8, mined, False)]


async def test_a_branch_that_starts_below_all_that_is_remembered_is_followed():
    chain = MemoryChain(blocks=2)
    scanner = watch(chain)
    lost = chain.send(payment(ALICE, 7, nonce="lost"))
    chain.mine(TRAIL_BLOCKS + 20)
    assert places(await look(scanner, ALICE.target(since=1))) == [(7, 2, True)]
    chain.pop(TRAIL_BLOCKS + 20)
    del chain.pool[lost]
    chain.send(payment(ALICE, 8, nonce="of the other branch"))
    chain.mine(TRAIL_BLOCKS + 30)
    assert places(await look(scanner, ALICE.target(since=1))) == [(8, 2, True)]
    assert "block 0" not in chain.asked


async def test_a_chain_cut_below_the_start_of_a_target_is_followed_from_there():
    chain = MemoryChain(blocks=8)
    scanner = watch(chain)
    await look(scanner, ALICE.target(since=8))
    chain.pop(4)
    chain.send(payment(ALICE, 7, nonce="deposit"))
    await look(scanner, ALICE.target(since=8))
    mined = chain.mine()
    assert places(await look(scanner, ALICE.target(since=8))) == [(7, mined, False)]
    chain.pop(1)
    chain.pool.clear()
    chain.send(payment(ALICE, 8, nonce="of the other branch"))
    assert chain.mine() == mined
    assert places(await look(scanner, ALICE.target(since=8))) == [(8, mined, False)]


async def test_a_longer_branch_that_holds_a_deposit_below_the_start_of_its_target_is_followed_from_there():
    chain = MemoryChain(blocks=8)
    scanner, targets = watch(chain), [ALICE.target(since=7), BOB.target()]
    await scanner.look(targets)
    later = watch(chain, saved=scanner.memory())
    chain.pop(3)
    chain.send(payment(ALICE, 7, nonce="deposit"))
    mined = chain.mine(6)
    assert mined == 5
    for each in (scanner, later):
        await each.look([BOB.target()] if each is later else targets)
        assert places((await each.look(targets))[EscrowId("alice")]) == [(7, mined, False)]


class MovingChain(MemoryChain):
    """Mines what is in the pool between the reading of the blocks and that of the pool, a number of times."""

    moves = 1

    async def pool_hashes(self):
        if self.moves:
            self.moves -= 1
            self.mine()
        return await super().pool_hashes()


async def test_a_deposit_mined_between_the_reading_of_blocks_and_pool_does_not_vanish():
    chain = MovingChain()
    chain.moves = 0
    scanner = watch(chain)
    chain.send(payment(ALICE, 7, nonce="deposit"))
    assert places(await look(scanner, ALICE.target())) == [(7, None, False)]
    chain.moves = 1
    assert places(await look(scanner, ALICE.target())) == [(7, 1, False)]


async def test_a_chain_that_never_rests_is_reported_as_a_daemon_that_is_down():
    chain = MovingChain()
    chain.moves = 10_000
    with pytest.raises(DaemonDown):
        await look(watch(chain), ALICE.target())


class ForkingChain(MemoryChain):
    """Replaces all its blocks but the first, at the same height, when the third of them is asked for."""

    forked = False

    async def block(self, height: int) -> BlockFacts:
        if height == 3 and not self.forked:
            self.forked, blocks = True, self.height - 1
            self.pop(blocks)
            self.pool.clear()
            self.mine(blocks)
        return await super().block(height)


async def test_a_chain_that_forks_while_it_is_read_leaves_nothing_of_the_old_branch():
    chain = ForkingChain()
    chain.send(payment(ALICE, 7, nonce="of the old branch"))
    chain.mine(6)
    assert places(await look(watch(chain), ALICE.target())) == []
    assert chain.forked


def facts(height: int, *, branch: str = "a", below: str = "a") -> BlockFacts:
    return BlockFacts(
        height=height, hash=f"{branch}{height}", prev_hash=f"{below}{height - 1}", timestamp=0, tx_hashes=()
    )


def test_a_block_fits_only_on_the_block_read_below_it_and_in_place_of_none_but_itself():
    trail = Trail()
    for height in (5, 6, 7):
        trail.add(facts(height))
    assert trail.fits(facts(8))
    assert not trail.fits(facts(8, below="b"))
    assert trail.fits(facts(6))
    assert not trail.fits(facts(6, branch="b"))
    trail.add(facts(2))
    assert trail.top == 7
    assert not trail.fits(facts(3, below="b"))
    trail.forget_last()
    assert trail.fits(facts(3, below="b"))


def test_no_more_hashes_are_kept_than_the_bound():
    trail = Trail()
    for height in range(TRAIL_BLOCKS + 5):
        trail.add(facts(height))
    assert trail.hash_at(4) is None
    assert trail.hash_at(5) == "a5"


def test_after_a_gap_the_trail_starts_anew():
    trail = Trail()
    trail.add(facts(5))
    trail.add(facts(9))
    assert (trail.hash_at(5), trail.top) == (None, 9)


class FailingChain(MemoryChain):
    """Fails at every fifth call."""

    calls = 0

    async def info(self):
        self._fail()
        return await super().info()

    async def block(self, height):
        self._fail()
        return await super().block(height)

    async def transactions(self, tx_hashes):
        self._fail()
        return await super().transactions(tx_hashes)

    async def pool_hashes(self):
        self._fail()
        return await super().pool_hashes()

    def _fail(self):
        self.calls += 1
        if self.calls % 5 == 0:
            raise DaemonDown("as arranged")


async def test_looks_that_failed_midway_cost_no_deposit_and_are_taken_up_where_they_stopped():
    chain = FailingChain()
    scanner = watch(chain)
    for number in range(6):
        chain.send(payment(ALICE, 10 + number, nonce=f"deposit {number}"))
        chain.mine(2)
    views = []
    for _ in range(30):
        try:
            views.append(await look(scanner, ALICE.target()))
        except DaemonDown:
            continue
    assert [amount for amount, _, _ in places(views[-1])] == [10, 11, 12, 13, 14, 15]
    assert scanner.read_to == chain.height


class LyingChain(MemoryChain):
    """Changes what it says of its newest block, in one way that it alone gives away."""

    lie = ""

    async def info(self):
        info = await super().info()
        return msgspec.structs.replace(info, top_hash="another") if self.lie == "top" else info

    async def block(self, height):
        block = await super().block(height)
        if height < self.height - 1:
            return block
        match self.lie:
            case "below":
                return msgspec.structs.replace(block, prev_hash="another")
            case "height":
                return msgspec.structs.replace(block, height=height - 1)
            case "missing":
                return msgspec.structs.replace(block, tx_hashes=(*block.tx_hashes, TxHash("of nowhere")))
            case _:
                return block

    async def transactions(self, tx_hashes):
        found = await super().transactions(tx_hashes)
        if self.lie == "elsewhere":
            return tuple(msgspec.structs.replace(each, height=each.height and each.height - 1) for each in found)
        return found


@pytest.mark.parametrize("lie", ["below", "height", "missing", "elsewhere", "top"])
async def test_a_daemon_that_contradicts_itself_about_one_block_shows_nothing_until_it_does_no_more(lie: str):
    chain = LyingChain(blocks=3)
    scanner = watch(chain)
    await look(scanner, ALICE.target())
    chain.send(payment(ALICE, 7, nonce="deposit"))
    mined = chain.mine()
    chain.lie = lie
    for _ in range(2):
        with pytest.raises(DaemonDown) as said:
            await look(scanner, ALICE.target())
        assert said.value.why is Blindness.CONTRADICTORY
    chain.lie = ""
    assert places(await look(scanner, ALICE.target())) == [(7, mined, False)]
