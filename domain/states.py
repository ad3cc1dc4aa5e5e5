"""The states of an escrow: a union, so that a field that does not exist yet cannot be read."""

from enum import StrEnum

from msgspec import field

from domain.difference import Difference
from domain.events import Signed, Verdict
from domain.ids import Address, CaseId, Cid, Micros, PhotoId, Sealed, TxHash, UserId, WalletId
from domain.money import Atomic
from domain.record import Record
from domain.roles import Role
from domain.states_money import Deposit as Deposit
from domain.states_money import Epoch as Epoch
from domain.states_money import Export as Export
from domain.states_money import ExportState as ExportState
from domain.states_money import Money as Money
from domain.states_money import Payout as Payout
from domain.states_money import Proposal as Proposal
from domain.states_money import Signature as Signature
from domain.states_money import Spend as Spend
from domain.steps import Round, Step
from domain.terms import Terms


class PayoutAddress(Record, frozen=True, kw_only=True):
    """Where one of the three wants to be paid: a fingerprint to compare by, the address itself sealed."""

    tag: str
    sealed: Sealed


class Seat(Record, frozen=True, kw_only=True):
    """Who sits in a seat: a wallet and the key that signs its set-up messages."""

    wallet_id: WalletId
    identity_key: str
    secrets: Sealed | None


class Backup(Record, frozen=True, kw_only=True):
    """That a hosted wallet is backed up; the sealed box itself lies in the log alone."""

    at: Micros
    key: str
    """The public key it is sealed to, 64 hex digits."""
    digest: str


class Intent(Record, frozen=True, kw_only=True):
    """A wallet call that was announced and whose outcome is not in the log yet."""

    step: Step
    turn_id: str
    wallet_id: WalletId


class Failure(Record, frozen=True, kw_only=True):
    """Why a seat's last attempt at its turn came to nothing: the wallet call that refused, if one did, and its word."""

    call: str | None
    reason: str


class CaseStatus(StrEnum):
    """Where a case stands; whether it is decided is told apart, by `Case.decided_at`."""

    OPEN = "open"
    UNDER_REVIEW = "under_review"
    """From the arbiter's first act until the payout of the decision is final."""
    RESOLVED = "resolved"
    CLOSED = "closed"
    """Ended without a decision that was paid: settled by the parties, or the money went otherwise."""


class CaseMessage(Record, frozen=True, kw_only=True, gc=False):
    """What one of the three said in a case; None where its text can be read no more.

    It holds texts and numbers alone, so the cyclic collector need not look at it: there are many.
    """

    number: int
    by: Role
    at: Micros
    text: Sealed | None
    reply_to: int | None


class Evidence(Record, frozen=True, kw_only=True):
    """One picture that a party laid before the arbiter, and when each of the three was first shown it."""

    photo_id: PhotoId
    by: Role
    at: Micros
    cid: Cid
    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    description: Sealed | None
    """None once its key is shredded."""
    shown: dict[Role, Micros] = field(default_factory=dict)
    shown_to: frozenset[UserId] = frozenset()
    """Each person who was, the arbiter's assistants among them."""


class Case(Record, frozen=True, kw_only=True):
    """One dispute."""

    case_id: CaseId
    opened_by: Role
    opened_at: Micros
    touched_at: Micros
    """The last act of any of the three in it, but for messages, which have their own moments."""
    claims: dict[Role, Sealed]
    messages: tuple[CaseMessage, ...] = ()
    status: CaseStatus = CaseStatus.OPEN
    verdict: Verdict | None = None
    buyer_share_bp: int | None = None
    fee_atomic: Atomic = Atomic(0)
    reason: Sealed | None = None
    reason_salt: Sealed | None = None
    signed: Signed | None = None
    escalated_at: Micros | None = None
    decided_at: Micros | None = None
    winner_tx_hash: TxHash | None = None
    evidence: tuple[Evidence, ...] = ()
    late: bool = False
    """Opened after the end of the order, about money that came later."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen in it."""
        return self.status in (CaseStatus.RESOLVED, CaseStatus.CLOSED)

    @property
    def undecided(self) -> bool:
        """Whether the arbiter may still decide it."""
        return not self.over and self.decided_at is None


class Offer(Record, frozen=True, kw_only=True):
    """What one party offers the other."""

    number: int
    by: Role
    buyer_share_bp: int | None
    ship_until: Micros | None


class Message(Record, frozen=True, kw_only=True):
    """One seat's message of one set-up round."""

    sealed: Sealed
    digest: str
    signature: str


class Confirmation(Record, frozen=True, kw_only=True):
    """What one seat's wallet reported at the end of the set-up."""

    address: Address
    threshold: int
    total: int
    ready: bool
    signature: str
    view_key: Sealed
    view_key_tag: str
    height: int


class Setup(Record, frozen=True, kw_only=True):
    """How far the set-up is."""

    started_at: Micros | None = None
    complete_at: Micros | None = None
    """When the last seat got its wallet: the hour of the set-up runs from here."""
    round_since: Micros = Micros(0)
    messages: dict[Round, dict[Role, Message]] = field(default_factory=dict)
    confirmations: dict[Role, Confirmation] = field(default_factory=dict)


class Core(Record, frozen=True, kw_only=True):
    """What every state knows."""

    terms: Terms
    created_at: Micros
    since: Micros
    """When the present state was entered."""
    active_at: Micros
    """The last event by a person, a wallet or the chain."""
    last_at: Micros
    version: int = 0
    addresses: dict[Role, PayoutAddress] = field(default_factory=dict)
    address_changes: dict[Role, PayoutAddress] = field(default_factory=dict)
    seats: dict[Role, Seat] = field(default_factory=dict)
    backups: dict[Role, Backup] = field(default_factory=dict)
    intents: dict[Role, Intent] = field(default_factory=dict)
    failures: dict[Role, Failure] = field(default_factory=dict)
    case: Case | None = None
    offers: tuple[Offer, ...] = ()
    offers_made: int = 0
    ship_until: Micros | None = None
    arbiter_ready_at: Micros | None = None
    """When the arbiter was found to be there, before the address to pay to was shown; None where nobody asked."""
    reminded: frozenset[str] = frozenset()
    stage: int = 0
    """Highest escalation stage since the last activity."""
    recovery: tuple[str, ...] = ()
    """Open reasons for people to look."""
    differences: tuple[Difference, ...] = ()
    """What the last comparison with the chain found, the first of them."""
    shredded_at: Micros | None = None
    """When its secrets were made unreadable; nothing more is possible then."""


class State(Record, frozen=True, kw_only=True):
    """A state of an escrow."""

    core: Core


class Pending(State, frozen=True, kw_only=True):
    """Created; seats are awaited."""


class SettingUp(State, frozen=True, kw_only=True):
    """The three wallets are becoming one address."""

    setup: Setup


class AwaitingFunding(State, frozen=True, kw_only=True):
    """There is an address; the amount is awaited."""

    money: Money


class Funded(State, frozen=True, kw_only=True):
    """The unlocked deposits reach the amount."""

    money: Money


class Delivering(State, frozen=True, kw_only=True):
    """The vendor shipped."""

    money: Money


class Releasing(State, frozen=True, kw_only=True):
    """A payout to the vendor, a split or an agreed one is under way."""

    money: Money


class Refunding(State, frozen=True, kw_only=True):
    """A payout back to the buyer is under way."""

    money: Money


class ReleasingRecoveryNeeded(State, frozen=True, kw_only=True):
    """Releasing, and nothing happened for so long that people must look."""

    money: Money


class RefundingRecoveryNeeded(State, frozen=True, kw_only=True):
    """Refunding, and nothing happened for so long that people must look."""

    money: Money


class Disputed(State, frozen=True, kw_only=True):
    """The arbiter's decision, or an agreement, is awaited."""

    money: Money


class Completed(State, frozen=True, kw_only=True):
    """The money is paid out."""

    money: Money
    outcome: str
    tx_hash: TxHash


class Refunded(State, frozen=True, kw_only=True):
    """The money is paid back."""

    money: Money
    tx_hash: TxHash


class Cancelled(State, frozen=True, kw_only=True):
    """The order ended before any deposit; money that comes later can still be settled."""

    reason: str
    money: Money | None


class SetupFailed(State, frozen=True, kw_only=True):
    """The set-up ended without an address that all three agree on."""

    reason: str
    awaited: tuple[Role, ...]
    money: Money | None


Escrow = (
    Pending | SettingUp | AwaitingFunding | Funded | Delivering | Releasing | Refunding
    | ReleasingRecoveryNeeded | RefundingRecoveryNeeded | Disputed
    | Completed | Refunded | Cancelled | SetupFailed
)  # fmt: skip

TERMINAL = (Completed, Refunded, Cancelled, SetupFailed)
PAYING = (Releasing, Refunding, ReleasingRecoveryNeeded, RefundingRecoveryNeeded)

NAMES: dict[type, str] = {
    Pending: "pending",
    SettingUp: "setting_up",
    AwaitingFunding: "awaiting_funding",
    Funded: "funded",
    Delivering: "delivering",
    Releasing: "releasing",
    Refunding: "refunding",
    ReleasingRecoveryNeeded: "releasing_recovery_needed",
    RefundingRecoveryNeeded: "refunding_recovery_needed",
    Disputed: "disputed",
    Completed: "completed",
    Refunded: "refunded",
    Cancelled: "cancelled",
    SetupFailed: "setup_failed",
}


def name(state: Escrow) -> str:
    """Names a state as the API does."""
    return NAMES[type(state)]


def money_of(state: Escrow) -> Money | None:
    """Returns the escrow's wallet, or None before there is one."""
    return getattr(state, "money", None)
