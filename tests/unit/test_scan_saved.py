"""Going on from what another scanner saved: the same views, no block read twice, and no trust in what is gone."""

import stat

import pytest

from actors.clock import VirtualClock
from actors.ports import WatchTarget
from actors.scan.follower import ScannerWatch
from actors.scan.saved import Saved, read_saved, write_saved
from actors.scan.trail import TRAIL_BLOCKS
from tests.scan_world import NOW_S, MemoryChain, Receiver, image_of, keys_of, look, payment, places, watch

ALICE, BOB = Receiver("alice"), Receiver("bob")


def another(chain: MemoryChain, saved: Saved) -> ScannerWatch:
    return ScannerWatch(chain, clock=VirtualClock(start=NOW_S * 1_000_000), network="regtest", saved=saved)


def blocks_asked(chain: MemoryChain) -> list[str]:
    return [asked for asked in chain.asked if asked.startswith("block ")]


async def paid_alice() -> tuple[MemoryChain, ScannerWatch]:
    chain = MemoryChain(blocks=3)
    scanner = watch(chain)
    chain.send(payment(ALICE, 7, nonce="deposit"))
    chain.mine(4)
    await look(scanner, ALICE.target())
    return chain, scanner


def spent_target() -> WatchTarget:
    (key,) = keys_of(payment(ALICE, 7, nonce="deposit"))
    return ALICE.target(images={key: image_of("of the deposit")})


async def test_what_was_seen_in_blocks_is_shown_again_without_reading_one_of_them():
    chain, scanner = await paid_alice()
    chain.asked.clear()
    after = another(chain, scanner.memory())
    assert await look(after, ALICE.target()) == await look(scanner, ALICE.target())
    assert blocks_asked(chain) == []


async def test_only_the_blocks_that_came_meanwhile_are_read():
    chain, scanner = await paid_alice()
    saved = scanner.memory()
    chain.send(payment(ALICE, 8, nonce="meanwhile"))
    mined = chain.mine(2)
    chain.asked.clear()
    assert places(await look(another(chain, saved), ALICE.target())) == [(7, 3, False), (8, mined, False)]
    assert set(blocks_asked(chain)) <= {f"block {height}" for height in range(mined - 1, chain.height)}


async def test_the_pool_is_read_anew():
    chain, scanner = await paid_alice()
    chain.send(payment(ALICE, 8, nonce="in the pool"))
    await look(scanner, ALICE.target())
    assert places(await look(another(chain, scanner.memory()), ALICE.target())) == [(7, 3, False), (8, None, False)]


@pytest.mark.parametrize("popped", [1, 4, 5])
async def test_what_was_seen_in_blocks_that_are_gone_is_forgotten(popped: int):
    chain, scanner = await paid_alice()
    saved = scanner.memory()
    chain.pop(popped)
    chain.pool.clear()
    chain.send(payment(ALICE, 9, nonce="of the other branch"))
    chain.mine(popped + 2)
    view = await look(another(chain, saved), ALICE.target())
    assert view == await look(watch(chain), ALICE.target())


async def test_a_branch_that_starts_below_all_that_was_saved_makes_everything_be_read_again():
    chain, scanner = await paid_alice()
    chain.mine(TRAIL_BLOCKS + 10)
    await look(scanner, ALICE.target())
    saved = scanner.memory()
    chain.pop(chain.height - 2)
    chain.pool.clear()
    chain.send(payment(ALICE, 9, nonce="of the other branch"))
    chain.mine(TRAIL_BLOCKS + 40)
    assert places(await look(another(chain, saved), ALICE.target())) == [(9, 2, True)]


async def test_a_target_that_is_named_only_after_a_fork_is_shown_nothing_of_the_lost_branch():
    chain, scanner = await paid_alice()
    saved = scanner.memory()
    after = another(chain, saved)
    await look(after, BOB.target())
    chain.pop(4)
    chain.pool.clear()
    chain.mine(6)
    await look(after, BOB.target())
    views = await after.look([ALICE.target(), BOB.target()])
    assert places(views[ALICE.target().escrow_id]) == []


async def test_a_spend_that_was_seen_is_shown_again_without_asking_for_it():
    chain, scanner = await paid_alice()
    target = spent_target()
    await look(scanner, target)
    chain.send(payment(BOB, 6, nonce="payout", spending=[image_of("of the deposit")]))
    chain.mine(3)
    before = await look(scanner, target)
    assert len(before.spends) == 1
    chain.asked.clear()
    assert await look(another(chain, scanner.memory()), target) == before
    assert "key_images" not in chain.asked and blocks_asked(chain) == []


async def test_a_key_image_that_is_told_for_the_first_time_still_finds_its_spend():
    chain, scanner = await paid_alice()
    chain.send(payment(BOB, 6, nonce="payout", spending=[image_of("of the deposit")]))
    mined = chain.mine(3)
    await look(scanner, ALICE.target())
    view = await look(another(chain, scanner.memory()), spent_target())
    assert [spend.height for spend in view.spends] == [mined]


async def test_an_address_that_comes_with_another_start_is_read_from_there():
    chain, scanner = await paid_alice()
    assert places(await look(another(chain, scanner.memory()), ALICE.target(since=4))) == []


async def test_a_file_holds_everything_but_keys_and_addresses_and_is_its_owners_alone(tmp_path):
    _, scanner = await paid_alice()
    file = tmp_path / "scanned.seen"
    write_saved(file, scanner.memory())
    assert read_saved(file) == scanner.memory()
    content = file.read_bytes()
    assert not any(secret in content for secret in (ALICE.view_key, ALICE.view_key.hex().encode()))
    assert ALICE.address.encode() not in content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "one bit", "of another form"])
async def test_a_file_that_cannot_be_relied_on_is_as_good_as_none(tmp_path, damage: str):
    _, scanner = await paid_alice()
    file = tmp_path / "scanned.seen"
    write_saved(file, scanner.memory())
    content = bytearray(file.read_bytes())
    match damage:
        case "missing":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case "torn":
            file.write_bytes(content[:-1])
        case "one bit":
            content[-1] ^= 1
            file.write_bytes(content)
        case _:
            write_saved(file, Saved(form=0))
    assert read_saved(file) == Saved()
