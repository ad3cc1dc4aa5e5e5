"""Following a chain for targets that come and go: what is seen, counted, unlocked, reported, and at what cost."""

import asyncio
import tracemalloc

import msgspec
import pytest

from actors.ports import DaemonDown, WatchTarget
from actors.scan.reports import ReportKind
from domain.ids import Address, EscrowId
from schemas.address import AddressKind, encode_address, parse_address
from tests.scan_world import NOW_S, MemoryChain, Receiver, image_of, look, payment, places, watch

ALICE, BOB = Receiver("alice"), Receiver("bob")
TESTNET = msgspec.structs.replace(parse_address(ALICE.address, network="regtest"), network="testnet")


async def test_a_deposit_is_seen_in_the_pool_then_in_its_block_and_unlocks_at_ten_confirmations():
    chain = MemoryChain(blocks=3)
    scanner = watch(chain)
    assert places(await look(scanner, ALICE.target())) == []
    chain.send(payment(ALICE, 7, nonce="deposit"))
    assert places(await look(scanner, ALICE.target())) == [(7, None, False)]
    mined = chain.mine()
    assert places(await look(scanner, ALICE.target())) == [(7, mined, False)]
    chain.mine(8)
    assert places(await look(scanner, ALICE.target())) == [(7, mined, False)]
    chain.mine()
    view = await look(scanner, ALICE.target())
    assert view.height - mined == 10
    assert places(view) == [(7, mined, True)]


async def test_a_scanner_that_starts_late_sees_what_one_saw_that_was_there_all_the_time():
    chain = MemoryChain()
    early = watch(chain)
    for number in range(5):
        chain.send(payment(ALICE, 10 + number, nonce=f"deposit {number}"))
        await look(early, ALICE.target())
        chain.mine(number)
    assert await look(early, ALICE.target()) == await look(watch(chain), ALICE.target())


async def test_blocks_are_read_once_for_all_targets_and_pool_transactions_not_again_when_mined():
    chain = MemoryChain()
    scanner = watch(chain)
    targets = [ALICE.target(), BOB.target()]
    await scanner.look(targets)
    paid = chain.send(payment(ALICE, 7, nonce="deposit"))
    await scanner.look(targets)
    mined = chain.mine()
    await scanner.look(targets)
    assert chain.asked.count(paid) == 1
    assert chain.asked.count(f"block {mined}") == 1


async def test_nothing_new_costs_no_block():
    chain = MemoryChain(blocks=5)
    scanner = watch(chain)
    await look(scanner, ALICE.target())
    chain.asked.clear()
    await look(scanner, ALICE.target())
    assert chain.asked == ["info", "pool", "info"]


async def test_all_views_of_one_look_are_at_the_same_height():
    chain = MemoryChain(blocks=5)
    scanner = watch(chain)
    await look(scanner, ALICE.target())
    chain.mine(3)
    views = await scanner.look([ALICE.target(), BOB.target(since=2)])
    assert {view.height for view in views.values()} == {8}


async def test_a_target_added_later_is_read_from_its_own_start():
    chain = MemoryChain()
    scanner = watch(chain)
    chain.send(payment(BOB, 1, nonce="before his start"))
    chain.mine()
    chain.send(payment(BOB, 2, nonce="in a block"))
    start = chain.mine()
    await look(scanner, ALICE.target())
    chain.send(payment(BOB, 3, nonce="in the pool"))
    await look(scanner, ALICE.target())
    views = await scanner.look([ALICE.target(), BOB.target(since=start)])
    assert places(views[EscrowId("bob")]) == [(2, start, False), (3, None, False)]


async def test_a_new_target_is_paid_by_a_transaction_that_others_had_seen_in_the_pool():
    chain = MemoryChain()
    scanner = watch(chain)
    chain.send(payment(BOB, 3, nonce="deposit"))
    await look(scanner, ALICE.target())
    mined = chain.mine()
    views = await scanner.look([ALICE.target(), BOB.target()])
    assert places(views[EscrowId("bob")]) == [(3, mined, False)]


async def test_an_escrow_that_comes_with_another_address_is_read_anew():
    chain = MemoryChain()
    scanner = watch(chain)
    chain.send(payment(ALICE, 3, nonce="to alice"))
    chain.send(payment(BOB, 4, nonce="to bob"))
    mined = chain.mine()
    await look(scanner, ALICE.target())
    moved = msgspec.structs.replace(BOB.target(), escrow_id=ALICE.target().escrow_id)
    assert places(await look(scanner, moved)) == [(4, mined, False)]


async def test_two_looks_at_once_do_not_disturb_each_other():
    chain = MemoryChain()
    scanner = watch(chain)
    chain.send(payment(ALICE, 3, nonce="to alice"))
    chain.send(payment(BOB, 4, nonce="to bob"))
    mined = chain.mine()
    alice, bob = await asyncio.gather(look(scanner, ALICE.target()), look(scanner, BOB.target()))
    assert (places(alice), places(bob)) == ([(3, mined, False)], [(4, mined, False)])


async def test_a_target_left_out_of_a_look_is_read_anew_when_it_returns():
    chain = MemoryChain()
    scanner = watch(chain)
    chain.send(payment(ALICE, 2, nonce="deposit"))
    mined = chain.mine()
    await scanner.look([ALICE.target(), BOB.target()])
    assert (await scanner.look([BOB.target()])).keys() == {"bob"}
    assert places(await look(scanner, ALICE.target())) == [(2, mined, False)]


async def test_the_same_one_time_key_counts_once_with_its_larger_amount():
    chain = MemoryChain()
    scanner = watch(chain)
    for amount in (5, 7, 6):
        chain.send(payment(ALICE, amount, nonce="burning", spending=[image_of(f"{amount}")]))
    mined = chain.mine()
    assert places(await look(scanner, ALICE.target())) == [(7, mined, False)]


async def test_a_larger_amount_for_the_same_key_replaces_a_mined_one_only_when_it_is_mined_itself():
    chain = MemoryChain()
    scanner = watch(chain)
    chain.send(payment(ALICE, 5, nonce="burning"))
    first = chain.mine()
    chain.send(payment(ALICE, 7, nonce="burning", spending=[image_of("other")]))
    assert places(await look(scanner, ALICE.target())) == [(5, first, False)]
    second = chain.mine()
    assert places(await look(scanner, ALICE.target())) == [(7, second, False)]


@pytest.mark.parametrize(
    ("unlock_time", "unlocked"),
    [(0, True), (13, True), (14, False), (NOW_S, True), (NOW_S + 1, False), (2**64 - 1, False)],
)
async def test_an_unlock_time_is_a_height_or_a_time_and_is_respected(unlock_time, unlocked):
    chain = MemoryChain()
    chain.send(payment(ALICE, 7, nonce="locked", unlock_time=unlock_time))
    chain.mine(12)
    view = await look(watch(chain), ALICE.target())
    assert view.height == 13
    assert [output.unlocked for output in view.outputs] == [unlocked]


async def test_a_false_amount_is_reported_and_left_out():
    chain = MemoryChain()
    scanner = watch(chain)
    body = payment(ALICE, 7, nonce="lie")
    body["rct_signatures"]["ecdhInfo"][0]["amount"] = "00" * 8
    paid = chain.send(body)
    assert places(await look(scanner, ALICE.target())) == []
    assert [(report.kind, report.about) for report in scanner.reports] == [(ReportKind.FALSE_AMOUNT, paid)]


async def test_a_transaction_that_cannot_be_read_is_reported_and_stops_nothing():
    chain = MemoryChain()
    scanner = watch(chain)
    broken = chain.send({"nonsense": True})
    chain.send(payment(ALICE, 7, nonce="deposit"))
    mined = chain.mine()
    assert places(await look(scanner, ALICE.target())) == [(7, mined, False)]
    assert [(report.kind, report.about) for report in scanner.reports] == [(ReportKind.UNREADABLE, broken)]


def bad_target(*, address: Address = ALICE.address, view_key: str = ALICE.view_key.hex()) -> WatchTarget:
    return WatchTarget(escrow_id=EscrowId("bad"), address=address, view_key=view_key, since_height=0)


BAD_TARGETS = {
    "a view key of another": bad_target(view_key=BOB.view_key.hex()),
    "no view key": bad_target(view_key="?"),
    "no address": bad_target(address=Address("?")),
    "a subaddress": bad_target(address=ALICE.address_of(AddressKind.SUBADDRESS)),
    "an address of another network": bad_target(address=encode_address(TESTNET)),
}


@pytest.mark.parametrize("bad", BAD_TARGETS.values(), ids=BAD_TARGETS.keys())
async def test_a_target_that_cannot_be_watched_is_reported_and_blinds_no_other(bad):
    chain = MemoryChain()
    scanner = watch(chain)
    assert (await scanner.look([bad, ALICE.target()])).keys() == {"alice"}
    await scanner.look([bad, ALICE.target()])
    assert [(report.kind, report.about) for report in scanner.reports] == [(ReportKind.BAD_TARGET, "bad")]


async def test_a_daemon_that_is_still_synchronising_is_not_believed():
    chain = MemoryChain(blocks=9)
    scanner = watch(chain)
    await look(scanner, ALICE.target())
    chain.synchronized = False
    with pytest.raises(DaemonDown):
        await look(scanner, ALICE.target())


async def test_scanning_for_many_leaves_the_event_loop_free_to_do_other_things():
    chain = MemoryChain()
    chain.send(payment(ALICE, *range(1, 101), nonce="many outputs"))
    looking = asyncio.ensure_future(watch(chain).look([Receiver(f"watched {n}").target() for n in range(300)]))
    turns = 0
    while not looking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 5
    await looking


async def test_many_transactions_tried_with_many_keys_take_no_memory_for_each_pair():
    chain = MemoryChain()
    for number in range(300):
        chain.send(payment(ALICE, nonce=f"keyless {number}") | {"extra": []})
    chain.mine()
    targets = [Receiver(f"watched {n}").target() for n in range(200)]
    scanner = watch(chain)
    scanner.tell(changed=targets, gone=())
    tracemalloc.start()
    try:
        await scanner.read()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 50 * 300 * len(targets), "bytes; a pair of references has more"


def test_a_target_shown_in_a_trace_or_a_log_keeps_its_view_key_to_itself():
    assert repr(bad_target()) == "WatchTarget(bad, …)"
