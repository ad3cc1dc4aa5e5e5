"""Spends, found by key images that were known before or are told later."""

from actors.ports import WatchTarget
from actors.scan.reports import ReportKind
from domain.chain import SeenSpend, TxFacts
from domain.ids import KeyImage, OneTimeKey, TxHash
from tests.given import NETWORK_FEE
from tests.scan_world import MemoryChain, Receiver, image_of, keys_of, look, payment, places, watch

ALICE, BOB = Receiver("alice"), Receiver("bob")
FACTS = TxFacts(network_fee=NETWORK_FEE, unlock_time=0, outputs=1)
"""What the spends here say of themselves."""


def spending(deposit_nonce: str) -> tuple[WatchTarget, KeyImage, OneTimeKey]:
    (key,) = keys_of(payment(ALICE, 7, nonce=deposit_nonce))
    image = image_of(f"of {deposit_nonce}")
    return ALICE.target(images={key: image}), image, key


def seen(key: OneTimeKey, tx_hash: TxHash, height: int | None) -> SeenSpend:
    return SeenSpend(one_time_key=key, tx_hash=tx_hash, height=height, facts=FACTS)


async def test_a_spend_is_seen_in_the_pool_in_its_block_and_gone_when_it_was_dropped():
    chain = MemoryChain()
    scanner = watch(chain)
    target, image, key = spending("deposit")
    chain.send(payment(ALICE, 7, nonce="deposit"))
    chain.mine()
    assert (await look(scanner, target)).spends == ()
    paid = chain.send(payment(BOB, 6, nonce="payout", spending=[image]))
    assert (await look(scanner, target)).spends == (seen(key, paid, None),)
    mined = chain.mine()
    view = await look(scanner, target)
    assert view.spends == (seen(key, paid, mined),)
    assert places(view) == [(7, mined - 1, False)]
    chain.pop(1)
    assert (await look(scanner, target)).spends == (seen(key, paid, None),)
    del chain.pool[paid]
    assert (await look(scanner, target)).spends == ()


async def test_a_key_image_learned_after_the_spend_was_mined_finds_it():
    chain = MemoryChain()
    scanner = watch(chain)
    target, image, key = spending("deposit")
    chain.send(payment(ALICE, 7, nonce="deposit"))
    chain.mine(3)
    paid = chain.send(payment(BOB, 6, nonce="payout", spending=[image]))
    mined = chain.mine(3)
    assert (await look(scanner, ALICE.target())).spends == ()
    view = await look(scanner, target)
    assert view.spends == (seen(key, paid, mined),)
    assert view.outputs == (await look(watch(chain), target)).outputs


async def test_a_key_image_learned_while_the_spend_is_in_the_pool_finds_it():
    chain = MemoryChain(blocks=4)
    scanner = watch(chain)
    target, image, key = spending("deposit")
    paid = chain.send(payment(BOB, 6, nonce="payout", spending=[image]))
    await look(scanner, ALICE.target())
    assert (await look(scanner, target)).spends == (seen(key, paid, None),)


async def test_a_key_image_that_is_not_spent_makes_nothing_be_read_again():
    chain = MemoryChain(blocks=4)
    scanner = watch(chain)
    await look(scanner, ALICE.target())
    chain.asked.clear()
    await look(scanner, spending("deposit")[0])
    assert chain.asked == ["info", "key_images", "pool", "info"]
    chain.asked.clear()
    await look(scanner, spending("deposit")[0])
    assert chain.asked == ["info", "pool", "info"]


async def test_key_images_told_with_a_new_target_cost_no_question():
    chain = MemoryChain(blocks=4)
    await look(watch(chain), spending("deposit")[0])
    assert "key_images" not in chain.asked


async def test_a_spend_in_a_block_stands_before_another_of_the_same_output_in_the_pool():
    chain = MemoryChain()
    target, image, key = spending("deposit")
    paid = chain.send(payment(BOB, 6, nonce="payout", spending=[image]))
    mined = chain.mine()
    chain.send(payment(BOB, 6, nonce="another payout", spending=[image]))
    view = await look(watch(chain), target)
    assert view.spends == (seen(key, paid, mined),)


async def test_what_is_no_key_image_is_never_asked_of_the_daemon_and_is_reported():
    chain = MemoryChain(blocks=4)
    scanner = watch(chain)
    await look(scanner, ALICE.target())
    await look(scanner, ALICE.target(images={OneTimeKey("key"): KeyImage("not hex")}))
    assert "key_images" not in chain.asked
    assert [(report.kind, report.about) for report in scanner.reports] == [(ReportKind.BAD_KEY_IMAGE, "alice")]


async def test_two_targets_that_claim_the_same_key_image_both_see_its_spend():
    chain = MemoryChain()
    scanner = watch(chain)
    target, image, key = spending("deposit")
    chain.send(payment(BOB, 6, nonce="payout", spending=[image]))
    mined = chain.mine()
    await scanner.look([ALICE.target(), BOB.target()])
    views = await scanner.look([target, BOB.target(images={key: image})])
    assert [[spend.height for spend in view.spends] for view in views.values()] == [[mined], [mined]]
