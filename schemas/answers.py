"""What the API answers: amounts in atomic units, moments as RFC 3339 in UTC, nothing sealed."""

from datetime import UTC, datetime, timedelta

import msgspec

from domain.ids import Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at: Micros) -> str:
    """Writes a moment as RFC 3339 with all its microseconds."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def micros(when: datetime) -> Micros:
    """Reads a moment with an offset, to the microsecond, without floats."""
    return Micros((when - _EPOCH) // timedelta(microseconds=1))


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body of an answer."""


class Followed(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A command was followed: how the escrow stands after it."""

    escrow_id: str
    version: int
    state: str
    cursor: str
    number: int | None = None
    """Of the agreement that was proposed."""


class WaitingFor(Answer, frozen=True, kw_only=True):
    """One answer to "why does it not go on?"."""

    who: str
    what: str
    since: str
    until: str | None


class DeadlineAt(Answer, frozen=True, kw_only=True):
    """Something that happens by itself at a moment."""

    kind: str
    due: str


class DepositFacts(Answer, frozen=True, kw_only=True):
    """One output at the escrow's address."""

    tx_hash: str
    amount: int
    height: int | None
    unlocked: bool
    lost: bool
    spent_by: str | None


class SpendFacts(Answer, frozen=True, kw_only=True):
    """One transaction that spends deposits."""

    tx_hash: str
    height: int | None
    final: bool
    lost: bool


class ExportFacts(Answer, frozen=True, kw_only=True):
    """A seat's latest export: `current`, `consumed` or `void`, and how many of the deposits it covers."""

    role: str
    number: int
    state: str
    covers: int


class ChainFacts(Answer, frozen=True, kw_only=True):
    """What the chain shows: `funded` is its fact alone, `signable` says whether the seats' exports are in."""

    unlocked_atomic: int
    funded: bool
    signable: bool
    deposits: tuple[DepositFacts, ...]
    spends: tuple[SpendFacts, ...]


class ShareFacts(Answer, frozen=True, kw_only=True):
    """One destination of a payout."""

    roles: tuple[str, ...]
    amount: int


class FeeBandFacts(Answer, frozen=True, kw_only=True):
    """The network fees by which the cosigner judges a set, both ends included."""

    least: int
    most: int


class EpochFacts(Answer, frozen=True, kw_only=True):
    """One attempt to sign a payout."""

    number: int
    inputs_atomic: int
    since: str
    proposer: str | None
    network_fee_atomic: int | None
    fee_band: FeeBandFacts | None
    change_atomic: int | None
    """What stays at the escrow's address: the arbiter's fee, where it is paid afterwards."""
    shares: tuple[ShareFacts, ...]
    tx_hash: str | None
    broadcast: bool
    ended: str | None


class PayoutFacts(Answer, frozen=True, kw_only=True):
    """Money that shall move, by the consent of two of the three."""

    number: int
    purpose: str
    proposers: tuple[str, ...]
    cosigner: str
    buyer_share_bp: int
    fee_atomic: int
    consents: tuple[str, ...]
    ended: str | None
    epochs: tuple[EpochFacts, ...]


class OfferFacts(Answer, frozen=True, kw_only=True):
    """What one party offers the other."""

    number: int
    by: str
    buyer_share_bp: int | None
    ship_until: str | None


class CaseFacts(Answer, frozen=True, kw_only=True):
    """The dispute, with what both sides claim."""

    case_id: str
    status: str
    opened_by: str
    opened_at: str
    buyer_claim: str | None
    vendor_claim: str | None
    decision: str | None
    buyer_share_bp: int | None
    reason: str | None
    fee_atomic: int
    decided_at: str | None
    winner_tx_hash: str | None
    arbiter_fee_tx_hash: str | None


class HistoryEntry(Answer, frozen=True, kw_only=True):
    """One event, by name."""

    version: int
    type: str
    at: str


class EscrowSummary(Answer, frozen=True, kw_only=True):
    """One line of a list."""

    escrow_id: str
    order_id: str
    buyer_id: str
    vendor_id: str
    arbiter_id: str
    amount: int
    state: str
    outcome: str | None
    created_at: str
    version: int


class EscrowPage(Answer, frozen=True, kw_only=True):
    """Escrows, newest first; `next` asks for those after them, null at the end."""

    escrows: tuple[EscrowSummary, ...]
    next: str | None
    cursor: str


class EscrowFacts(Answer, frozen=True, kw_only=True):
    """Everything the three may know of an escrow."""

    escrow_id: str
    order_id: str
    buyer_id: str
    vendor_id: str
    arbiter_id: str
    amount: int
    network: str
    seats: dict[str, str]
    state: str
    outcome: str | None
    reason: str | None
    created_at: str
    since: str
    secrets_shredded_at: str | None
    """From then on claims, reasons and addresses are null for good."""
    version: int
    cursor: str
    payin_address: str | None
    """Null until all three seats agree on it, both parties can be paid out, and the arbiter is there if need be."""
    payout_addresses_set: tuple[str, ...]
    address_changes: tuple[str, ...]
    """Whose new payout address waits for consent."""
    chain: ChainFacts | None
    awaited: tuple[WaitingFor, ...]
    deadlines: tuple[DeadlineAt, ...]
    offers: tuple[OfferFacts, ...]
    case: CaseFacts | None
    exports: tuple[ExportFacts, ...]
    payouts: tuple[PayoutFacts, ...]
    recovery: tuple[str, ...]
    history: tuple[HistoryEntry, ...]


class TurnFacts(Answer, frozen=True, kw_only=True):
    """One step asked of one seat's wallet."""

    turn_id: str
    role: str
    step: str
    since: str
    failed_call: str | None
    """The wallet call that refused when the turn was tried last; null when none did."""
    failed_reason: str | None


class TurnList(Answer, frozen=True, kw_only=True):
    """What is asked of whom now."""

    escrow_id: str
    version: int
    turns: tuple[TurnFacts, ...]


class RecoveryCase(Answer, frozen=True, kw_only=True):
    """One escrow that people must look at: `reasons` are its open recovery items, none for a dispute alone."""

    escrow_id: str
    order_id: str
    status: str
    reasons: tuple[str, ...]
    case_id: str | None
    hours_stuck: int
    """Whole hours since the last event by a person, a wallet or the chain."""
    active_at: str
    amount: int


class RecoveryPage(Answer, frozen=True, kw_only=True):
    """Escrows that people must look at, oldest activity first; `next` asks for those after them."""

    total_cases: int
    cases: tuple[RecoveryCase, ...]
    next: str | None
    cursor: str


class MaintenanceState(Answer, frozen=True, kw_only=True):
    """Whether new escrows are refused and why; since when and by whom it is as it is, null when never changed."""

    enabled: bool
    reason: str
    since: str | None
    by: str | None
