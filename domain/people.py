"""What the three decide about the order itself: addresses, shipping, delivery, refund, cancellation, agreements."""

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent, Purpose
from domain.ids import MICROS, UserId
from domain.payout import BP_ALL, unspent
from domain.refusals import Refused
from domain.roles import PARTIES, Role, other_party
from domain.setup import arbiter_unready, payin_address
from domain.signing import drop_payout, may_be_broadcast, open_payout, open_refund, open_release
from domain.states import (
    AwaitingFunding,
    Delivering,
    Disputed,
    Escrow,
    Funded,
    Offer,
    Pending,
    SettingUp,
    money_of,
)

SHIP_LATER_MAX_S = 90 * 24 * 3_600


def role_of(state: Escrow, user: UserId) -> Role | None:
    """Names which of the three a user is."""
    return state.core.terms.role_of(user)


# -- payout addresses ----------------------------------------------------------------------------------------


def set_address(state: Escrow, command: c.SetPayoutAddress) -> list[AnyEvent] | Refused:
    """Sets one's own payout address; once the pay-in address is shown, somebody else must consent to a change."""
    role = role_of(state, command.by)
    if role is None:
        return Refused("no_such_escrow")
    if command.is_escrow_address:
        return Refused("payout_address_is_escrow")
    # Kept back for want of the arbiter it may be paid to all the same, by whoever found it in the log.
    paid_early = isinstance(state, AwaitingFunding) and arbiter_unready(state) and bool(state.money.deposits)
    shown = payin_address(state) is not None or paid_early
    if not shown or role not in state.core.addresses:
        return _set_freely(state, command, role)
    return _ask_for_change(state, command, role)


def _ask_for_change(state: Escrow, command: c.SetPayoutAddress, role: Role) -> list[AnyEvent] | Refused:
    # Asking for the present address takes an earlier request back; otherwise a request never changes under the
    # eyes of those who are to consent.
    asked, present = state.core.address_changes.get(role), state.core.addresses[role]
    wanted = asked or present
    if wanted.tag == command.tag:
        return []
    if asked and command.tag != present.tag:
        return Refused("address_change_pending")
    money = money_of(state)
    if money and money.payout and money.payout.epoch:
        return Refused("epoch_in_progress")
    return [e.AddressChangeProposed(at=command.at, role=role, tag=command.tag, address=command.address)]


def _set_freely(state: Escrow, command: c.SetPayoutAddress, role: Role) -> list[AnyEvent] | Refused:
    known = state.core.addresses.get(role)
    if known and known.tag == command.tag:
        return []  # the same address; sealed anew it only looks different
    return [e.PayoutAddressSet(at=command.at, role=role, tag=command.tag, address=command.address)]


def consent_address(state: Escrow, command: c.ConsentAddress) -> list[AnyEvent] | Refused:
    """Consents to another one's new payout address."""
    role = role_of(state, command.by)
    if role is None:
        return Refused("no_such_escrow")
    asked = state.core.address_changes.get(command.role)
    if role is command.role or asked is None or command.tag not in (None, asked.tag):
        return Refused("not_awaited")
    money = money_of(state)
    if money and money.payout and money.payout.epoch:
        return Refused("epoch_in_progress")
    return [e.AddressChangeAgreed(at=command.at, role=command.role, agreed_by=role)]


# -- the order -----------------------------------------------------------------------------------------------


def cancel(state: Escrow, command: c.CancelEscrow) -> list[AnyEvent] | Refused:
    """Ends the order; from the first deposit seen nobody can."""
    role = role_of(state, command.by)
    if role not in PARTIES:
        return Refused("not_a_party")
    if not isinstance(state, Pending | SettingUp | AwaitingFunding):
        return Refused("wrong_state")
    if isinstance(state, AwaitingFunding) and state.money.deposits:
        return Refused("deposit_seen")
    return [e.Cancelled(at=command.at, by=role, reason="by_party")]


def ship(state: Escrow, command: c.Ship) -> list[AnyEvent] | Refused:
    """Records the shipping and lets the vendor's wallet propose the release at once."""
    if role_of(state, command.by) is not Role.VENDOR:
        return Refused("not_the_vendor")
    if not isinstance(state, Funded):
        return Refused("wrong_state")
    return [e.Shipped(at=command.at), open_release(state.money, at=command.at)]


def confirm_delivery(state: Escrow, command: c.ConfirmDelivery) -> list[AnyEvent] | Refused:
    """Releases the money: from now on the buyer's wallet may sign."""
    if role_of(state, command.by) is not Role.BUYER:
        return Refused("not_the_buyer")
    match state:
        case Disputed():
            return Refused("dispute_open")
        case Funded():
            return Refused("not_shipped")
        case Delivering() if state.money.payout:
            approved = e.PayoutApproved(at=command.at, number=state.money.payout.number, by=Role.BUYER)
            return [e.DeliveryConfirmed(at=command.at), approved]
        case _:
            return Refused("wrong_state")


def grant_refund(state: Escrow, command: c.GrantRefund) -> list[AnyEvent] | Refused:
    """Gives the money back; the vendor's word is final, the buyer's wallet proposes."""
    if role_of(state, command.by) is not Role.VENDOR:
        return Refused("not_the_vendor")
    if not isinstance(state, AwaitingFunding | Funded | Delivering | Disputed):
        return Refused("wrong_state")
    money = state.money
    if not unspent(money):
        return Refused("nothing_to_pay")
    at = command.at
    closed: list[AnyEvent] = [e.DisputeClosed(at=at, reason="agreed")] if isinstance(state, Disputed) else []
    return [
        *drop_payout(state, at=at, reason="refund_granted"),
        e.RefundGranted(at=at),
        *closed,
        open_refund(money, at=at),
    ]


# -- agreements ----------------------------------------------------------------------------------------------


def propose_agreement(state: Escrow, command: c.ProposeAgreement) -> list[AnyEvent] | Refused:
    """Offers the other party a share of the money or a later deadline to ship."""
    role = role_of(state, command.by)
    if role not in PARTIES:
        return Refused("not_a_party")
    refused = _offer_refused(state, command)
    if refused:
        return refused
    return [
        e.AgreementProposed(
            at=command.at,
            number=state.core.offers_made + 1,
            by=role,
            buyer_share_bp=command.buyer_share_bp,
            ship_until=command.ship_until,
        )
    ]


def _offer_refused(state: Escrow, command: c.ProposeAgreement) -> Refused | None:
    bp, until = command.buyer_share_bp, command.ship_until
    if (bp is None) == (until is None) or (bp is not None and not 0 <= bp <= BP_ALL):
        return Refused("bp_invalid")
    if until is not None:
        if not isinstance(state, Funded):
            return Refused("wrong_state")
        present = state.core.ship_until or state.core.since + state.core.terms.policy.ship_s * MICROS
        if not max(present, command.at) < until <= command.at + SHIP_LATER_MAX_S * MICROS:
            return Refused("deadline_invalid")
        return None
    return _settlement_refused(state)


def _settlement_refused(state: Escrow) -> Refused | None:
    money, case = money_of(state), state.core.case
    if money is None or not unspent(money):
        return Refused("nothing_to_pay")
    if may_be_broadcast(state, money.payout):
        return Refused("already_broadcast")
    if case and not case.over and not case.undecided:
        return Refused("case_closed")
    return None


def accept_agreement(state: Escrow, command: c.AcceptAgreement) -> list[AnyEvent] | Refused:
    """Accepts the other party's offer: for a share of the money, an open case closes and a payout begins."""
    role = role_of(state, command.by)
    if role not in PARTIES:
        return Refused("not_a_party")
    offer = _offer(state, command.number)
    if offer is None:
        return Refused("agreement_none")
    if offer.by is role:
        return Refused("agreement_own")
    accepted = e.AgreementAccepted(at=command.at, number=offer.number, by=role)
    if offer.buyer_share_bp is None:
        return _accept_later_shipping(state, offer, accepted)
    refused = _settlement_refused(state)
    return refused if refused else _settle(state, command, accepted, offer.buyer_share_bp)


def _accept_later_shipping(state: Escrow, offer: Offer, accepted: e.AgreementAccepted) -> list[AnyEvent] | Refused:
    if not isinstance(state, Funded):
        return Refused("wrong_state")
    if offer.ship_until is None or offer.ship_until <= accepted.at:
        return Refused("deadline_invalid")
    return [accepted]


def _settle(
    state: Escrow, command: c.AcceptAgreement, accepted: e.AgreementAccepted, buyer_share_bp: int
) -> list[AnyEvent]:
    money, case, at = money_of(state), state.core.case, command.at
    assert money is not None
    # The one who receives more proposes: whoever cosigns holds the other's consent in its hands.
    proposer = Role.BUYER if buyer_share_bp * 2 > BP_ALL else Role.VENDOR
    open_case = case is not None and case.undecided
    return [
        *drop_payout(state, at=at, reason="agreed"),
        accepted,
        *([e.DisputeClosed(at=at, reason="agreed")] if open_case else []),
        open_payout(
            money,
            at=at,
            purpose=Purpose.AGREEMENT,
            proposers=(proposer,),
            cosigner=other_party(proposer),
            consents=PARTIES,
            buyer_share_bp=buyer_share_bp,
        ),
    ]


def withdraw_agreement(state: Escrow, command: c.WithdrawAgreement) -> list[AnyEvent] | Refused:
    """Takes one's own offer back."""
    role = role_of(state, command.by)
    offer = _offer(state, command.number)
    if offer is None or offer.by is not role:
        return Refused("agreement_none")
    return [e.AgreementWithdrawn(at=command.at, number=offer.number)]


def _offer(state: Escrow, number: int) -> Offer | None:
    return next((offer for offer in state.core.offers if offer.number == number), None)
