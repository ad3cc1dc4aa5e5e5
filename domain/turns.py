"""Who is awaited for what: turns of the seats' wallets, choices of people, the chain, or only time."""

from collections.abc import Iterator
from enum import StrEnum
from typing import assert_never

import msgspec

from domain import key_images
from domain.deadlines import deadlines
from domain.ids import Micros, TurnId
from domain.payout import addresses_missing, export_serves, inputs_ready, on_its_way
from domain.roles import THREE, Role, SeatKind
from domain.setup import arbiter_unready, awaited_seats, current_round, payin_address
from domain.signing import epochs_exhausted, is_seen, turn_id
from domain.states import (
    TERMINAL,
    AwaitingFunding,
    Cancelled,
    Completed,
    Core,
    Delivering,
    Disputed,
    Epoch,
    Escrow,
    Funded,
    Money,
    Payout,
    Pending,
    Refunded,
    Refunding,
    RefundingRecoveryNeeded,
    Releasing,
    ReleasingRecoveryNeeded,
    SettingUp,
    SetupFailed,
    money_of,
)
from domain.steps import Step


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One step asked of one seat's wallet."""

    role: Role
    step: Step
    turn_id: TurnId
    since: Micros


class Awaited(StrEnum):
    """What else an escrow can wait for."""

    CHAIN = "chain"
    TIME = "time"
    ADMIN = "admin"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to "why does it not go on?": who, for what, since when, and until when."""

    who: Role | Awaited
    what: str
    since: Micros
    until: Micros | None = None


# -- wallets -------------------------------------------------------------------------------------------------


def turns(state: Escrow) -> tuple[Turn, ...]:
    """Lists the wallet steps that are asked for now, one a seat at most."""
    found: dict[Role, Turn] = {}
    for turn in _all_turns(state):
        found.setdefault(turn.role, turn)
    return tuple(found[role] for role in THREE if role in found)


def turn_of(state: Escrow, role: Role) -> Turn | None:
    """Returns what is asked of one seat now."""
    return next((turn for turn in turns(state) if turn.role is role), None)


def in_line(state: Escrow, turn: Turn) -> bool:
    """Says whether a turn may be taken now: hosted wallets are claimed in seat order, so that two set-ups that each
    hold a slot never wait for each other's."""
    if turn.step is not Step.CLAIM_WALLET:
        return True
    return all(seat in state.core.seats for seat in THREE[: THREE.index(turn.role)])


def wanted_since(state: Escrow, role: Role) -> Micros | None:
    """Returns since when a hosted seat wants a slot, which is its place in the line; None when it wants none.

    All seats of a set-up want theirs since it began: in the order in which they ask, seats of different set-ups would
    each keep a slot and wait for one of another role.
    """
    if isinstance(state, SettingUp):
        return state.setup.started_at
    turn = turn_of(state, role)
    return turn.since if turn else None


def _all_turns(state: Escrow) -> Iterator[Turn]:
    match state:
        case Pending():
            yield from _joining(state)
        case SettingUp():
            yield from _setting_up(state)
        case _:
            money = money_of(state)
            if money is not None and state.core.shredded_at is None:
                yield from _signing(state.core, money)
                yield from _exports(state, money)
                yield from _key_images(state, money)


def _joining(state: Pending) -> Iterator[Turn]:
    for role in THREE:
        if role not in state.core.seats and state.core.terms.seats[role] is not SeatKind.POOL:
            yield Turn(role=role, step=Step.JOIN, turn_id=TurnId("join"), since=state.core.since)


def _setting_up(state: SettingUp) -> Iterator[Turn]:
    now = current_round(state.setup)
    for role in awaited_seats(state):
        if role not in state.core.seats:
            step = Step.CLAIM_WALLET
        else:
            step = Step(now.value) if now else Step.CONFIRM_ADDRESS
        yield Turn(role=role, step=step, turn_id=TurnId(step.value), since=state.setup.round_since)


def _signing(core: Core, money: Money) -> Iterator[Turn]:
    payout = money.payout
    epoch = payout.epoch if payout else None
    if payout is None or epoch is None:
        return
    for role, step in _epoch_steps(money, payout, epoch):
        named = _export_turn(money, role) if step is Step.EXPORT else TurnId(turn_id(step, payout, epoch))
        yield Turn(role=role, step=step, turn_id=named, since=epoch.since)


def _export_turn(money: Money, role: Role) -> TurnId:
    # By the number of the export that is missing: an export lost to a reorg is another turn than the first one.
    before = money.exports.get(role)
    return TurnId(f"export:{before.number + 1 if before else 1}")


def _epoch_steps(money: Money, payout: Payout, epoch: Epoch) -> Iterator[tuple[Role, Step]]:
    if epoch.signature is not None:
        if not epoch.broadcast and not is_seen(money, epoch):
            yield payout.cosigner, Step.BROADCAST
    elif epoch.proposal is not None:
        if payout.approved:
            yield payout.cosigner, Step.COSIGN
    elif export_serves(money.exports.get(payout.cosigner), epoch):
        yield from ((role, Step.PROPOSE) for role in payout.proposers)
    else:
        yield payout.cosigner, Step.EXPORT


def _exports(state: Escrow, money: Money) -> Iterator[Turn]:
    # From one confirmation on, so that a proposer need not wait; never while a set made with the export is open,
    # because a new export would make that set worthless (-35).
    if isinstance(state, TERMINAL):
        return
    wanted = key_images.there(money, state.core.terms)
    epoch = money.payout.epoch if money.payout else None
    busy = money.payout.cosigner if money.payout and epoch and epoch.proposal else None
    for role in THREE:
        export = money.exports.get(role)
        missing = wanted and (export is None or export.void or not export.covers >= wanted)
        if missing and role is not busy:
            yield Turn(role=role, step=Step.EXPORT, turn_id=_export_turn(money, role), since=state.core.since)


def _key_images(state: Escrow, money: Money) -> Iterator[Turn]:
    named = TurnId(f"{Step.KEY_IMAGES.value}:{len(money.key_images) + 1}")
    for role in () if isinstance(state, TERMINAL) else key_images.asked(state, money):
        yield Turn(role=role, step=Step.KEY_IMAGES, turn_id=named, since=state.core.since)


# -- everybody and everything --------------------------------------------------------------------------------


def awaited(state: Escrow) -> tuple[Waiting, ...]:
    """Lists everything an escrow waits for; never empty before its end, when nothing is awaited any more."""
    until = _until(state)
    waits = [Waiting(who=turn.role, what=turn.step.value, since=turn.since, until=until) for turn in turns(state)]
    waits += _people(state, until=until)
    if _payment_under_way(state):
        # Whatever else is still open, it is the chain's confirmations that will end this.
        waits.append(Waiting(who=Awaited.CHAIN, what="confirmations", since=state.core.active_at, until=until))
    if waits or isinstance(state, TERMINAL):
        return tuple(waits)
    return (Waiting(who=_chain_or_time(state), what="confirmations", since=state.core.active_at, until=until),)


def _payment_under_way(state: Escrow) -> bool:
    money = money_of(state)
    if money is None or isinstance(state, TERMINAL):
        return False
    epoch = money.payout.epoch if money.payout else None
    seen = any(not spend.lost and not spend.final for spend in money.spends.values())
    return seen or (epoch is not None and epoch.broadcast)


def _until(state: Escrow) -> Micros | None:
    return next((deadline.due for deadline in deadlines(state)), None)


def _people(state: Escrow, *, until: Micros | None) -> list[Waiting]:
    since = state.core.since
    return [Waiting(who=who, what=what, since=since, until=until) for who, what in _choices(state)]


def _choices(state: Escrow) -> Iterator[tuple[Role | Awaited, str]]:
    for role in state.core.address_changes:
        yield from ((other, "consent_address") for other in THREE if other is not role)
    for offer in state.core.offers:
        if offer.ship_until is not None and not isinstance(state, Funded):
            continue  # the goods are sent, or their shipping is not the question any more
        yield Role.VENDOR if offer.by is Role.BUYER else Role.BUYER, "accept_agreement"
    if state.core.recovery:
        yield Awaited.ADMIN, "recovery"
    yield from _addresses(state)
    match state:
        case AwaitingFunding() if arbiter_unready(state):
            yield Role.ARBITER, "be_ready"
        case AwaitingFunding() if payin_address(state) and not state.money.deposits:
            yield Role.BUYER, "pay_in"
        case AwaitingFunding() if not on_its_way(state.money, state.core.terms):
            yield Role.BUYER, "pay_in"
        case Funded():
            yield Role.VENDOR, "ship"
        case Delivering():
            yield Role.BUYER, "confirm_delivery"
        case Disputed() if state.core.case and state.core.case.undecided:
            yield Role.ARBITER, "decide"
        case _:
            return


def _addresses(state: Escrow) -> Iterator[tuple[Role, str]]:
    money = money_of(state)
    if isinstance(state, (Pending, SettingUp, AwaitingFunding)):
        missing = tuple(role for role in (Role.BUYER, Role.VENDOR) if role not in state.core.addresses)
    else:
        missing = addresses_missing(state.core, money.payout) if money and money.payout else ()
    yield from ((role, "set_payout_address") for role in missing)


def _chain_or_time(state: Escrow) -> Awaited:
    """Says which of the two is awaited when nobody is."""
    match state:
        case Pending() | SettingUp() | Funded() | Delivering() | Disputed():
            return Awaited.TIME
        case AwaitingFunding():
            return Awaited.CHAIN
        case Completed() | Refunded() | Cancelled() | SetupFailed():
            return Awaited.TIME
        case Releasing() | Refunding() | ReleasingRecoveryNeeded() | RefundingRecoveryNeeded():
            return Awaited.ADMIN if _nothing_moves(state) else Awaited.CHAIN
        case _:
            assert_never(state)


def _nothing_moves(state: Escrow) -> bool:
    money = money_of(state)
    if money is None or money.payout is None:
        return False
    pending = any(not spend.lost and not spend.final for spend in money.spends.values())
    stuck = money.payout.epoch is None and bool(inputs_ready(money, money.payout, state.core.terms))
    return not pending and (stuck or epochs_exhausted(state))
