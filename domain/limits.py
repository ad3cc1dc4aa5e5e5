"""What holds across escrows: one live escrow an order, the limits of the beta, maintenance mode.

Each is a small aggregate with a stream of its own, decided and folded like an escrow. A claim is taken by its stream's
own version check before the escrow is created. Nothing is freed eagerly: who runs into a limit reports with its next
command which of the held entries are dead.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from domain.arbiters import AnyArbiterEvent, AnyDrawEvent, DraftPrepared
from domain.ids import MICROS, EscrowId, Micros, OrderId, UserId, WalletId
from domain.limit_event import LimitEvent as LimitEvent
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import Role, SeatKind
from domain.states import TERMINAL, Escrow, money_of
from domain.terms import Terms

CLAIM_UNUSED_S = 3_600
"""After so long a claim whose escrow was never created may be replaced. Creation follows its claim at once."""
LIVE_STREAM = "limits-live"
MAINTENANCE_STREAM = "maintenance"


def order_stream(order: OrderId) -> str:
    """Names the stream of an order's claim."""
    return f"order-{order}"


def month_stream(at: Micros) -> str:
    """Names the stream of a calendar month's volume, in UTC."""
    return f"limits-{datetime.fromtimestamp(at / MICROS, tz=UTC):%Y-%m}"


def wallet_stream(wallet: WalletId) -> str:
    """Names the stream that holds whose a wallet is."""
    return f"wallet-{wallet}"


class OrderClaimed(LimitEvent, frozen=True, kw_only=True, tag="order_claimed"):
    """An escrow is to be the live one of its order; an earlier claim is over."""

    escrow_id: EscrowId


class VolumeReserved(LimitEvent, frozen=True, kw_only=True, tag="volume_reserved"):
    """An escrow's amount counts in its month."""

    escrow_id: EscrowId
    amount: Atomic


class VolumeFreed(LimitEvent, frozen=True, kw_only=True, tag="volume_freed"):
    """An escrow ended before any deposit: its amount does not count any more."""

    escrow_id: EscrowId


class PlaceTaken(LimitEvent, frozen=True, kw_only=True, tag="place_taken"):
    """An escrow is one of those under way."""

    escrow_id: EscrowId


class PlaceFreed(LimitEvent, frozen=True, kw_only=True, tag="place_freed"):
    """An escrow is over."""

    escrow_id: EscrowId


class MaintenanceSet(LimitEvent, frozen=True, kw_only=True, tag="maintenance_set"):
    """An administrator began or ended maintenance."""

    enabled: bool
    reason: str
    by: UserId


class WalletAssigned(LimitEvent, frozen=True, kw_only=True, tag="wallet_assigned"):
    """A wallet belongs to one seat of one escrow, for ever."""

    wallet_id: WalletId
    escrow_id: EscrowId
    role: Role


AnyLimitEvent = (
    WalletAssigned | OrderClaimed | VolumeReserved | VolumeFreed | PlaceTaken | PlaceFreed | MaintenanceSet
    | AnyArbiterEvent | AnyDrawEvent | DraftPrepared
)  # fmt: skip
"""The closed set of events of all streams beside the escrows'."""


class OrderClaim(msgspec.Struct, frozen=True, kw_only=True):
    """Which escrow holds an order, since when."""

    escrow_id: EscrowId | None = None
    since: Micros = Micros(0)


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts that count in a month."""

    reserved: dict[EscrowId, Atomic] = {}

    @property
    def total(self) -> Atomic:
        """Their sum."""
        return Atomic(sum(self.reserved.values()))


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The escrows under way."""

    held: frozenset[EscrowId] = frozenset()


class Maintenance(msgspec.Struct, frozen=True, kw_only=True):
    """Whether new escrows are refused, and why."""

    enabled: bool = False
    reason: str = ""


class ClaimOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for an order. `dead` names escrows known to be over; `unused` says the held one was never created."""

    at: Micros
    escrow_id: EscrowId
    dead: frozenset[EscrowId] = frozenset()
    unused: frozenset[EscrowId] = frozenset()


class ReserveVolume(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for an amount of a month. `dead` names escrows that ended before any deposit."""

    at: Micros
    escrow_id: EscrowId
    amount: Atomic
    amount_max: Atomic
    volume_max: Atomic
    dead: frozenset[EscrowId] = frozenset()


class TakePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a place among the escrows under way. `dead` names escrows that are over."""

    at: Micros
    escrow_id: EscrowId
    live_max: int
    dead: frozenset[EscrowId] = frozenset()


class SetMaintenance(msgspec.Struct, frozen=True, kw_only=True):
    """Begins or ends maintenance."""

    at: Micros
    enabled: bool
    reason: str
    by: UserId


Decision = tuple[AnyLimitEvent, ...] | Refused


# -- what no longer counts -----------------------------------------------------------------------------------


def frees_place(state: Escrow) -> bool:
    """Says whether an escrow is over, so that neither its order nor its place among those under way is held."""
    return isinstance(state, TERMINAL)


def frees_volume(state: Escrow) -> bool:
    """Says whether an escrow ended before any deposit, so that its amount does not count in its month."""
    money = money_of(state)
    return frees_place(state) and (money is None or not money.deposits)


# -- decisions -----------------------------------------------------------------------------------------------


def decide_order(state: OrderClaim, command: ClaimOrder) -> Decision:
    """Claims an order; again by the same escrow adds nothing, and refuses `order_live` while another one lives."""
    held = state.escrow_id
    if held == command.escrow_id:
        return ()
    if held is not None and held not in command.dead and not _unused(state, command):
        return Refused("order_live", {"escrow_id": held})
    return (OrderClaimed(at=command.at, escrow_id=command.escrow_id),)


def _unused(state: OrderClaim, command: ClaimOrder) -> bool:
    return state.escrow_id in command.unused and command.at >= state.since + CLAIM_UNUSED_S * MICROS


def decide_volume(state: Volume, command: ReserveVolume) -> Decision:
    """Reserves an amount; refuses `limit_amount` and `limit_volume`. Dead ones are freed only when room is needed."""
    if command.escrow_id in state.reserved:
        return ()
    if command.amount > command.amount_max:
        return Refused("limit_amount", {"amount_max": command.amount_max})
    reserved = VolumeReserved(at=command.at, escrow_id=command.escrow_id, amount=command.amount)
    if state.total + command.amount <= command.volume_max:
        return (reserved,)
    dead = sorted(command.dead & set(state.reserved))
    left = state.total - sum(state.reserved[escrow_id] for escrow_id in dead)
    if left + command.amount > command.volume_max:
        return Refused("limit_volume", {"volume_max": command.volume_max})
    return (*(VolumeFreed(at=command.at, escrow_id=escrow_id) for escrow_id in dead), reserved)


def decide_place(state: Live, command: TakePlace) -> Decision:
    """Takes a place; refuses `limit_concurrency`. Dead ones are freed only when room is needed."""
    if command.escrow_id in state.held:
        return ()
    taken = PlaceTaken(at=command.at, escrow_id=command.escrow_id)
    if len(state.held) < command.live_max:
        return (taken,)
    dead = sorted(command.dead & state.held)
    if len(state.held) - len(dead) >= command.live_max:
        return Refused("limit_concurrency", {"live_max": command.live_max})
    return (*(PlaceFreed(at=command.at, escrow_id=escrow_id) for escrow_id in dead), taken)


def decide_maintenance(state: Maintenance, command: SetMaintenance) -> Decision:
    """Begins or ends maintenance; the same again adds nothing."""
    if state == Maintenance(enabled=command.enabled, reason=command.reason if command.enabled else ""):
        return ()
    return (MaintenanceSet(at=command.at, enabled=command.enabled, reason=command.reason, by=command.by),)


def refused_by_maintenance(state: Maintenance) -> Refused | None:
    """Refuses a new escrow during maintenance, with its reason."""
    return Refused("maintenance", {"reason": state.reason}) if state.enabled else None


def refused_by_full_line(terms: Terms, *, full: bool) -> Refused | None:
    """Refuses a new escrow with hosted seats while no more of them may wait for a wallet slot."""
    return Refused("slots_busy") if full and SeatKind.POOL in terms.seats.values() else None


# -- folds ---------------------------------------------------------------------------------------------------


class ForeignEvent(Exception):
    """A stream of limits holds an event of another stream."""


def order_of(events: Iterable[AnyLimitEvent]) -> OrderClaim:
    """Folds an order's stream."""
    state = OrderClaim()
    for event in events:
        if not isinstance(event, OrderClaimed):
            raise ForeignEvent(type(event).__name__)
        state = OrderClaim(escrow_id=event.escrow_id, since=event.at)
    return state


def volume_of(events: Iterable[AnyLimitEvent]) -> Volume:
    """Folds a month's stream."""
    reserved: dict[EscrowId, Atomic] = {}
    for event in events:
        match event:
            case VolumeReserved():
                reserved[event.escrow_id] = event.amount
            case VolumeFreed():
                reserved.pop(event.escrow_id)
            case _:
                raise ForeignEvent(type(event).__name__)
    return Volume(reserved=reserved)


def live_of(events: Iterable[AnyLimitEvent]) -> Live:
    """Folds the stream of the escrows under way."""
    held: set[EscrowId] = set()
    for event in events:
        match event:
            case PlaceTaken():
                held.add(event.escrow_id)
            case PlaceFreed():
                held.remove(event.escrow_id)
            case _:
                raise ForeignEvent(type(event).__name__)
    return Live(held=frozenset(held))


def wallet_of(events: Iterable[AnyLimitEvent]) -> WalletAssigned | None:
    """Folds a wallet's stream; its one event is written at version 1, so nobody else's can follow."""
    assigned: WalletAssigned | None = None
    for event in events:
        if not isinstance(event, WalletAssigned) or assigned is not None:
            raise ForeignEvent(type(event).__name__)
        assigned = event
    return assigned


def maintenance_of(events: Iterable[AnyLimitEvent]) -> Maintenance:
    """Folds the stream of maintenance."""
    state = Maintenance()
    for event in events:
        if not isinstance(event, MaintenanceSet):
            raise ForeignEvent(type(event).__name__)
        state = Maintenance(enabled=event.enabled, reason=event.reason if event.enabled else "")
    return state
