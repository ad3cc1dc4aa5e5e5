"""Everything that can happen to an escrow, in the past tense.

Names are chosen by hand and never change; a changed meaning is a new schema version with an upcaster.
"""

from typing import get_args

from domain.difference import Difference
from domain.draw import ArbiterDraw
from domain.event import Event as Event
from domain.event import FeeBand as FeeBand
from domain.event import Purpose as Purpose
from domain.event import Share as Share
from domain.event import Signed as Signed
from domain.event import Verdict as Verdict
from domain.events_backup import WalletBackedUp as WalletBackedUp
from domain.events_backup import WalletRestored as WalletRestored
from domain.events_evidence import EvidenceAdded as EvidenceAdded
from domain.events_evidence import EvidenceShown as EvidenceShown
from domain.events_money import ArbiterFeePaid as ArbiterFeePaid
from domain.events_money import DepositConfirmed as DepositConfirmed
from domain.events_money import DepositLost as DepositLost
from domain.events_money import DepositReturned as DepositReturned
from domain.events_money import DepositSeen as DepositSeen
from domain.events_money import DepositUnlocked as DepositUnlocked
from domain.events_money import EpochAbandoned as EpochAbandoned
from domain.events_money import EpochOpened as EpochOpened
from domain.events_money import EscrowCompleted as EscrowCompleted
from domain.events_money import EscrowRefunded as EscrowRefunded
from domain.events_money import ExportGiven as ExportGiven
from domain.events_money import FeeBandSet as FeeBandSet
from domain.events_money import Funded as Funded
from domain.events_money import FundingLost as FundingLost
from domain.events_money import KeyImagesTold as KeyImagesTold
from domain.events_money import LeftoverPaid as LeftoverPaid
from domain.events_money import PayoutApproved as PayoutApproved
from domain.events_money import PayoutBroadcast as PayoutBroadcast
from domain.events_money import PayoutDropped as PayoutDropped
from domain.events_money import PayoutOpened as PayoutOpened
from domain.events_money import PayoutProposed as PayoutProposed
from domain.events_money import PayoutSigned as PayoutSigned
from domain.events_money import SpendConfirmed as SpendConfirmed
from domain.events_money import SpendFinal as SpendFinal
from domain.events_money import SpendLost as SpendLost
from domain.events_money import SpendSeen as SpendSeen
from domain.ids import Address, CaseId, Micros, Sealed, TxHash, UserId, WalletId
from domain.money import Atomic
from domain.roles import Role
from domain.steps import Round, Step
from domain.terms import Terms

# -- the order -----------------------------------------------------------------------------------------------


class EscrowCreated(Event, frozen=True, kw_only=True):
    """The order exists."""

    terms: Terms
    created_by: UserId
    draw: ArbiterDraw | None = None
    """How the arbiter was drawn; None where there was none to choose, and in escrows older than draws."""


class PayoutAddressSet(Event, frozen=True, kw_only=True):
    """One of the three said where their money goes."""

    role: Role
    tag: str
    """Keyed fingerprint: equal addresses have equal tags."""
    address: Sealed


class AddressChangeProposed(Event, frozen=True, kw_only=True):
    """One of the three asks for another payout address after the pay-in address was shown.

    With the present address it takes an earlier request back.
    """

    role: Role
    tag: str
    address: Sealed


class AddressChangeAgreed(Event, frozen=True, kw_only=True):
    """Somebody else of the three consented to the new payout address."""

    role: Role
    agreed_by: Role


class Cancelled(Event, frozen=True, kw_only=True):
    """The order ended before any deposit was seen."""

    by: Role | None
    """None when a deadline passed."""
    reason: str


# -- set-up --------------------------------------------------------------------------------------------------


class SeatJoined(Event, frozen=True, kw_only=True):
    """A relay or registered seat has a wallet and an identity key."""

    role: Role
    wallet_id: WalletId
    identity_key: str
    secrets: Sealed | None = None


class SetupStarted(Event, frozen=True, kw_only=True):
    """All three seats are present: the set-up began."""


class WalletClaimed(Event, frozen=True, kw_only=True):
    """A hosted seat has a wallet of its own: name, password and identity seed are sealed here before it is made."""

    role: Role
    wallet_id: WalletId
    identity_key: str
    secrets: Sealed


class CallIntended(Event, frozen=True, kw_only=True):
    """A seat is about to make a wallet call that must not be repeated blind."""

    role: Role
    step: Step
    turn_id: str
    wallet_id: WalletId


class TurnFailed(Event, frozen=True, kw_only=True):
    """A seat could not take its turn; it will be asked again."""

    role: Role
    step: Step
    turn_id: str
    call: str | None
    """The wallet's method that refused; None when the agent itself gave up."""
    reason: str
    """What was wrong, in one word; the same word means the same whichever call it was."""


class SetupMessageGiven(Event, frozen=True, kw_only=True):
    """A seat finished one round."""

    role: Role
    round: Round
    message: Sealed
    digest: str
    """sha256 of the message, hex."""
    signature: str
    """By the seat's identity key over escrow, order, role, round, terms, all earlier messages and this digest."""


class AddressConfirmed(Event, frozen=True, kw_only=True):
    """A seat's wallet is ready, 2 of 3, and reports this address."""

    role: Role
    address: Address
    threshold: int
    total: int
    ready: bool
    signature: str
    view_key: Sealed
    view_key_tag: str
    height: int
    """The chain's height before anybody could know the address: watching begins here."""


class AddressAgreed(Event, frozen=True, kw_only=True):
    """All three seats confirmed the same address."""

    address: Address


class SetupFailed(Event, frozen=True, kw_only=True):
    """The set-up ended without an address."""

    reason: str
    """`timeout` or `seats_differ`."""
    awaited: tuple[Role, ...]


# -- what people decide --------------------------------------------------------------------------------------


class Shipped(Event, frozen=True, kw_only=True):
    """The vendor sent the goods."""


class DeliveryConfirmed(Event, frozen=True, kw_only=True):
    """The buyer released the money to the vendor."""


class RefundGranted(Event, frozen=True, kw_only=True):
    """The vendor gives the money back."""


class AgreementProposed(Event, frozen=True, kw_only=True):
    """A party offers the other a settlement (a share of the buyer) or a later deadline to ship."""

    number: int
    by: Role
    buyer_share_bp: int | None = None
    ship_until: Micros | None = None


class AgreementAccepted(Event, frozen=True, kw_only=True):
    """The other party accepted."""

    number: int
    by: Role


class AgreementWithdrawn(Event, frozen=True, kw_only=True):
    """The party that offered took it back."""

    number: int


# -- disputes ------------------------------------------------------------------------------------------------


class DisputeOpened(Event, frozen=True, kw_only=True):
    """A party asked for the arbiter."""

    case_id: CaseId
    by: Role
    claim: Sealed


class DisputeClaimAdded(Event, frozen=True, kw_only=True):
    """The side that did not open the case gave its claim."""

    by: Role
    claim: Sealed


class DisputeMessageAdded(Event, frozen=True, kw_only=True):
    """One of the three said something in the case."""

    number: int
    """Counted from 1 within the case."""
    by: Role
    message: Sealed
    reply_to: int | None = None
    """Number of the message it answers."""


class DisputeReviewed(Event, frozen=True, kw_only=True):
    """The arbiter took the case up."""


class DisputeEscalated(Event, frozen=True, kw_only=True):
    """The case was undecided for so long that administrators look at it."""

    hours_open: int
    """Whole hours since it was opened, outages of our own daemon not counted."""


class DisputeDecided(Event, frozen=True, kw_only=True):
    """The arbiter decided; final."""

    verdict: Verdict
    buyer_share_bp: int | None
    fee_atomic: Atomic
    reason: Sealed
    reason_salt: Sealed | None = None
    signed: Signed | None = None
    """None in decisions taken before they were signed."""


class DisputeResolved(Event, frozen=True, kw_only=True):
    """The decision's payout is final."""

    tx_hash: TxHash


class DisputeClosed(Event, frozen=True, kw_only=True):
    """The case ended without a decision paid."""

    reason: str
    """`agreed` or `paid_otherwise`."""


# -- time, recovery, the end of retention ---------------------------------------------------------------------


class ArbiterReady(Event, frozen=True, kw_only=True):
    """The arbiter was there shortly before: the address to pay to may be shown."""

    seen_at: Micros


class ReminderDue(Event, frozen=True, kw_only=True):
    """A deadline that ends nothing has passed: somebody is reminded."""

    kind: str
    outage_s: int
    """Seconds of our own daemon's outages that were not counted."""


class StuckStageReached(Event, frozen=True, kw_only=True):
    """A payout had no activity for the hours of this stage."""

    stage: int
    hours_stuck: int
    announce: bool
    """False for stages that were missed and overtaken by a higher one."""
    outage_s: int


class ManualRecoveryRequired(Event, frozen=True, kw_only=True):
    """Stage 4: only people can go on."""

    original_status: str
    hours_stuck: int


class ChainCompared(Event, frozen=True, kw_only=True):
    """The log was compared with a fresh look at the chain, and came out otherwise than the last time."""

    height: int
    """Number of blocks then."""
    differences: tuple[Difference, ...]
    """The first of them; none when log and chain agree again."""


class RecoveryItemOpened(Event, frozen=True, kw_only=True):
    """People must look at this escrow."""

    reason: str


class RecoveryItemClosed(Event, frozen=True, kw_only=True):
    """The reason to look is gone or was dealt with."""

    reason: str


class RecoveryActionTaken(Event, frozen=True, kw_only=True):
    """An administrator acted."""

    action: str
    by: UserId
    notes: Sealed


class KeyShredded(Event, frozen=True, kw_only=True):
    """The escrow's secrets are unreadable for good; wallets keep theirs, since their address can be paid for ever."""

    by: UserId
    retention_days: int
    """What the operator had promised to keep them for, counted from the last that happened."""


AnyEvent = (
    EscrowCreated | PayoutAddressSet | AddressChangeProposed | AddressChangeAgreed | Cancelled
    | SeatJoined | SetupStarted | WalletClaimed | CallIntended | TurnFailed | SetupMessageGiven
    | WalletBackedUp | AddressConfirmed | AddressAgreed | SetupFailed | WalletRestored
    | DepositSeen | DepositConfirmed | DepositUnlocked | DepositLost | DepositReturned | Funded | FundingLost
    | SpendSeen | SpendConfirmed | SpendFinal | SpendLost
    | Shipped | DeliveryConfirmed | RefundGranted | AgreementProposed | AgreementAccepted | AgreementWithdrawn
    | DisputeOpened | DisputeClaimAdded | DisputeMessageAdded | DisputeReviewed | DisputeEscalated
    | DisputeDecided | DisputeResolved | DisputeClosed | EvidenceAdded | EvidenceShown
    | ExportGiven | KeyImagesTold | PayoutOpened | PayoutApproved | PayoutDropped | EpochOpened | PayoutProposed
    | FeeBandSet | PayoutSigned | PayoutBroadcast | EpochAbandoned | EscrowCompleted | EscrowRefunded | LeftoverPaid
    | ArbiterFeePaid
    | ArbiterReady | ReminderDue | StuckStageReached | ManualRecoveryRequired | ChainCompared
    | RecoveryItemOpened | RecoveryItemClosed | RecoveryActionTaken | KeyShredded
)  # fmt: skip
"""The closed set of events of an escrow's stream."""

EVENT_TYPES: dict[str, type[Event]] = {event.__struct_config__.tag: event for event in get_args(AnyEvent)}
"""Event classes by the name in the log."""

NO_ACTIVITY = (
    TurnFailed,
    CallIntended,
    ReminderDue,
    StuckStageReached,
    ManualRecoveryRequired,
    DisputeEscalated,
    ChainCompared,
    RecoveryItemOpened,
    RecoveryItemClosed,
    EvidenceShown,
)
"""Events that do not count as activity for the escalation: timers, notes, looks, attempts that came to nothing."""
