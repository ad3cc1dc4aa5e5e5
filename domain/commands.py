"""Everything that can be asked of an escrow, in the imperative.

People are named by user, seats by role: the domain decides which of the three a user is. Sealed fields are sealed
before the command is made; times and identifiers come in with the command.
"""

import msgspec

from domain.amounts import Amounts
from domain.chain import ChainView
from domain.difference import Difference
from domain.draw import ArbiterDraw
from domain.events import FeeBand, Signed, Verdict
from domain.ids import (
    Address,
    CaseId,
    Cid,
    KeyImage,
    Micros,
    OneTimeKey,
    PhotoId,
    Sealed,
    TxHash,
    UserId,
    WalletId,
)
from domain.money import Atomic
from domain.roles import Role
from domain.steps import Round, Step
from domain.terms import Terms


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Something asked of an escrow at a moment."""

    at: Micros


class CreateEscrow(Command, frozen=True, kw_only=True):
    """Begins an escrow; by the marketplace or one of the parties (checked where tokens are known)."""

    terms: Terms
    by: UserId
    draw: ArbiterDraw | None = None


class SetPayoutAddress(Command, frozen=True, kw_only=True):
    """Says where one's own money goes."""

    by: UserId
    tag: str
    address: Sealed
    is_escrow_address: bool = False


class ConsentAddress(Command, frozen=True, kw_only=True):
    """Consents to somebody else's new payout address; `tag`, when given, says to which one."""

    by: UserId
    role: Role
    tag: str | None = None


class CancelEscrow(Command, frozen=True, kw_only=True):
    """Ends the order before any deposit."""

    by: UserId


class Ship(Command, frozen=True, kw_only=True):
    """Says that the goods are sent."""

    by: UserId


class ConfirmDelivery(Command, frozen=True, kw_only=True):
    """Releases the money to the vendor."""

    by: UserId


class GrantRefund(Command, frozen=True, kw_only=True):
    """Gives the money back to the buyer."""

    by: UserId


class OpenDispute(Command, frozen=True, kw_only=True):
    """Asks for the arbiter."""

    by: UserId
    case_id: CaseId
    claim: Sealed


class AddClaim(Command, frozen=True, kw_only=True):
    """Answers the claim of the other side."""

    by: UserId
    claim: Sealed


class AddMessage(Command, frozen=True, kw_only=True):
    """Says something in a case, perhaps in answer to an earlier message."""

    by: UserId
    message: Sealed
    reply_to: int | None = None


class ReviewDispute(Command, frozen=True, kw_only=True):
    """Takes a case up."""

    by: UserId


class ResolveDispute(Command, frozen=True, kw_only=True):
    """Decides a case; final."""

    by: UserId
    verdict: Verdict
    buyer_share_bp: int | None
    reason: Sealed
    reason_salt: Sealed | None = None
    signed: Signed | None = None
    """Checked where keys are known."""
    confirmed: Amounts | None = None
    """What the arbiter was told that each of the three gets: the decision stands for these amounts alone."""


class AddEvidence(Command, frozen=True, kw_only=True):
    """Lays a picture before the arbiter; its sealed bytes are stored already."""

    by: UserId
    photo_id: PhotoId
    cid: Cid
    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    description: Sealed


class ShowEvidence(Command, frozen=True, kw_only=True):
    """Asks to be shown a picture."""

    by: UserId
    photo_id: PhotoId
    assists: bool = False
    """Whether it is an assistant of the arbiter: known where assistants are."""


class ProposeAgreement(Command, frozen=True, kw_only=True):
    """Offers the other party a settlement or a later deadline to ship; exactly one of the two is given."""

    by: UserId
    buyer_share_bp: int | None = None
    ship_until: Micros | None = None


class AcceptAgreement(Command, frozen=True, kw_only=True):
    """Accepts what the other party offered."""

    by: UserId
    number: int


class WithdrawAgreement(Command, frozen=True, kw_only=True):
    """Takes one's own offer back."""

    by: UserId
    number: int


class JoinSeat(Command, frozen=True, kw_only=True):
    """Brings a relay or registered wallet to a seat."""

    role: Role
    wallet_id: WalletId
    identity_key: str
    secrets: Sealed | None = None


class ClaimWallet(Command, frozen=True, kw_only=True):
    """Gives a hosted seat its wallet, before the wallet is made."""

    role: Role
    wallet_id: WalletId
    identity_key: str
    secrets: Sealed


class IntendCall(Command, frozen=True, kw_only=True):
    """Announces a wallet call that must not be repeated blind."""

    role: Role
    step: Step
    turn_id: str
    wallet_id: WalletId


class FailTurn(Command, frozen=True, kw_only=True):
    """Reports that a turn could not be taken."""

    role: Role
    step: Step
    turn_id: str
    call: str | None = None
    reason: str


class GiveSetupMessage(Command, frozen=True, kw_only=True):
    """Ends a round for a seat."""

    role: Role
    round: Round
    message: Sealed
    digest: str
    signature: str


class ConfirmAddress(Command, frozen=True, kw_only=True):
    """Reports the address a seat's wallet arrived at."""

    role: Role
    address: Address
    threshold: int
    total: int
    ready: bool
    signature: str
    view_key: Sealed
    view_key_tag: str
    height: int


class BackUpWallet(Command, frozen=True, kw_only=True):
    """Hands out what brings a hosted wallet back, sealed to the key that the terms name; `box` is base64."""

    role: Role
    wallet_id: WalletId
    key: str
    digest: str
    box: Sealed


class RestoreWallet(Command, frozen=True, kw_only=True):
    """An operator is about to put a lost wallet back from its backup."""

    role: Role
    wallet_id: WalletId
    by: UserId


class GiveExport(Command, frozen=True, kw_only=True):
    """Hands out a seat's export."""

    role: Role
    export: Sealed
    digest: str
    covers: tuple[OneTimeKey, ...]


class TellKeyImages(Command, frozen=True, kw_only=True):
    """Tells the key images that a seat's wallet learnt from another seat's export."""

    role: Role
    key_images: dict[OneTimeKey, KeyImage]


class GiveProposal(Command, frozen=True, kw_only=True):
    """Hands out a transaction set."""

    role: Role
    payout: int
    epoch: int
    tx_set: Sealed
    digest: str
    network_fee: Atomic
    export_digest: str
    key_images: dict[OneTimeKey, KeyImage]


class SetFeeBand(Command, frozen=True, kw_only=True):
    """Says which network fees the cosigner will sign, before it looks at the set."""

    role: Role
    payout: int
    epoch: int
    band: FeeBand


class GiveSignature(Command, frozen=True, kw_only=True):
    """Reports a signed transaction, before anybody broadcasts it."""

    role: Role
    payout: int
    epoch: int
    tx_hash: TxHash
    signed: Sealed
    digest: str


class ReportBroadcast(Command, frozen=True, kw_only=True):
    """Reports that the network took the transaction."""

    role: Role
    payout: int
    epoch: int
    tx_hash: TxHash


class AbandonEpoch(Command, frozen=True, kw_only=True):
    """Gives an epoch up: a check failed, an answer was lost, or the wallet says its data are stale."""

    role: Role
    payout: int
    epoch: int
    reason: str


class ObserveChain(Command, frozen=True, kw_only=True):
    """Reports all that the chain shows of the escrow, looked at when the escrow was known to be at `version`.

    What has happened to the escrow since then the view may not know.
    """

    view: ChainView
    version: int


class ReportArbiterReady(Command, frozen=True, kw_only=True):
    """Reports that the arbiter may judge the two, is not away, and when it was last seen."""

    seen_at: Micros


class ReportComparison(Command, frozen=True, kw_only=True):
    """Reports how the escrow, at `version`, compares with a fresh look at the chain, `height` blocks high."""

    height: int
    differences: tuple[Difference, ...]
    version: int


class PassTime(Command, frozen=True, kw_only=True):
    """Asks for whatever is due by now; `outages` are intervals in which our own daemon was down."""

    outages: tuple[tuple[Micros, Micros], ...] = ()


class RetryTransaction(Command, frozen=True, kw_only=True):
    """An administrator asks for the payout to be tried again."""

    by: UserId
    notes: Sealed


class NoteRecovery(Command, frozen=True, kw_only=True):
    """An administrator records another recovery action."""

    by: UserId
    action: str
    notes: Sealed


class ShredKey(Command, frozen=True, kw_only=True):
    """An administrator asks for the escrow's secrets to be made unreadable; `retention_days` is the operator's."""

    by: UserId
    retention_days: int


AnyCommand = (
    CreateEscrow | SetPayoutAddress | ConsentAddress | CancelEscrow | Ship | ConfirmDelivery | GrantRefund
    | OpenDispute | AddClaim | AddMessage | ReviewDispute | ResolveDispute
    | AddEvidence | ShowEvidence
    | ProposeAgreement | AcceptAgreement | WithdrawAgreement
    | JoinSeat | ClaimWallet | IntendCall | FailTurn | GiveSetupMessage | BackUpWallet | ConfirmAddress
    | RestoreWallet
    | GiveExport | TellKeyImages | GiveProposal | SetFeeBand | GiveSignature | ReportBroadcast | AbandonEpoch
    | ReportArbiterReady | ObserveChain | ReportComparison | PassTime | RetryTransaction | NoteRecovery | ShredKey
)  # fmt: skip
"""The closed set of commands."""
