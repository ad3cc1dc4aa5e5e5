"""Refusals change nothing, and every code is somebody's."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

import domain
from domain import commands as c
from domain import events as e
from domain.decide import decide
from domain.evolve import ImpossibleHistory, evolve
from domain.ids import CaseId, Micros, OneTimeKey, Sealed, TxHash, UserId, WalletId
from domain.money import ATOMIC_MAX
from domain.refusals import SENTENCES, Refused
from domain.roles import Role, SeatKind
from domain.states import NAMES, Failure, name
from domain.steps import Step
from domain.turns import turn_of
from tests.given import (
    ARBITER,
    BUYER,
    START,
    VENDOR,
    Life,
    add_evidence,
    awaiting_funding,
    completed,
    created,
    delivering,
    disputed,
    funded,
    output,
    releasing,
    spend,
    terms,
    view,
)


def refunding() -> Life:
    life = delivering()
    return life.when(c.GrantRefund(at=life.now, by=VENDOR))


def stuck(life: Life) -> Life:
    return life.passes(49 * 3600)


def cancelled() -> Life:
    life = awaiting_funding()
    return life.when(c.CancelEscrow(at=life.now, by=BUYER))


def setup_failed() -> Life:
    life = created(seats=SeatKind.REGISTERED)
    for role in Role:
        life.when(c.JoinSeat(at=life.now, role=role, wallet_id=WalletId(f"w-{role}"), identity_key="k"))
    return life.passes(3601)


def refunded() -> Life:
    life = refunding().give_proposal(Role.BUYER).give_signature(Role.VENDOR).broadcasts(Role.VENDOR)
    return life.sees(view(output(), height=130, spends=(spend(),)))


LIVES = {
    "pending": lambda: created(seats=SeatKind.RELAY),
    "setting_up": created,
    "awaiting_funding": awaiting_funding,
    "funded": funded,
    "delivering": delivering,
    "releasing": releasing,
    "refunding": refunding,
    "releasing_recovery_needed": lambda: stuck(releasing()),
    "refunding_recovery_needed": lambda: stuck(refunding()),
    "disputed": disputed,
    "completed": completed,
    "refunded": refunded,
    "cancelled": cancelled,
    "setup_failed": setup_failed,
}
"""A life in each state."""

STATES = tuple(LIVES)
_LATE = "completed refunded cancelled setup_failed"
_PAYING = "releasing refunding releasing_recovery_needed refunding_recovery_needed"
_NO_MONEY = "pending setting_up setup_failed"


def _table(ok: str, **refused: str) -> dict[str, str]:
    answers = dict.fromkeys(ok.split(), "ok")
    for code, states in refused.items():
        answers |= dict.fromkeys(states.split(), code)
    return {state: answers.get(state, "wrong_state") for state in STATES}


PEOPLE: dict[str, tuple[Callable[[Micros], c.AnyCommand], dict[str, str]]] = {
    "cancel": (
        lambda at: c.CancelEscrow(at=at, by=BUYER),
        _table("pending setting_up awaiting_funding"),
    ),
    "ship": (lambda at: c.Ship(at=at, by=VENDOR), _table("funded")),
    "confirm_delivery": (
        lambda at: c.ConfirmDelivery(at=at, by=BUYER),
        _table("delivering", dispute_open="disputed", not_shipped="funded"),
    ),
    "refund": (
        lambda at: c.GrantRefund(at=at, by=VENDOR),
        _table("funded delivering disputed", nothing_to_pay="awaiting_funding"),
    ),
    "open_dispute": (
        lambda at: c.OpenDispute(at=at, by=VENDOR, case_id=CaseId("case-2"), claim=Sealed("claim")),
        _table(f"funded delivering {_PAYING}", case_exists="disputed"),
    ),
    "add_message": (
        lambda at: c.AddMessage(at=at, by=VENDOR, message=Sealed("said")),
        {state: "ok" if state == "disputed" else "no_case" for state in STATES},
    ),
    "add_evidence": (
        lambda at: add_evidence(at=at, by=VENDOR),
        {state: "ok" if state == "disputed" else "no_case" for state in STATES},
    ),
    "add_claim": (
        lambda at: c.AddClaim(at=at, by=VENDOR, claim=Sealed("claim")),
        {state: "ok" if state == "disputed" else "no_case" for state in STATES},
    ),
    "review": (
        lambda at: c.ReviewDispute(at=at, by=ARBITER),
        {state: "ok" if state == "disputed" else "no_case" for state in STATES},
    ),
    "resolve": (
        lambda at: c.ResolveDispute(
            at=at, by=ARBITER, verdict=e.Verdict.REFUND, buyer_share_bp=None, reason=Sealed("r")
        ),
        {state: "ok" if state == "disputed" else "no_case" for state in STATES},
    ),
    "offer_share": (
        lambda at: c.ProposeAgreement(at=at, by=BUYER, buyer_share_bp=5000),
        _table(
            f"funded delivering disputed {_PAYING}",
            nothing_to_pay=f"{_NO_MONEY} awaiting_funding {_LATE}",
        ),
    ),
    "offer_later_shipping": (
        lambda at: c.ProposeAgreement(at=at, by=VENDOR, ship_until=Micros(at + 10 * 24 * 3600 * 1_000_000)),
        _table("funded"),
    ),
    "accept": (
        lambda at: c.AcceptAgreement(at=at, by=BUYER, number=1),
        dict.fromkeys(STATES, "agreement_none"),
    ),
    "withdraw": (
        lambda at: c.WithdrawAgreement(at=at, by=BUYER, number=1),
        dict.fromkeys(STATES, "agreement_none"),
    ),
    "set_address": (
        lambda at: c.SetPayoutAddress(at=at, by=ARBITER, tag="new", address=Sealed("new")),
        _table(
            f"pending setting_up awaiting_funding funded disputed {_LATE}",
            epoch_in_progress=f"delivering {_PAYING}",
        ),
    ),
    "consent_address": (
        lambda at: c.ConsentAddress(at=at, by=BUYER, role=Role.ARBITER),
        dict.fromkeys(STATES, "not_awaited"),
    ),
    "retry": (
        lambda at: c.RetryTransaction(at=at, by=UserId("admin"), notes=Sealed("n")),
        _table("releasing_recovery_needed refunding_recovery_needed"),
    ),
    "contact_arbiter": (
        lambda at: c.NoteRecovery(at=at, by=UserId("admin"), action="contact_arbiter", notes=Sealed("n")),
        _table("releasing_recovery_needed refunding_recovery_needed disputed"),
    ),
}
"""Every command of people with its answer in each state, given by the one who may give it."""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("command", PEOPLE)
def test_each_command_of_people_is_answered_as_its_state_demands(command: str, state: str) -> None:
    make, answers = PEOPLE[command]
    life = LIVES[state]()
    assert name(life.state) == state
    before = life.state
    life.when(make(life.now))
    if answers[state] == "ok":
        assert not isinstance(life.answer, Refused), life.answer
    else:
        life.refused(answers[state])
        assert life.state == before


def test_the_table_knows_every_state() -> None:
    assert set(STATES) == set(NAMES.values())


STRANGERS = {
    "cancel": "not_a_party",
    "ship": "not_the_vendor",
    "confirm_delivery": "not_the_buyer",
    "refund": "not_the_vendor",
    "open_dispute": "not_a_party",
    "add_claim": "not_a_party",
    "review": "not_the_arbiter",
    "resolve": "not_the_arbiter",
    "offer_share": "not_a_party",
    "accept": "not_a_party",
    "withdraw": "agreement_none",
    "set_address": "no_such_escrow",
    "consent_address": "no_such_escrow",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("command", STRANGERS)
def test_a_stranger_can_do_nothing_in_any_state(command: str, state: str) -> None:
    life = LIVES[state]()
    life.when(replace(PEOPLE[command][0](life.now), by=UserId("eve"))).refused(STRANGERS[command])


@pytest.mark.parametrize(
    ("command", "by", "code"),
    [
        ("ship", BUYER, "not_the_vendor"),
        ("ship", ARBITER, "not_the_vendor"),
        ("confirm_delivery", VENDOR, "not_the_buyer"),
        ("confirm_delivery", ARBITER, "not_the_buyer"),
        ("refund", BUYER, "not_the_vendor"),
        ("refund", ARBITER, "not_the_vendor"),
        ("cancel", ARBITER, "not_a_party"),
        ("open_dispute", ARBITER, "not_a_party"),
        ("add_claim", ARBITER, "not_a_party"),
        ("offer_share", ARBITER, "not_a_party"),
        ("accept", ARBITER, "not_a_party"),
        ("resolve", BUYER, "not_the_arbiter"),
        ("review", VENDOR, "not_the_arbiter"),
    ],
)
def test_none_of_the_three_does_what_is_anothers(command: str, by: UserId, code: str) -> None:
    life = disputed()
    life.when(replace(PEOPLE[command][0](life.now), by=by)).refused(code)


# -- creation ------------------------------------------------------------------------------------------------


def test_an_escrow_is_created_once() -> None:
    life = created()
    life.when(c.CreateEscrow(at=life.now, terms=terms(), by=BUYER)).refused("escrow_exists")


def test_nothing_can_be_asked_of_an_escrow_that_was_not_created() -> None:
    assert decide(None, c.Ship(at=START, by=VENDOR)) == Refused("no_such_escrow")


@pytest.mark.parametrize("amount", [0, -1, ATOMIC_MAX + 1])
def test_an_amount_that_is_no_sum_of_money_is_refused(amount: int) -> None:
    Life().when(c.CreateEscrow(at=START, terms=terms(amount=amount), by=BUYER)).refused("amount_invalid")


def test_the_smallest_and_the_largest_amount_are_accepted() -> None:
    for amount in (1, ATOMIC_MAX):
        Life().when(c.CreateEscrow(at=START, terms=terms(amount=amount), by=BUYER)).then_among(e.EscrowCreated)


@pytest.mark.parametrize("same", ["buyer_id", "vendor_id", "arbiter_id"])
def test_the_three_are_three_people(same: str) -> None:
    other = {"buyer_id": VENDOR, "vendor_id": ARBITER, "arbiter_id": BUYER}[same]
    Life().when(c.CreateEscrow(at=START, terms=replace(terms(), **{same: other}), by=BUYER)).refused(
        "three_must_differ"
    )


# -- intents and failures ------------------------------------------------------------------------------------


def test_joining_is_no_wallet_call_to_announce() -> None:
    life = created(seats=SeatKind.RELAY)
    life.when(
        c.IntendCall(at=life.now, role=Role.BUYER, step=Step.JOIN, turn_id="join", wallet_id=WalletId("w"))
    ).refused("not_awaited")


def test_a_call_of_another_wallet_is_not_announced() -> None:
    life = awaiting_funding().sees(view(output(unlocked=False)))
    turn = turn_of(life.state, Role.BUYER)
    assert turn is not None
    life.when(
        c.IntendCall(at=life.now, role=Role.BUYER, step=turn.step, turn_id=turn.turn_id, wallet_id=WalletId("other"))
    ).refused("wallet_other")


def test_a_failure_told_late_leaves_the_call_under_way_announced() -> None:
    life = releasing().intends(Role.BUYER)
    late = c.FailTurn(at=life.now, role=Role.BUYER, step=Step.EXPORT, turn_id="export:1", reason="daemon_down")
    life.when(late).refused("not_awaited")
    assert life.state.core.intents[Role.BUYER].step is Step.COSIGN


def test_the_same_failure_twice_is_no_news() -> None:
    life = releasing()
    failed = c.FailTurn(at=life.now, role=Role.BUYER, step=Step.COSIGN, turn_id="cosign:1:1", reason="wallet_away")
    life.when(failed).then(e.TurnFailed)
    life.when(failed).then()
    assert life.state.core.failures == {Role.BUYER: Failure(call=None, reason="wallet_away")}


def test_a_failed_call_is_no_longer_announced() -> None:
    life = releasing().intends(Role.BUYER)
    life.when(c.FailTurn(at=life.now, role=Role.BUYER, step=Step.COSIGN, turn_id="cosign:1:1", reason="refused"))
    assert life.state.core.intents == {}


# -- histories that cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        e.EscrowCreated(at=START, terms=terms(), created_by=BUYER),
        e.DepositUnlocked(at=START, one_time_key=OneTimeKey("nobody's")),
        e.SpendFinal(at=START, tx_hash=TxHash("nobody's")),
        e.AddressChangeAgreed(at=START, role=Role.BUYER, agreed_by=Role.VENDOR),
        e.AgreementAccepted(at=START, number=7, by=Role.BUYER),
        e.PayoutSigned(at=START, payout=9, epoch=1, tx_hash=TxHash("t"), signed=Sealed("s"), digest="d"),
        e.SetupStarted(at=START),
        e.DeliveryConfirmed(at=START),
        e.DisputeReviewed(at=START),
        e.ManualRecoveryRequired(at=START, original_status="releasing", hours_stuck=48),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_that_cannot_follow_is_an_impossible_history(event: e.AnyEvent) -> None:
    with pytest.raises(ImpossibleHistory):
        evolve(funded().state, event)


def test_nothing_happens_before_the_creation() -> None:
    with pytest.raises(ImpossibleHistory):
        evolve(None, e.Shipped(at=START))


# -- codes ---------------------------------------------------------------------------------------------------


def _refused_codes() -> set[str]:
    found: set[str] = set()
    for path in Path(domain.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused":
                first = node.args[0] if node.args else None
                found |= {str(first.value)} if isinstance(first, ast.Constant) else set()
    return found


def test_every_code_is_refused_somewhere() -> None:
    assert set(SENTENCES) - _refused_codes() == set()


def test_a_code_without_a_sentence_is_no_refusal() -> None:
    with pytest.raises(AssertionError):
        Refused("because")
    assert Refused("no_case").sentence == SENTENCES["no_case"]
