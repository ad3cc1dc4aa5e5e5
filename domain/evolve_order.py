"""How events move the order: its addresses, the set-up, and what the parties decide."""

from msgspec.structs import replace

from domain import events as e
from domain.evolve_money import turn_taken, with_core
from domain.roles import Role
from domain.states import (
    TERMINAL,
    AwaitingFunding,
    Cancelled,
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
    PayoutAddress,
    Pending,
    Refunding,
    Releasing,
    Seat,
    SettingUp,
    Setup,
    SetupFailed,
    money_of,
)

# -- the order -----------------------------------------------------------------------------------------------

OrderEvent = e.PayoutAddressSet | e.AddressChangeProposed | e.AddressChangeAgreed | e.ArbiterReady | e.Cancelled
"""The order itself, and where its money goes."""


def order_part(state: Escrow, event: OrderEvent) -> Escrow:
    """Applies the order and its payout addresses."""
    core = state.core
    match event:
        case e.PayoutAddressSet():
            mine = PayoutAddress(tag=event.tag, sealed=event.address)
            return with_core(state, replace(core, addresses=core.addresses | {event.role: mine}))
        case e.AddressChangeProposed():
            return with_core(state, _ask_address(core, event))
        case e.AddressChangeAgreed():
            return with_core(state, _change_address(core, event.role))
        case e.ArbiterReady():
            return with_core(state, replace(core, arbiter_ready_at=event.at))
        case e.Cancelled():
            return Cancelled(core=core, reason=event.reason, money=money_of(state))


def _ask_address(core: Core, event: e.AddressChangeProposed) -> Core:
    others = {role: asked for role, asked in core.address_changes.items() if role is not event.role}
    if event.role in core.addresses and core.addresses[event.role].tag == event.tag:
        return replace(core, address_changes=others)  # back to the present address: nothing is asked any more
    asked = PayoutAddress(tag=event.tag, sealed=event.address)
    return replace(core, address_changes=others | {event.role: asked})


def _change_address(core: Core, role: Role) -> Core:
    left = {other: asked for other, asked in core.address_changes.items() if other is not role}
    return replace(core, addresses=core.addresses | {role: core.address_changes[role]}, address_changes=left)


# -- seats and set-up ----------------------------------------------------------------------------------------

SeatEvent = e.SeatJoined | e.WalletClaimed | e.CallIntended | e.TurnFailed
"""Seats, and the wallet calls they announce."""


def seat_part(state: Escrow, event: SeatEvent) -> Escrow:
    """Applies what the three seats get and announce."""
    core = state.core
    match event:
        case e.SeatJoined() | e.WalletClaimed():
            seat = Seat(wallet_id=event.wallet_id, identity_key=event.identity_key, secrets=event.secrets)
            return _seated(with_core(state, replace(core, seats=core.seats | {event.role: seat})), event)
        case e.CallIntended():
            intent = Intent(step=event.step, turn_id=event.turn_id, wallet_id=event.wallet_id)
            return with_core(state, replace(core, intents=core.intents | {event.role: intent}))
        case e.TurnFailed():
            # Only reported when the call is known to have had no effect, so the intent is settled.
            announced = core.intents.get(event.role)
            mine = announced is not None and announced.turn_id == event.turn_id
            settled = turn_taken(core, event.role) if mine else core
            failure = Failure(call=event.call, reason=event.reason)
            return with_core(state, replace(settled, failures=core.failures | {event.role: failure}))


def _seated(state: Escrow, event: e.SeatJoined | e.WalletClaimed) -> Escrow:
    if isinstance(state, SettingUp) and len(state.core.seats) == 3 and state.setup.complete_at is None:
        return replace(state, setup=replace(state.setup, complete_at=event.at))
    return state


SetupEvent = e.SetupStarted | e.SetupMessageGiven | e.AddressConfirmed | e.AddressAgreed | e.SetupFailed
"""The way to one address."""


def setup_part(state: Escrow, event: SetupEvent) -> Escrow | None:
    """Applies the set-up; None where it cannot be."""
    core = state.core
    match state, event:
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

PeopleEvent = (
    e.Shipped | e.DeliveryConfirmed | e.RefundGranted | e.AgreementProposed | e.AgreementWithdrawn
    | e.AgreementAccepted
)  # fmt: skip
"""What buyer and vendor decide between them."""


def people_part(state: Escrow, event: PeopleEvent) -> Escrow | None:
    """Applies what the parties decide; None where they cannot."""
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
