"""`evolve(state, event) -> state`: the only way a state comes about."""

from collections.abc import Iterable

from msgspec.structs import replace

from domain import events as e
from domain.events import AnyEvent
from domain.evolve_money import chain_part, signing_part, turn_taken, with_core, with_money, with_payout
from domain.roles import Role
from domain.states import (
    TERMINAL,
    AwaitingFunding,
    Cancelled,
    Case,
    CaseStatus,
    Confirmation,
    Core,
    Delivering,
    Disputed,
    Escrow,
    Failure,
    Funded,
    Intent,
    Message,
    Money,
    Offer,
    Payout,
    PayoutAddress,
    Pending,
    Refunding,
    RefundingRecoveryNeeded,
    Releasing,
    ReleasingRecoveryNeeded,
    Seat,
    SettingUp,
    Setup,
    SetupFailed,
    money_of,
)


class ImpossibleHistory(Exception):
    """An event cannot follow the events before it: the log of this escrow is not to be trusted."""


def fold(events: Iterable[AnyEvent], *, start: Escrow | None = None) -> Escrow | None:
    """Replays events into a state; None for a stream without events."""
    state = start
    for event in events:
        state = evolve(state, event)
    return state


def evolve(state: Escrow | None, event: AnyEvent) -> Escrow:
    """Applies one event. Raises `ImpossibleHistory` when it cannot follow."""
    if isinstance(event, e.EscrowCreated):
        if state is not None:
            raise ImpossibleHistory("escrow_created twice")
        return Pending(core=_first_core(event))
    if state is None:
        raise ImpossibleHistory(f"{type(event).__name__} before escrow_created")
    try:
        after = _apply(state, event)
    except (KeyError, StopIteration) as dangling:
        raise ImpossibleHistory(f"{type(event).__name__} names what is not there") from dangling
    entered = type(after) is not type(state)
    ended = entered and isinstance(after, TERMINAL)
    return replace(after, core=_stamp(after.core, event, entered=entered, ended=ended))


def _first_core(event: e.EscrowCreated) -> Core:
    at = event.at
    return Core(terms=event.terms, created_at=at, since=at, active_at=at, last_at=at, version=1)


def _stamp(core: Core, event: AnyEvent, *, entered: bool, ended: bool) -> Core:
    active = not isinstance(event, e.NO_ACTIVITY)
    core = _with_facts(core, event)
    core = replace(core, offers=()) if ended else core  # an offer about the order says nothing about later money
    return replace(
        core,
        version=core.version + 1,
        last_at=event.at,
        since=event.at if entered else core.since,
        active_at=event.at if active else core.active_at,
        stage=0 if active else core.stage,
    )


def _with_facts(core: Core, event: AnyEvent) -> Core:
    # What was looked at once is looked at again when it happens again.
    match event:
        case e.DepositReturned() | e.DepositLost():
            return _raised_anew(core, "deposit_lost") if "deposit_lost" not in core.recovery else core
        case e.DepositSeen():
            return _raised_anew(core, "late_deposit")
        case _:
            return core


def _apply(state: Escrow, event: AnyEvent) -> Escrow:
    for part in (_order, _setting_up, chain_part, _people, _case, signing_part, _time):
        after = part(state, event)
        if after is not None:
            return after
    raise ImpossibleHistory(f"{type(event).__name__} in {type(state).__name__}")


# -- the order -----------------------------------------------------------------------------------------------


def _order(state: Escrow, event: AnyEvent) -> Escrow | None:
    core = state.core
    match event:
        case e.PayoutAddressSet():
            mine = PayoutAddress(tag=event.tag, sealed=event.address)
            return with_core(state, replace(core, addresses=core.addresses | {event.role: mine}))
        case e.AddressChangeProposed():
            return with_core(state, _ask_address(core, event))
        case e.AddressChangeAgreed():
            return with_core(state, _change_address(core, event.role))
        case e.Cancelled():
            return Cancelled(core=core, reason=event.reason, money=money_of(state))
        case _:
            return None


def _ask_address(core: Core, event: e.AddressChangeProposed) -> Core:
    others = {role: asked for role, asked in core.address_changes.items() if role is not event.role}
    if event.role in core.addresses and core.addresses[event.role].tag == event.tag:
        return replace(core, address_changes=others)  # back to the present address: nothing is asked any more
    asked = PayoutAddress(tag=event.tag, sealed=event.address)
    return replace(core, address_changes=others | {event.role: asked})


def _change_address(core: Core, role: Role) -> Core:
    left = {other: asked for other, asked in core.address_changes.items() if other is not role}
    return replace(core, addresses=core.addresses | {role: core.address_changes[role]}, address_changes=left)


# -- set-up --------------------------------------------------------------------------------------------------


def _setting_up(state: Escrow, event: AnyEvent) -> Escrow | None:
    core = state.core
    match state, event:
        case _, e.SeatJoined() | e.WalletClaimed():
            seat = Seat(wallet_id=event.wallet_id, identity_key=event.identity_key, secrets=event.secrets)
            return _seated(with_core(state, replace(core, seats=core.seats | {event.role: seat})), event)
        case _, e.CallIntended():
            intent = Intent(step=event.step, turn_id=event.turn_id, wallet_id=event.wallet_id)
            return with_core(state, replace(core, intents=core.intents | {event.role: intent}))
        case _, e.TurnFailed():
            # Only reported when the call is known to have had no effect, so the intent is settled.
            announced = core.intents.get(event.role)
            mine = announced is not None and announced.turn_id == event.turn_id
            settled = turn_taken(core, event.role) if mine else core
            failure = Failure(call=event.call, reason=event.reason)
            return with_core(state, replace(settled, failures=core.failures | {event.role: failure}))
        case Pending(), e.SetupStarted():
            return SettingUp(core=core, setup=Setup(started_at=event.at, round_since=event.at))
        case SettingUp(), e.SetupMessageGiven():
            return replace(state, core=turn_taken(core, event.role), setup=_with_message(state.setup, event))
        case SettingUp(), e.AddressConfirmed():
            return replace(state, core=turn_taken(core, event.role), setup=_with_confirmation(state.setup, event))
        case SettingUp(), e.AddressAgreed():
            return AwaitingFunding(core=core, money=_new_money(state.setup, event))
        case SettingUp(), e.SetupFailed():
            return SetupFailed(core=core, reason=event.reason, awaited=event.awaited, money=None)
        case _:
            return None


def _seated(state: Escrow, event: e.SeatJoined | e.WalletClaimed) -> Escrow:
    if isinstance(state, SettingUp) and len(state.core.seats) == 3 and state.setup.complete_at is None:
        return replace(state, setup=replace(state.setup, complete_at=event.at))
    return state


def _with_message(setup: Setup, event: e.SetupMessageGiven) -> Setup:
    message = Message(sealed=event.message, digest=event.digest, signature=event.signature)
    given = setup.messages.get(event.round, {}) | {event.role: message}
    since = event.at if len(given) == 3 else setup.round_since
    return replace(setup, messages=setup.messages | {event.round: given}, round_since=since)


def _with_confirmation(setup: Setup, event: e.AddressConfirmed) -> Setup:
    confirmed = Confirmation(
        address=event.address,
        threshold=event.threshold,
        total=event.total,
        ready=event.ready,
        signature=event.signature,
        view_key=event.view_key,
        view_key_tag=event.view_key_tag,
        height=event.height,
    )
    return replace(setup, confirmations=setup.confirmations | {event.role: confirmed})


def _new_money(setup: Setup, event: e.AddressAgreed) -> Money:
    role, confirmed = min(setup.confirmations.items(), key=lambda item: item[1].height)
    return Money(address=event.address, view_key=confirmed.view_key, view_key_role=role, since_height=confirmed.height)


# -- people --------------------------------------------------------------------------------------------------


def _people(state: Escrow, event: AnyEvent) -> Escrow | None:
    core = state.core
    match state, event:
        case Funded(), e.Shipped():
            return Delivering(core=core, money=state.money)
        case Delivering(), e.DeliveryConfirmed():
            return Releasing(core=core, money=state.money)
        case ((AwaitingFunding() | Funded() | Delivering() | Disputed()), e.RefundGranted()):
            return Refunding(core=core, money=state.money)
        case _, e.AgreementProposed():
            offer = Offer(
                number=event.number, by=event.by, buyer_share_bp=event.buyer_share_bp, ship_until=event.ship_until
            )
            return with_core(state, replace(core, offers=(*core.offers, offer), offers_made=event.number))
        case _, e.AgreementWithdrawn():
            return with_core(state, replace(core, offers=_offers_without(core, event.number)))
        case _, e.AgreementAccepted():
            return _agreed(state, event)
        case _:
            return None


def _offers_without(core: Core, number: int) -> tuple[Offer, ...]:
    return tuple(offer for offer in core.offers if offer.number != number)


def _agreed(state: Escrow, event: e.AgreementAccepted) -> Escrow:
    core, money = state.core, money_of(state)
    offer = next(offer for offer in core.offers if offer.number == event.number)
    if offer.ship_until is not None:
        later = replace(
            core,
            offers=_offers_without(core, offer.number),
            ship_until=offer.ship_until,
            reminded=core.reminded - {"ship"},
        )
        return with_core(state, later)
    settled = replace(core, offers=())
    if isinstance(state, TERMINAL) or money is None:
        return with_core(state, settled)
    return Releasing(core=settled, money=money)


# -- disputes ------------------------------------------------------------------------------------------------


def _case(state: Escrow, event: AnyEvent) -> Escrow | None:
    core, case, money = state.core, state.core.case, money_of(state)
    match event:
        case e.DisputeOpened() if money is not None:
            opened = Case(
                case_id=event.case_id,
                opened_by=event.by,
                opened_at=event.at,
                touched_at=event.at,
                claims={event.by: event.claim},
                late=isinstance(state, TERMINAL),
            )
            core = replace(core, case=opened)
            return with_core(state, core) if isinstance(state, TERMINAL) else Disputed(core=core, money=money)
        case e.DisputeClaimAdded() if case:
            return _with_case(state, replace(case, claims=case.claims | {event.by: event.claim}))
        case e.DisputeReviewed() if case:
            return _with_case(state, replace(case, status=CaseStatus.UNDER_REVIEW, touched_at=event.at))
        case e.DisputeDecided() if case and money is not None:
            return _decided(_with_case(state, _with_verdict(case, event)), money, event)
        case e.DisputeResolved() if case:
            return _with_case(state, replace(case, status=CaseStatus.RESOLVED, winner_tx_hash=event.tx_hash))
        case e.DisputeClosed() if case:
            return _with_case(state, replace(case, status=CaseStatus.CLOSED))
        case _:
            return None


def _with_verdict(case: Case, event: e.DisputeDecided) -> Case:
    return replace(
        case,
        status=CaseStatus.DECIDED,
        verdict=event.verdict,
        buyer_share_bp=event.buyer_share_bp,
        fee_atomic=event.fee_atomic,
        reason=event.reason,
        decided_at=event.at,
        touched_at=event.at,
    )


def _decided(state: Escrow, money: Money, event: e.DisputeDecided) -> Escrow:
    if isinstance(state, TERMINAL):
        return state
    if event.verdict is e.Verdict.REFUND:
        return Refunding(core=state.core, money=money)
    return Releasing(core=state.core, money=money)


# -- time and recovery ---------------------------------------------------------------------------------------


def _time(state: Escrow, event: AnyEvent) -> Escrow | None:
    core = state.core
    match state, event:
        case _, e.ReminderDue():
            return with_core(state, replace(core, reminded=core.reminded | {event.kind}))
        case _, e.StuckStageReached():
            return with_core(state, replace(core, stage=event.stage))
        case Releasing(), e.ManualRecoveryRequired():
            return ReleasingRecoveryNeeded(core=core, money=state.money)
        case Refunding(), e.ManualRecoveryRequired():
            return RefundingRecoveryNeeded(core=core, money=state.money)
        case _, e.RecoveryItemOpened():
            reminded = core.reminded | {f"recovery:{event.reason}"}
            return with_core(state, replace(core, recovery=(*core.recovery, event.reason), reminded=reminded))
        case _, e.RecoveryItemClosed():
            left = tuple(reason for reason in core.recovery if reason != event.reason)
            return with_core(state, replace(core, recovery=left))
        case _, e.KeyShredded() if isinstance(state, TERMINAL):
            return with_core(state, _shredded(core, event))
        case _, e.RecoveryActionTaken():
            return _retried(state) if event.action == "retry_transaction" else state
        case _:
            return None


def _shredded(core: Core, event: e.KeyShredded) -> Core:
    # What nobody can open any more is left out, so that every table made of states is blanked with it.
    case = replace(core.case, claims={}, reason=None) if core.case else None
    return replace(core, case=case, shredded_at=event.at)


def _retried(state: Escrow) -> Escrow:
    money = money_of(state)
    if money is None or money.payout is None:
        return state
    again = with_payout(money, _sent_again(money, replace(money.payout, retries=money.payout.retries + 1)))
    core = _raised_anew(state.core, "epochs_exhausted")
    match state:
        case ReleasingRecoveryNeeded():
            return Releasing(core=core, money=again)
        case RefundingRecoveryNeeded():
            return Refunding(core=core, money=again)
        case _:
            return with_money(state, again)


def _sent_again(money: Money, payout: Payout) -> Payout:
    # Handed to the network and never seen on it: the same transaction is sent once more, which pays nothing twice.
    epoch = payout.epoch
    if epoch is None or epoch.signature is None or epoch.signature.tx_hash in money.spends:
        return payout
    return replace(payout, epochs=(*payout.epochs[:-1], replace(epoch, broadcast=False)))


def _raised_anew(core: Core, reason: str) -> Core:
    """Lets a recovery item of this reason be opened again."""
    return replace(core, reminded=core.reminded - {f"recovery:{reason}"})


# -- small replacements --------------------------------------------------------------------------------------


def _with_case(state: Escrow, case: Case) -> Escrow:
    return with_core(state, replace(state.core, case=case))
