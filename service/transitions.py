"""Checks one stream event by event: its order, and that each event can follow those before it."""

from collections.abc import Iterator, Sequence
from typing import get_args

from domain import limits as m
from domain.arbiters import (
    ARBITERS_STREAM,
    DRAWS_STREAM,
    AnyArbiterEvent,
    AnyDrawEvent,
    ChainCommitted,
    DraftPrepared,
    Draws,
    LinkTaken,
    enter,
)
from domain.draw import draw_holds
from domain.events import (
    AddressConfirmed,
    AnyEvent,
    DisputeDecided,
    EscrowCreated,
    PayoutOpened,
    PayoutProposed,
    PayoutSigned,
    Purpose,
    Verdict,
)
from domain.evolve import evolve
from domain.payout import BP_ALL, inputs_sum, kept_back, smallest_input
from domain.roles import Role
from domain.states import NAMES, TERMINAL, Escrow, Money, Payout, money_of, name
from eventstore.api import Recorded
from projections.folds import ESCROW_STREAM
from schemas.codec import canonical, decode
from schemas.limit_codec import decode_limit, encode_limit
from service.decisions import decision_holds

CONSENTS_NEEDED = 2
SIGNED_SINCE = 2
"""Version of `dispute_decided` from which on decisions are signed."""
SIGNING_SINCE = 3
"""Version of `escrow_created` that only programs which sign decisions write: none in its escrow may be unsigned."""

# Which states can follow which; staying is always possible.
_PAYING = frozenset({"releasing", "refunding", "releasing_recovery_needed", "refunding_recovery_needed"})
_ENDS = frozenset({"completed", "refunded"})
_NEXT: dict[str, frozenset[str]] = {
    "pending": frozenset({"setting_up", "cancelled"}),
    "setting_up": frozenset({"awaiting_funding", "setup_failed", "cancelled"}),
    "awaiting_funding": frozenset({"funded", "cancelled", "disputed", "releasing", "refunding"}) | _ENDS,
    "funded": frozenset({"awaiting_funding", "delivering", "disputed", "releasing", "refunding"}) | _ENDS,
    "delivering": frozenset({"disputed", "releasing", "refunding"}) | _ENDS,
    "disputed": frozenset({"releasing", "refunding"}) | _ENDS,
    **dict.fromkeys(_PAYING, _PAYING | _ENDS | {"disputed"}),
    **dict.fromkeys(("completed", "refunded", "cancelled", "setup_failed"), frozenset()),
}
assert set(_NEXT) == set(NAMES.values())


class StreamCheck:
    """One stream as far as it was read: what its next event must fit to."""

    def __init__(self, stream_id: str) -> None:
        self._id = stream_id
        self._version = self._occurred_at = 0
        self._state: Escrow | None = None
        self._signs = False
        self.drawn = False
        """Whether it is an escrow that was created with a draw."""
        self._limit = _LimitCheck(stream_id)
        self._command = ""
        self._commands: set[str] = set()
        self._stopped = False

    def take(self, recorded: Recorded) -> list[str]:
        """Takes the next event and says what is wrong; after a state that cannot be, only places are checked."""
        found = [*self._order(recorded), *self._commands_once(recorded)]
        if not self._stopped:
            try:
                found += self._apply(recorded)
            except Exception as impossible:
                # Whatever a changed body makes the fold stumble over, it stumbles: that is the finding.
                self._stopped = True
                found.append(f"cannot follow: {type(impossible).__name__}")
        return found

    def _order(self, recorded: Recorded) -> list[str]:
        found = []
        if recorded.version != self._version + 1:
            found.append(f"version {self._version + 1} is missing")
        if recorded.occurred_at < self._occurred_at:
            found.append("occurred before the event before it")
        self._version, self._occurred_at = recorded.version, max(recorded.occurred_at, self._occurred_at)
        return found

    def _commands_once(self, recorded: Recorded) -> list[str]:
        if recorded.command_id == self._command:
            return []
        again = recorded.command_id in self._commands
        self._command = recorded.command_id
        self._commands.add(recorded.command_id)
        return ["its command was followed before"] if again else []

    def _apply(self, recorded: Recorded) -> Sequence[str]:
        if self._id.startswith(ESCROW_STREAM):
            return self._apply_escrow(recorded)
        return self._apply_limit(recorded)

    def _apply_escrow(self, recorded: Recorded) -> Sequence[str]:
        event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        before, after = self._state, evolve(self._state, event)
        self._state = after
        found = []
        written = canonical(event, schema_version=recorded.schema_version, body=recorded.body)
        if written != recorded.body or event.__struct_config__.tag != recorded.type:
            found.append("the body is not the canonical form of its event")
        if event.at != recorded.occurred_at:
            found.append("the body's moment is not the event's")
        if after.core.terms.escrow_id != self._id:
            found.append("the terms name another escrow")
        if before is not None and not _may_follow(before, after):
            found.append(f"{name(after)} cannot follow {name(before)}")
        if isinstance(event, EscrowCreated) and event.draw is not None:
            self.drawn = True
            if not draw_holds(event.terms, event.draw):
                found.append("the arbiter is not the one that was drawn")
        if isinstance(event, AddressConfirmed) and _not_backed_up(after, event.role):
            found.append("a wallet confirmed an address before it was backed up")
        self._signs |= isinstance(event, EscrowCreated) and recorded.schema_version >= SIGNING_SINCE
        found += _decision_faults(after, event, signs=self._signs or recorded.schema_version >= SIGNED_SINCE)
        return [*found, *_ruling_faults(after, event), *_money_faults(after, event)]

    def _apply_limit(self, recorded: Recorded) -> Sequence[str]:
        event = decode_limit(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        self._limit.take(event)
        found = []
        if encode_limit(event).body != recorded.body:
            found.append("the body is not the canonical form of its event")
        if event.at != recorded.occurred_at:
            found.append("the body's moment is not the event's")
        return found


def _not_backed_up(state: Escrow, role: Role) -> bool:
    return state.core.terms.backup_key(role) is not None and role not in state.core.backups


def _decision_faults(state: Escrow, event: AnyEvent, *, signs: bool) -> Iterator[str]:
    """Checks that a decision is its arbiter's: signed by the key of the seat, over all that it says."""
    if isinstance(event, DisputeDecided) and signs:
        if event.signed is None:
            yield "the decision is not signed"
        elif not decision_holds(state):
            yield "the decision is not the one that the arbiter's key signed"


def _ruling_faults(state: Escrow, event: AnyEvent) -> Iterator[str]:
    """Checks that the payout of a decision divides the money as was decided; nobody signed the payout itself."""
    if not isinstance(event, PayoutOpened) or event.purpose is not Purpose.RULING:
        return
    case = state.core.case
    if case is None or case.verdict is None:
        yield "the payout is of a decision that there is not"
        return
    buyer_share_bp = {Verdict.RELEASE: 0, Verdict.REFUND: BP_ALL}.get(case.verdict, case.buyer_share_bp)
    surplus = event.surplus_to_buyer and case.verdict is not Verdict.RELEASE
    if (event.buyer_share_bp, event.fee_atomic) != (buyer_share_bp, case.fee_atomic) or surplus:
        yield "the payout is not what was decided"


def _may_follow(before: Escrow, after: Escrow) -> bool:
    if isinstance(before, TERMINAL):
        return type(after) is type(before)
    return type(after) is type(before) or name(after) in _NEXT[name(before)]


def _money_faults(state: Escrow, event: AnyEvent) -> Iterator[str]:
    """Checks what must hold whenever money is about to move: two of the three agree, and nothing is lost or made."""
    money = money_of(state)
    if isinstance(event, PayoutProposed) and money is not None:
        payout = _payout(money, event.payout)
        epoch = next(each for each in payout.epochs if each.number == event.epoch)
        inputs, fee = inputs_sum(money, epoch), event.network_fee
        smallest = smallest_input(money, epoch)
        kept = kept_back(payout, state.core.terms, inputs=inputs, smallest=smallest, network_fee=fee)
        if sum(share.amount for share in event.shares) + kept + fee != inputs:
            yield "the payout's shares and fee are not the sum of its inputs"
        if event.inputs_atomic not in (None, inputs):
            yield "the payout was not proposed over what its inputs are worth"
    if isinstance(event, PayoutSigned) and money is not None:
        payout = _payout(money, event.payout)
        if not payout.approved or len(payout.consents) < CONSENTS_NEEDED:
            yield "a payout was signed without the consent of two of the three"


def _payout(money: Money, number: int) -> Payout:
    return next(each for each in money.payouts if each.number == number)


class _LimitCheck:
    """A stream of limits, checked event by event: folding all of it anew at each would take a long log for ever."""

    def __init__(self, stream_id: str) -> None:
        self._kinds = next((kinds for begins, kinds in _LIMITS if stream_id.startswith(begins)), ())
        self._held: set[str] = set()
        self._draws = Draws()

    def take(self, event: m.AnyLimitEvent) -> None:
        """Takes the next event; raises `ForeignEvent`, `KeyError` or `LinkOutOfTurn` when it cannot follow."""
        if not isinstance(event, self._kinds):
            raise m.ForeignEvent(type(event).__name__)
        match event:
            case m.VolumeReserved() | m.PlaceTaken():
                self._held.add(event.escrow_id)
            case m.VolumeFreed() | m.PlaceFreed():
                self._held.remove(event.escrow_id)
            case ChainCommitted() | LinkTaken():
                self._draws = enter(self._draws, event)
            case m.WalletAssigned():
                self._kinds = ()  # nobody else's can follow
            case _:
                pass


_LIMITS: tuple[tuple[str, tuple[type[m.AnyLimitEvent], ...]], ...] = (
    ("order-", (m.OrderClaimed,)),
    ("wallet-", (m.WalletAssigned,)),
    (DRAWS_STREAM, get_args(AnyDrawEvent)),
    ("draft-", (DraftPrepared,)),
    (ARBITERS_STREAM, get_args(AnyArbiterEvent)),
    (m.LIVE_STREAM, (m.PlaceTaken, m.PlaceFreed)),
    (m.MAINTENANCE_STREAM, (m.MaintenanceSet,)),
    ("limits-", (m.VolumeReserved, m.VolumeFreed)),
)
"""Which events a stream of limits may hold, by how its name begins."""
