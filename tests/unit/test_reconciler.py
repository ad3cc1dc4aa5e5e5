"""Escrows compared with a chain that is scanned afresh: what is told, what is waited for, what cannot be asked."""

import pytest

from actors.ports import DaemonDown
from domain import events as e
from domain.difference import Difference
from domain.difference import DifferenceCode as Code
from domain.ids import EscrowId, UserId
from domain.states import Completed
from eventstore.api import NewEvent
from eventstore.opening import memory_store
from service.reconcile import Unchecked
from tests.given import AMOUNT
from tests.reconcile_world import Pausing, ReconcileWorld, Written
from tests.scan_world import MemoryChain, image_of


@pytest.fixture
def world() -> ReconcileWorld:
    return ReconcileWorld()


async def codes(world: ReconcileWorld, written: Written, *, clock: Pausing | None = None) -> list[str]:
    return [found.code for found in (await world.compared(clock=clock))[written.escrow_id].differences]


async def test_a_finished_escrow_agrees_with_the_chain_at_the_first_look(world):
    written, clock = await world.paid_out("done"), Pausing()
    assert isinstance(written.life.state, Completed)
    compared = (await world.compared(clock=clock))[written.escrow_id]
    assert (compared.differences, compared.unchecked, compared.is_news) == ((), None, False)
    assert (compared.version, compared.height) == (written.life.state.core.version, world.chain.height)
    assert clock.pauses == 0


async def test_an_output_that_was_paid_while_nobody_watched_is_told_with_its_height(world):
    written = await world.awaiting("missed")
    written.pay(AMOUNT)
    height = world.chain.mine(10)
    (found,) = (await world.compared())[written.escrow_id].differences
    assert (found.code, found.logged, found.shown) == (Code.DEPOSIT_NOT_LOGGED, None, height)


async def test_a_difference_that_the_log_takes_in_meanwhile_is_not_told(world):
    written = await world.awaiting("late")
    written.pay(AMOUNT)
    world.chain.mine(10)

    async def catches_up() -> None:
        await written.watched()

    assert await codes(world, written, clock=Pausing(catches_up)) == []


async def test_a_difference_that_came_up_between_the_looks_is_left_to_the_next_comparison(world):
    first, clock = await world.awaiting("first"), Pausing()
    first.pay(AMOUNT)
    world.chain.mine(10)

    async def another() -> None:
        first.pay(AMOUNT)
        world.chain.mine(10)

    assert await codes(world, first, clock=Pausing(another)) == [Code.DEPOSIT_NOT_LOGGED]
    assert await codes(world, first, clock=clock) == [Code.DEPOSIT_NOT_LOGGED] * 2


async def test_a_deposit_that_somebody_wrote_into_the_log_is_told(world):
    written = await world.awaiting("forged")
    forged = e.DepositSeen(at=written.life.now, one_time_key="ab" * 32, tx_hash="cd" * 32, amount=AMOUNT)  # type: ignore[arg-type]
    written.life.events.append(forged)
    await written.save()
    assert await codes(world, written) == [Code.DEPOSIT_NOT_ON_CHAIN]


async def test_a_payout_with_another_fee_and_other_inputs_is_read_from_its_transaction(world):
    dear, strange = await world.awaiting("dear"), await world.awaiting("strange")
    for written in (dear, strange):
        written.pay(AMOUNT)
        await written.watched(after=10)
    dear.release(fee=1)
    (theirs,) = strange.life.money.deposits
    strange.release(spending=(image_of(theirs), image_of("another")))
    for written in (dear, strange):
        await written.watched(after=11)
    assert await codes(world, dear) == [Code.PAYOUT_FEE]
    assert await codes(world, strange) == [Code.PAYOUT_INPUTS]


async def test_a_payout_that_left_the_pool_and_counts_as_sent_is_told(world):
    written = await world.awaiting("unsent")
    written.pay(AMOUNT)
    await written.watched(after=10)
    sent = written.release()
    await written.save()
    assert await codes(world, written) == []
    del world.chain.pool[sent]
    assert await codes(world, written) == [Code.PAYOUT_NOT_SENT]


async def test_what_the_log_says_already_of_a_comparison_is_no_news(world):
    written = await world.awaiting("told")
    written.pay(AMOUNT)
    height = world.chain.mine(10)
    compared = (await world.compared())[written.escrow_id]
    assert compared.is_news
    found = compared.differences
    assert found == (Difference(code=Code.DEPOSIT_NOT_LOGGED, about=found[0].about, shown=height),)
    written.life.events.append(e.ChainCompared(at=written.life.now, height=height, differences=found))
    await written.save()
    assert not (await world.compared())[written.escrow_id].is_news


async def test_many_escrows_are_scanned_for_in_batches_each_with_a_watch_of_its_own(world):
    missed = [await world.awaiting(f"n{number}") for number in range(5)]
    for written in missed[:3]:
        written.pay(AMOUNT)
    world.chain.mine(10)
    compared = await world.compared(batch=2)
    assert {each for each, found in compared.items() if found.differences} == {each.escrow_id for each in missed[:3]}
    assert len(compared) == 5
    assert world.watches == 3
    chosen = [each async for each in world.reconciler(batch=2).some([missed[0].escrow_id, missed[4].escrow_id])]
    assert sorted(len(each.differences) for each in chosen) == [0, 1]


async def test_escrows_that_have_ended_come_last_and_are_scanned_from_a_later_block(world):
    ended = [await world.paid_out(f"ended{number}") for number in range(3)]
    live = [await world.awaiting(f"live{number}") for number in range(3)]
    begins = world.chain.mine(200)
    ended[1].pay(AMOUNT)
    world.chain.mine(10)
    world.chain.asked.clear()
    compared = [each async for each in world.reconciler(ended_from=begins).all()]
    assert {each.escrow_id for each in compared[:3]} == {each.escrow_id for each in live}
    assert {each.escrow_id: len(each.differences) for each in compared[3:]} == {
        each.escrow_id: int(each is ended[1]) for each in ended
    }
    read = [int(each.split()[1]) for each in world.chain.asked if each.startswith("block ")]
    assert min(read) == live[0].life.money.since_height, "the live ones from their set-up on"
    again = world.reconciler(ended_from=begins)
    world.chain.asked.clear()
    _ = [each async for each in again.some([each.escrow_id for each in ended])]
    assert min(int(each.split()[1]) for each in world.chain.asked if each.startswith("block ")) == begins


async def test_what_cannot_be_compared_is_named_with_its_reason(world):
    shredded = await world.paid_out("shredded")
    shredded.life.events.append(e.KeyShredded(at=shredded.life.now, by=UserId("root"), retention_days=1))
    await shredded.save()
    await world.awaiting("key", view_key_of="somebody else")
    await world.awaiting("sealed", vault=memory_store(partitions=4).vault)
    broken = await world.awaiting("broken")
    unknown = NewEvent(type="never_heard_of", schema_version=1, occurred_at=0, meta=b"{}", body=b"{}")
    await world.append(broken.escrow_id, unknown, version=len(broken.life.events))
    fine = await world.awaiting("fine")
    compared = await world.compared()
    assert {each: found.unchecked for each, found in compared.items()} == {
        "esc_shredded": Unchecked.SHREDDED,
        "esc_key": Unchecked.VIEW_KEY,
        "esc_sealed": Unchecked.SEALED,
        "esc_broken": Unchecked.STANDS_STILL,
        fine.escrow_id: None,
    }
    (nothing,) = [each async for each in world.reconciler().some([EscrowId("esc_none")])]
    assert nothing.unchecked is Unchecked.UNKNOWN
    assert not any(each.is_news for each in (*compared.values(), nothing))


async def test_a_daemon_that_comes_back_is_asked_again_and_one_that_stays_away_ends_the_comparison(world):
    written = await world.awaiting("any")
    world.chain.synchronized = False

    async def comes_back() -> None:
        world.chain.synchronized = True

    assert await codes(world, written, clock=Pausing(comes_back)) == []
    world.chain.synchronized = False
    with pytest.raises(DaemonDown):
        await world.compared()


class TimingOut(MemoryChain):
    """Lets the first question for key images time out."""

    async def key_images(self, images):
        if "key_images" not in self.asked:
            self.asked.append("key_images")
            raise DaemonDown("time-out")
        return await super().key_images(images)


async def test_a_question_that_timed_out_is_asked_again_and_ends_no_comparison(world):
    chain = world.chain = TimingOut(blocks=5)
    written, clock = await world.paid_out("done"), Pausing()
    assert await codes(world, written, clock=clock) == []
    assert (chain.asked.count("key_images"), clock.pauses) == (2, 1)
