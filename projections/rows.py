"""The rows of each read model: columns by name, sealed fields sealed."""

import msgspec

from domain.ids import CaseId, Cid, EscrowId, Micros, OrderId, PhotoId, Sealed, TurnId, TxHash, UserId, WalletId
from domain.money import Atomic
from domain.roles import Role, SeatKind
from domain.states import CaseStatus
from domain.steps import Step


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a model, derived from one escrow."""

    escrow_id: EscrowId


class EscrowRow(Row, frozen=True, kw_only=True):
    """One line of a list, and who may see it."""

    order_id: OrderId
    buyer_id: UserId
    vendor_id: UserId
    arbiter_id: UserId
    amount: Atomic
    state: str
    outcome: str | None
    created_at: Micros
    version: int
    position: int
    """Of its last event in the log."""
    watched: bool
    """Whether it has an address: one can be paid for ever."""
    unready: bool = False
    """Whether its arbiter's readiness is awaited before the address is shown."""


class DisputeRow(Row, frozen=True, kw_only=True):
    """One case; claims and reason sealed, None where there is none or its key is shredded."""

    case_id: CaseId
    order_id: OrderId
    buyer_id: UserId
    vendor_id: UserId
    arbiter_id: UserId
    amount: Atomic
    state: str
    status: CaseStatus
    awaited: bool
    """Whether it is neither resolved nor closed."""
    opened_by: Role
    opened_at: Micros
    touched_at: Micros
    """As read: the last act of any of the three in it. As written: the last one but for messages."""
    escalated_at: Micros | None
    buyer_claim: Sealed | None
    vendor_claim: Sealed | None
    decision: str | None
    buyer_share_bp: int | None
    reason: Sealed | None
    fee_atomic: Atomic
    reason_salt: Sealed | None
    statement: str | None
    """What the arbiter signed."""
    signing_key: str | None
    signature: str | None
    decided_at: Micros | None
    winner_tx_hash: TxHash | None
    arbiter_fee_tx_hash: TxHash | None


class MessageRow(Row, frozen=True, kw_only=True, gc=False):
    """One message of a case; sealed, None once its key is shredded."""

    number: int
    by: Role
    at: Micros
    message: Sealed | None
    reply_to: int | None


class PhotoRow(Row, frozen=True, kw_only=True):
    """One picture of a case; the description sealed, None when its key is shredded."""

    photo_id: PhotoId
    case_id: CaseId
    number: int
    """In the order in which they were added."""
    uploader: Role
    at: Micros
    cid: Cid
    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    description: Sealed | None
    buyer_saw_at: Micros | None
    """When each of the three was first shown it; None until then."""
    vendor_saw_at: Micros | None
    arbiter_saw_at: Micros | None


class RecoveryRow(Row, frozen=True, kw_only=True):
    """One escrow that people must look at."""

    order_id: OrderId
    state: str
    amount: Atomic
    reasons: tuple[str, ...]
    case_id: CaseId | None
    active_at: Micros
    """The last event by a person, a wallet or the chain."""


class WalletRow(Row, frozen=True, kw_only=True):
    """The three seats of one escrow: where each wallet lives, and its id once there is one."""

    buyer_kind: SeatKind
    vendor_kind: SeatKind
    arbiter_kind: SeatKind
    buyer_wallet: WalletId | None
    vendor_wallet: WalletId | None
    arbiter_wallet: WalletId | None


class TurnRow(Row, frozen=True, kw_only=True):
    """One open turn."""

    role: Role
    kind: SeatKind
    step: Step
    turn_id: TurnId
    since: Micros
    in_line: bool
    """Whether it may be taken now."""


class DeadlineRow(Row, frozen=True, kw_only=True):
    """Something that happens by itself at a moment."""

    kind: str
    start: Micros
    due: Micros


class StoppedRow(Row, frozen=True, kw_only=True):
    """An escrow that stands still: the event that cannot be read or cannot follow, and why."""

    version: int
    position: int
    says: str


class MarkRow(Row, frozen=True, kw_only=True):
    """One escrow bears one mark; only their numbers are kept."""

    mark: str
