"""`FEE_SETTLEMENT=sweep`: the winner is paid first, the arbiter afterwards from what was kept back, each once."""

from msgspec.structs import replace

from domain import commands as c
from domain import events as e
from domain.chain import SeenOutput
from domain.dispute import fee_tx_hash
from domain.events import Purpose, Verdict
from domain.ids import CaseId, OneTimeKey, Sealed, TxHash
from domain.money import Atomic
from domain.payout import change_of
from domain.refusals import Refused
from domain.roles import PARTIES, Role
from domain.shredding import unsettled_of
from domain.states import CaseStatus, name
from domain.steps import Step
from domain.terms import FeeSettlement, Policy
from tests.given import AMOUNT, ARBITER, BUYER, NETWORK_FEE, VENDOR, Life, disputed, funded, output, spend, steps, view

SWEEP = Policy(fee_settlement=FeeSettlement.SWEEP)
FEE = AMOUNT // 50
KEPT = OneTimeKey("kept")


def ruled(*, verdict: Verdict = Verdict.REFUND, policy: Policy = SWEEP) -> Life:
    life = disputed(policy=policy).give_export(Role.ARBITER)
    return life.when(
        c.ResolveDispute(at=life.now, by=ARBITER, verdict=verdict, buyer_share_bp=None, reason=Sealed("because"))
    )


def kept(*, height: int | None = 120, unlocked: bool = True) -> SeenOutput:
    return SeenOutput(
        one_time_key=KEPT, tx_hash=TxHash("payout-tx"), amount=Atomic(FEE), height=height, unlocked=unlocked
    )


def winner_paid(*, unlocked: bool = True) -> Life:
    """The winner's payout is final; the change unlocks with it, or later."""
    life = ruled().give_proposal(Role.BUYER).give_signature(Role.ARBITER).broadcasts(Role.ARBITER)
    return life.sees(view(output(), kept(unlocked=unlocked), height=130, spends=(spend(),)))


def fee_signed() -> Life:
    life = winner_paid().give_export(Role.ARBITER).give_proposal(Role.VENDOR)
    return life.give_signature(Role.ARBITER, tx_hash="fee-tx").broadcasts(Role.ARBITER, tx_hash="fee-tx")


def fee_paid() -> Life:
    life = fee_signed()
    return life.sees(view(output(), kept(), height=150, spends=(spend(), spend("kept", tx_hash="fee-tx", height=140))))


def test_the_winner_gets_all_but_the_fee_which_stays_at_the_address() -> None:
    life = ruled().give_proposal(Role.BUYER)
    epoch = life.money.payouts[-1].epochs[-1]
    assert epoch.proposal is not None
    assert [(each.roles, each.amount) for each in epoch.proposal.shares] == [
        ((Role.BUYER,), AMOUNT - FEE - NETWORK_FEE)
    ]
    assert change_of(life.money, epoch) == FEE


def test_the_order_ends_with_the_winner_and_the_fee_is_an_item_for_people() -> None:
    life = winner_paid(unlocked=False)
    assert name(life.state) == "refunded"
    case = life.state.core.case
    assert case is not None and case.status is CaseStatus.RESOLVED
    assert life.state.core.recovery == ("fee_unpaid",)
    assert fee_tx_hash(life.state) is None
    assert life.money.payout is None
    assert unsettled_of(life.state) == "recovery_item"


def test_the_arbiters_payout_begins_when_the_change_is_unlocked_and_either_party_proposes() -> None:
    payout = winner_paid().money.payout
    assert payout is not None and payout.epoch is not None
    assert (payout.purpose, payout.proposers, payout.cosigner) == (Purpose.FEE, PARTIES, Role.ARBITER)
    assert payout.epoch.inputs == (KEPT,)
    assert steps(winner_paid()) == {Role.ARBITER: Step.EXPORT}
    life = winner_paid().give_export(Role.ARBITER)
    assert steps(life) == dict.fromkeys(PARTIES, Step.PROPOSE)


def test_the_arbiter_bears_the_network_fee_of_its_own_payout() -> None:
    epoch = fee_signed().money.payouts[-1].epochs[-1]
    assert epoch.proposal is not None
    assert [(each.roles, each.amount) for each in epoch.proposal.shares] == [((Role.ARBITER,), FEE - NETWORK_FEE)]


def test_once_it_is_final_nothing_is_left() -> None:
    life = fee_paid().then_among(e.ArbiterFeePaid).then_among(e.RecoveryItemClosed)
    assert name(life.state) == "refunded"
    assert life.state.core.recovery == ()
    assert fee_tx_hash(life.state) == "fee-tx"
    assert life.money.payout is None
    assert unsettled_of(life.state) is None
    assert steps(life) == {}


def test_the_fee_is_never_the_parties_to_settle() -> None:
    life = winner_paid(unlocked=False)
    life.when(c.ProposeAgreement(at=life.now, by=BUYER, buyer_share_bp=5_000)).refused("nothing_to_pay")


def test_a_late_deposit_is_settled_apart_from_the_fee() -> None:
    life = winner_paid(unlocked=False)
    late = output("late", height=131)
    life.sees(view(output(), kept(unlocked=False), late, height=150, spends=(spend(),)))
    life.when(c.ProposeAgreement(at=life.now, by=VENDOR, buyer_share_bp=10_000))
    life.when(c.AcceptAgreement(at=life.now, by=BUYER, number=1))
    payout = life.money.payout
    assert payout is not None and payout.epoch is not None
    assert (payout.purpose, payout.epoch.inputs) == (Purpose.AGREEMENT, (OneTimeKey("late"),))
    assert set(life.state.core.recovery) == {"fee_unpaid", "late_deposit"}


def test_a_reorganisation_that_takes_the_change_back_stops_the_arbiters_payout_until_it_is_there_again() -> None:
    life = winner_paid().give_export(Role.ARBITER).give_proposal(Role.BUYER)
    life.sees(view(output(), kept(height=None, unlocked=False), height=121, spends=(spend(height=None),)))
    assert life.money.payouts[-1].epochs[-1].ended == "input_lost"
    assert "deposit_lost" not in life.state.core.recovery
    life.sees(view(output(), kept(height=122), height=140, spends=(spend(height=122),)))
    payout = life.money.payout
    assert payout is not None and payout.epoch is not None and payout.epoch.inputs == (KEPT,)


def test_a_payout_given_up_during_a_reorganisation_and_mined_all_the_same_is_the_arbiters() -> None:
    life = fee_signed()
    paid = spend("kept", tx_hash="fee-tx", height=None)
    life.sees(view(output(), kept(height=None, unlocked=False), height=121, spends=(spend(height=None), paid)))
    assert life.money.payouts[-1].epochs[-1].ended == "input_lost"
    paid = spend("kept", tx_hash="fee-tx", height=133)
    life.sees(view(output(), kept(height=122), height=160, spends=(spend(height=122), paid)))
    life.then_among(e.ArbiterFeePaid)
    assert life.money.payout is None
    assert "fee_unpaid" not in life.state.core.recovery


def test_what_was_sent_and_never_seen_is_sent_again_when_a_person_asks() -> None:
    life = fee_signed().later(72 * 3_600)
    assert steps(life) == {}
    life.when(c.RetryTransaction(at=life.now, by=ARBITER, notes=Sealed("again"))).then(e.RecoveryActionTaken)
    assert steps(life) == {Role.ARBITER: Step.BROADCAST}
    fee_paid().when(c.RetryTransaction(at=life.now, by=ARBITER, notes=Sealed("again"))).refused("wrong_state")


def test_what_was_signed_and_is_rejected_is_made_anew_when_a_person_asks() -> None:
    life = winner_paid().give_export(Role.ARBITER).give_proposal(Role.VENDOR)
    life.give_signature(Role.ARBITER, tx_hash="fee-tx").fails(Role.ARBITER, reason="rejected_by_daemon")
    life.when(c.RetryTransaction(at=life.now, by=ARBITER, notes=Sealed("again")))
    assert steps(life) == {Role.ARBITER: Step.EXPORT}


def test_what_was_kept_back_and_spent_by_others_is_said_and_stays_unpaid() -> None:
    life = winner_paid()
    life.sees(view(output(), kept(), height=150, spends=(spend(), spend("kept", tx_hash="theirs", height=139))))
    assert set(life.state.core.recovery) == {"fee_unpaid", "spent_by_others"}
    assert fee_tx_hash(life.state) is None
    assert life.money.payout is None
    life.when(c.NoteRecovery(at=life.now, by=ARBITER, action="mark_investigated", notes=Sealed("looked")))
    assert unsettled_of(life.state) is None


def test_a_reorganisation_that_takes_the_arbiters_payment_back_pays_it_anew_and_once() -> None:
    life = fee_paid().sees(view(output(), kept(), height=150, spends=(spend(),)))
    payout = life.money.payout
    assert payout is not None and (payout.purpose, payout.number) == (Purpose.FEE, 4)
    assert fee_tx_hash(life.state) is None
    life.give_export(Role.ARBITER).give_proposal(Role.BUYER)
    first = spend("kept", tx_hash="fee-tx", height=151)
    life.sees(view(output(), kept(), height=162, spends=(spend(), first)))
    assert life.money.payout is None
    assert fee_tx_hash(life.state) == "fee-tx"


def test_after_all_its_epochs_a_person_asks_for_more() -> None:
    life = winner_paid()
    for _ in range(SWEEP.epochs_max):
        life.give_export(Role.ARBITER)
        payout = life.money.payout
        assert payout is not None and payout.epoch is not None
        life.when(
            c.AbandonEpoch(
                at=life.now, role=Role.ARBITER, payout=payout.number, epoch=payout.epoch.number, reason="stale"
            )
        )
    assert "epochs_exhausted" in life.state.core.recovery
    life.when(c.RetryTransaction(at=life.now, by=ARBITER, notes=Sealed("again")))
    assert not isinstance(life.answer, Refused)
    assert life.money.payout is not None and life.money.payout.epoch is not None
    assert steps(life) == {Role.ARBITER: Step.EXPORT}


def test_a_fee_not_worth_a_transaction_of_its_own_is_paid_together() -> None:
    small = replace(SWEEP, arbiter_fee_ppm=1_500)  # 0.003 XMR of 2, less than dust above the network fee
    life = ruled(policy=small).give_proposal(Role.BUYER)
    epoch = life.money.payouts[-1].epochs[-1]
    assert epoch.proposal is not None
    assert {role for share in epoch.proposal.shares for role in share.roles} == {Role.BUYER, Role.ARBITER}
    assert change_of(life.money, epoch) == 0


def test_nothing_is_kept_back_where_the_wallet_could_do_without_a_deposit() -> None:
    small = [output("out-1"), *(output(key, amount=FEE // 2) for key in ("a", "b", "c"))]
    life = funded(*small, policy=SWEEP)
    life.when(c.OpenDispute(at=life.now, by=BUYER, case_id=CaseId("case-1"), claim=Sealed("claim")))
    life.when(
        c.ResolveDispute(at=life.now, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("because"))
    )
    epoch = life.give_proposal(Role.BUYER).money.payouts[-1].epochs[-1]
    assert len(epoch.inputs) == 4
    assert change_of(life.money, epoch) == 0


def test_settled_together_nothing_is_kept_back() -> None:
    life = ruled(policy=Policy(fee_settlement=FeeSettlement.SINGLE)).give_proposal(Role.BUYER)
    assert change_of(life.money, life.money.payouts[-1].epochs[-1]) == 0
