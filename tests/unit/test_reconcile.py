"""The log against the chain: each difference by its code, what is left to the next comparison, and what comes of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from domain import commands as c
from domain import events as e
from domain.chain import ChainView, SeenSpend
from domain.difference import CHAIN_DIFFERS, Difference
from domain.difference import DifferenceCode as Code
from domain.events import AnyEvent
from domain.ids import KeyImage, OneTimeKey, Sealed, TxHash, UserId
from domain.money import Atomic
from domain.payout import inputs_sum
from domain.reconcile import LOGGED_MAX, Evidence, SeenTransaction, differences, hashes_to_ask
from domain.roles import Role
from tests.given import (
    AMOUNT,
    BUYER,
    NETWORK_FEE,
    VENDOR,
    Life,
    awaiting_funding,
    completed,
    created,
    funded,
    given,
    output,
    releasing,
    spend,
    view,
)
from tests.unit.small_chain import Chain

DEEP = 200
PAID = TxHash("payout-tx")


def evidence(shown: ChainView, **changes: Any) -> Evidence:
    """What a daemon says beside this view: it knows the escrow's payout as it was signed, and every spend shown."""
    paid = next((each for each in shown.spends if each.tx_hash == PAID), None)
    transaction = SeenTransaction(
        height=paid.height if paid else None, fee=NETWORK_FEE, key_images=frozenset({KeyImage("image-out-1")})
    )
    usual: dict[str, Any] = {
        "spent": frozenset(each.one_time_key for each in shown.spends if each.height is not None),
        "transactions": {PAID: transaction} if paid else {},
    }
    return Evidence(view=shown, **(usual | changes))


def found(life: Life, shown: ChainView, **changes: Any) -> list[tuple[str, str]]:
    return [(each.code, each.about) for each in differences(life.state, evidence(shown, **changes))]


def paid_view(height: int = DEEP) -> ChainView:
    return view(output(), height=height, spends=(spend(),))


def broadcast() -> Life:
    return releasing().give_signature(Role.BUYER).broadcasts(Role.BUYER)


def edited(life: Life, kind: type[AnyEvent], **changes: Any) -> Life:
    """A life whose log was changed by hand: the first event of a kind is another one."""
    events = list(life.events)
    at = next(index for index, event in enumerate(events) if isinstance(event, kind))
    events[at] = type(events[at])(**{f: getattr(events[at], f) for f in events[at].__struct_fields__} | changes)
    return given(*events)


def without(life: Life, *kinds: type[AnyEvent]) -> Life:
    return given(*(event for event in life.events if not isinstance(event, kinds)))


# -- agreement -----------------------------------------------------------------------------------------------


def test_a_finished_escrow_differs_in_nothing_from_the_chain_that_it_was_paid_on() -> None:
    assert found(completed(), paid_view()) == []


def test_an_escrow_without_an_address_has_nothing_to_compare() -> None:
    assert found(created(), view(output(), height=DEEP)) == []


# -- deposits ------------------------------------------------------------------------------------------------


def test_a_deposit_that_the_log_lacks_is_told() -> None:
    assert found(awaiting_funding(), view(output(), height=DEEP)) == [(Code.DEPOSIT_NOT_LOGGED, "out-1")]


def test_a_deposit_that_the_log_holds_for_lost_is_told_as_lacking() -> None:
    life = funded().sees(view())
    assert found(life, view(output(), height=DEEP)) == [(Code.DEPOSIT_NOT_LOGGED, "out-1")]


def test_a_deposit_that_the_chain_lacks_is_told() -> None:
    assert found(funded(), view(height=DEEP)) == [(Code.DEPOSIT_NOT_ON_CHAIN, "out-1")]


def test_a_deposit_of_another_amount_is_told_with_both() -> None:
    life, shown = funded(), view(output(amount=AMOUNT + 1), height=DEEP)
    assert differences(life.state, evidence(shown)) == (
        Difference(code=Code.DEPOSIT_AMOUNT, about="out-1", logged=AMOUNT, shown=AMOUNT + 1),
    )


def test_a_deposit_of_another_transaction_is_told() -> None:
    life = edited(funded(), e.DepositSeen, tx_hash=TxHash("another"))
    assert found(life, view(output(), height=DEEP)) == [(Code.DEPOSIT_TRANSACTION, "out-1")]


@pytest.mark.parametrize("shown", [output(height=102), output(height=None, unlocked=False)])
def test_a_deposit_in_another_block_than_the_logs_is_told(shown: Any) -> None:
    assert found(funded(), view(shown, height=DEEP)) == [(Code.DEPOSIT_HEIGHT, "out-1")]


def test_a_deposit_that_the_log_never_saw_in_a_block_is_told() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False)))
    assert found(life, view(output(), height=DEEP)) == [(Code.DEPOSIT_HEIGHT, "out-1")]


def test_a_deposit_whose_lock_the_log_has_wrong_is_told_either_way() -> None:
    unlocked, locked = funded(), awaiting_funding().sees(view(output(unlocked=False)))
    assert found(unlocked, view(output(unlocked=False), height=DEEP)) == [(Code.DEPOSIT_LOCK, "out-1")]
    assert found(locked, view(output(), height=DEEP)) == [(Code.DEPOSIT_LOCK, "out-1")]


# -- spends --------------------------------------------------------------------------------------------------


def test_a_spend_that_the_log_does_not_know_is_told() -> None:
    shown = view(output(), height=DEEP, spends=(spend(tx_hash="foreign"),))
    assert found(funded(), shown) == [(Code.SPEND_NOT_LOGGED, "foreign")]


@pytest.mark.parametrize("height", [None, 120])
def test_a_spend_that_the_chain_lacks_is_told(height: int | None) -> None:
    life = broadcast().sees(view(output(), height=121, spends=(spend(height=height),)))
    assert found(life, view(output(), height=DEEP)) == [(Code.SPEND_NOT_ON_CHAIN, PAID)]


@pytest.mark.parametrize("height", [None, 119])
def test_a_spend_in_another_block_than_the_logs_is_told(height: int | None) -> None:
    life = broadcast().sees(view(output(), height=121, spends=(spend(height=height),)))
    assert found(life, paid_view()) == [(Code.SPEND_HEIGHT, PAID)]


def test_a_spend_of_more_than_the_log_says_is_told() -> None:
    life = funded(output(), output("out-2")).sees(
        view(output(), output("out-2"), height=DEEP, spends=(spend(tx_hash="foreign", height=190),))
    )
    shown = view(
        output(), output("out-2"), height=DEEP, spends=tuple(spend(k, tx_hash="foreign", height=190) for k in OUTS)
    )
    assert found(life, shown)[0] == (Code.SPEND_INPUTS, "foreign")


OUTS = ("out-1", "out-2")


def test_a_spend_that_is_deeply_buried_and_not_final_in_the_log_is_told() -> None:
    life = broadcast().sees(view(output(), height=121, spends=(spend(),)))
    assert found(life, paid_view(height=139)) == []
    assert found(life, paid_view(height=140)) == [(Code.SPEND_FINAL, PAID)]


def test_an_output_that_the_daemon_calls_spent_and_nobody_saw_spent_is_told() -> None:
    shown = view(output(), height=DEEP)
    assert found(funded(), shown, spent=frozenset({OneTimeKey("out-1")})) == [(Code.SPEND_NOT_FOUND, "out-1")]


# -- payouts -------------------------------------------------------------------------------------------------


def test_a_payout_that_spends_other_inputs_than_its_epoch_named_is_told() -> None:
    other = SeenTransaction(height=120, fee=NETWORK_FEE, key_images=frozenset({KeyImage("image-out-2")}))
    assert found(completed(), paid_view(), transactions={PAID: other}) == [(Code.PAYOUT_INPUTS, PAID)]


def test_a_payout_with_another_network_fee_than_was_proposed_is_told() -> None:
    for fee in (Atomic(NETWORK_FEE + 1), None):
        dear = SeenTransaction(height=120, fee=fee, key_images=frozenset({KeyImage("image-out-1")}))
        assert found(completed(), paid_view(), transactions={PAID: dear}) == [(Code.PAYOUT_FEE, PAID)]


def test_an_ended_escrow_whose_payout_is_not_final_on_chain_is_told() -> None:
    assert found(completed(), paid_view(height=129)) == [(Code.PAYOUT_NOT_FINAL, PAID)]
    reorganised = completed().sees(view(output(), height=DEEP))
    assert found(reorganised, view(output(), height=DEEP)) == [(Code.PAYOUT_NOT_FINAL, PAID)]


def test_a_payout_that_counts_as_sent_and_that_nobody_has_is_told() -> None:
    life, shown = broadcast(), view(output(), height=DEEP)
    waiting = SeenTransaction(height=None, fee=NETWORK_FEE, key_images=frozenset({KeyImage("image-out-1")}))
    unrelayed = SeenTransaction(
        height=None, fee=NETWORK_FEE, key_images=frozenset({KeyImage("image-out-1")}), relayed=False
    )
    assert found(life, shown) == [(Code.PAYOUT_NOT_SENT, PAID)]
    assert found(life, shown, transactions={PAID: unrelayed}) == [(Code.PAYOUT_NOT_SENT, PAID)]
    assert found(life, shown, transactions={PAID: waiting}) == []


def test_a_payout_that_is_being_sent_again_is_no_difference() -> None:
    life = broadcast().sees(view(output(), height=121, spends=(spend(height=None),))).sees(view(output(), height=121))
    assert found(life, view(output(), height=DEEP)) == []


# -- what is left to the next comparison ---------------------------------------------------------------------


def test_what_the_chain_shows_counts_from_ten_blocks_deep() -> None:
    life = awaiting_funding()
    assert found(life, view(output(height=None, unlocked=False), height=DEEP)) == []
    assert found(life, view(output(height=DEEP - 9, unlocked=False), height=DEEP)) == []
    assert found(life, view(output(height=DEEP - 10), height=DEEP)) == [(Code.DEPOSIT_NOT_LOGGED, "out-1")]
    fresh = view(output(), height=DEEP, spends=(spend(tx_hash="foreign", height=DEEP - 9),))
    assert found(funded(), fresh) == []


def test_an_output_that_has_just_unlocked_may_be_locked_in_the_log_for_ten_blocks_more() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False), height=110))
    assert found(life, view(output(), height=120)) == []
    assert found(life, view(output(), height=121)) == [(Code.DEPOSIT_LOCK, "out-1")]


def test_what_the_log_says_counts_at_once() -> None:
    life = awaiting_funding().sees(view(output(height=None, unlocked=False)))
    assert found(life, view(height=111)) == [(Code.DEPOSIT_NOT_ON_CHAIN, "out-1")]
    assert found(funded(), view(output(height=110, unlocked=False), height=111)) == [(Code.DEPOSIT_HEIGHT, "out-1")]


# -- a view that begins above the set-up ---------------------------------------------------------------------

PAID_IN = TxHash("tx-out-1")
HELD = {
    PAID_IN: SeenTransaction(height=101, fee=None, key_images=frozenset()),
    PAID: SeenTransaction(height=120, fee=NETWORK_FEE, key_images=frozenset({KeyImage("image-out-1")})),
}


def test_what_the_log_knows_from_below_a_view_is_looked_up_by_its_transaction() -> None:
    life, above = completed(), view(height=DEEP)
    assert found(life, above, since=150, spent=frozenset({OneTimeKey("out-1")}), transactions=HELD) == []
    assert set(hashes_to_ask(life.money, since=150)) == {PAID_IN, PAID}
    assert hashes_to_ask(life.money, since=101) == (PAID,)


def test_what_is_not_there_or_elsewhere_below_a_view_is_told() -> None:
    life, above = completed(), view(height=DEEP)
    assert found(life, above, since=150, transactions={}) == [
        (Code.DEPOSIT_NOT_ON_CHAIN, "out-1"),
        (Code.PAYOUT_NOT_FINAL, PAID),
        (Code.SPEND_NOT_ON_CHAIN, PAID),
    ]
    moved = {each: msgspec.structs.replace(seen, height=130) for each, seen in HELD.items()}
    assert found(life, above, since=150, transactions=moved) == [
        (Code.DEPOSIT_HEIGHT, "out-1"),
        (Code.SPEND_HEIGHT, PAID),
    ]


def test_what_such_a_view_shows_is_compared_as_ever() -> None:
    late = view(output("late", height=180), height=DEEP)
    assert found(completed(), late, since=150, transactions=HELD) == [(Code.DEPOSIT_NOT_LOGGED, "late")]


# -- what comes of it ----------------------------------------------------------------------------------------

GONE = Difference(code=Code.DEPOSIT_NOT_ON_CHAIN, about="out-1", logged=101)
OTHER = Difference(code=Code.DEPOSIT_NOT_LOGGED, about="out-2", shown=150)


def report(life: Life, *of: Difference, version: int | None = None) -> Life:
    version = life.state.core.version if version is None else version
    return life.when(c.ReportComparison(at=life.now, height=DEEP, differences=of, version=version))


def test_a_difference_opens_an_item_that_closes_by_itself_when_there_is_none_any_more() -> None:
    life = report(funded(), GONE).then(e.ChainCompared, e.RecoveryItemOpened)
    assert life.state.core.recovery == (CHAIN_DIFFERS,)
    report(life, GONE).then()
    report(life, GONE, OTHER).then(e.ChainCompared)
    report(life).then(e.ChainCompared, e.RecoveryItemClosed)
    assert not life.state.core.recovery and not life.state.core.differences
    report(life).then()
    report(life, GONE).then(e.ChainCompared, e.RecoveryItemOpened)


def test_differences_that_people_have_looked_at_are_not_told_again_and_others_are() -> None:
    life = report(completed(), GONE)
    life.when(c.NoteRecovery(at=life.now, by=UserId("admin"), action="mark_investigated", notes=Sealed("notes")))
    assert life.state.core.recovery == ()
    report(life, GONE).then()
    report(life, GONE, OTHER).then(e.ChainCompared, e.RecoveryItemOpened)


def test_a_comparison_of_an_escrow_that_has_moved_since_is_refused() -> None:
    life = funded()
    report(life, GONE, version=life.state.core.version - 1).refused("view_outdated")


def test_an_event_names_no_more_differences_than_it_may() -> None:
    many = [Difference(code=Code.DEPOSIT_NOT_LOGGED, about=f"out-{number}") for number in range(LOGGED_MAX + 5)]
    life = report(funded(), *many)
    assert len(life.state.core.differences) == LOGGED_MAX
    report(life, *many).then()


def test_a_comparison_is_no_activity_of_a_stuck_payout() -> None:
    life = releasing()
    active = life.state.core.active_at
    assert report(life.later(60), GONE).state.core.active_at == active


# -- a log that followed the chain ---------------------------------------------------------------------------


@drawn(st.lists(st.tuples(st.sampled_from(["pay", "mine", "spend", "send", "fork"]), st.integers(0, 12)), max_size=12))
def test_a_log_that_took_a_view_in_differs_from_it_in_nothing(moves: list[tuple[str, int]]) -> None:
    life, chain, shorter = awaiting_funding(), Chain(), False
    for move, number in [("pay", 0), ("mine", 2), *moves]:
        match move:
            case "pay":
                chain.pay((AMOUNT, 1, AMOUNT // 2)[number % 3])
            case "mine":
                chain.mine((1, 3, 11)[number % 3])
            case "spend":
                keys = sorted(chain.outputs)[:1]
                chain.spend(keys, f"foreign-{number}")
            case "send":
                _pay_out(life, chain)
            case _:
                shorter = shorter or number > 0
                chain.fork(number, drops=number % 2 == 0)
        life.sees(chain.view())
        left = differences(life.state, _all_of(life, chain))
        # A payout may stop being final under an ended escrow: the log says that in an item of its own.
        assert [each for each in left if not (shorter and each.code == Code.PAYOUT_NOT_FINAL)] == []


def _pay_out(life: Life, chain: Chain) -> None:
    """Brings a funded escrow to its broadcast, as its seats do."""
    for role in Role:
        life.give_export(role)
    life.when(c.Ship(at=life.now, by=VENDOR)).when(c.ConfirmDelivery(at=life.now, by=BUYER))
    payout = life.money.payout
    if payout is None or payout.epoch is None or inputs_sum(life.money, payout.epoch) <= NETWORK_FEE:
        return
    tx_hash = f"payout-{len(life.events)}"
    if payout.epoch.proposal is None:
        life.give_proposal(Role.VENDOR)
    life.give_signature(Role.BUYER, tx_hash=tx_hash)
    # Of one input each: this small chain can cut a transaction in two, which no real one does.
    if len(payout.epoch.inputs) == 1 and chain.spend(payout.epoch.inputs, tx_hash):
        life.broadcasts(Role.BUYER, tx_hash=tx_hash)


def _all_of(life: Life, chain: Chain) -> Evidence:
    """What a daemon on this chain says: each signed transaction as it was made, as long as its spend is there."""
    shown = chain.view()
    by_hash: dict[TxHash, SeenSpend] = {each.tx_hash: each for each in shown.spends}
    transactions = {
        tx_hash: SeenTransaction(
            height=seen.height,
            fee=NETWORK_FEE,
            key_images=frozenset(
                KeyImage(f"image-{each.one_time_key}") for each in shown.spends if each.tx_hash == tx_hash
            ),
        )
        for tx_hash, seen in by_hash.items()
    }
    spent = frozenset(each.one_time_key for each in shown.spends if each.height is not None)
    return Evidence(view=shown, spent=spent, transactions=transactions)
