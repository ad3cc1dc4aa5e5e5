"""Bodies of requests, as people and programs send them: unknown fields, floats for integers and loose types refused."""

from datetime import datetime
from typing import Annotated

import msgspec

from domain.events import Verdict
from domain.money import ATOMIC_MAX
from domain.roles import Role, SeatKind

CLAIM_MAX = 10_000
"""Characters of a claim or of the reason of a decision."""
MESSAGE_MAX = 4_000
"""Characters of one message in a case."""
REASON_MAX = 500
"""Characters of what everybody who asks for an escrow is told during maintenance."""
BP_MAX = 10_000
DESCRIPTION_MAX = 1_000
"""Characters of what a party says of a picture."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}\Z", min_length=1, max_length=128)]
"""An order or a user: up to 128 letters, digits and `._@:+-`, the first a letter or digit."""
Amount = Annotated[int, msgspec.Meta(gt=0, le=ATOMIC_MAX)]
"""Atomic units; a whole number of JSON, never a float or a text."""
Part = Annotated[int, msgspec.Meta(ge=0, le=ATOMIC_MAX)]
"""Of an amount, in atomic units; perhaps none of it."""
BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=BP_MAX)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=CLAIM_MAX)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=CLAIM_MAX, pattern=r"\S")]
"""More than blanks: both parties are owed one."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339 with an offset."""
ESCROW_ID = r"^esc_[0-9a-f]{32}\Z"
PHOTO_ID = r"^photo_[0-9a-f]{32}\Z"
CASE_ID = r"^case_[0-9a-f]{32}\Z"
CaseIdText = Annotated[str, msgspec.Meta(pattern=CASE_ID, max_length=37)]
EscrowIdText = Annotated[str, msgspec.Meta(pattern=ESCROW_ID, max_length=36)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body; nothing in it is ignored."""


class Nothing(Request, frozen=True, kw_only=True):
    """The body of a command that needs none: empty, or an empty object."""


class DrainSlot(Request, frozen=True, kw_only=True):
    """Which wallet slot is to leave."""

    slot: Name


class ScalePool(Request, frozen=True, kw_only=True):
    """How many wallet processes there are to be; without a number their use decides."""

    slots: int | None = None


class CreateEscrow(Request, frozen=True, kw_only=True):
    """A new order."""

    order_id: Name
    buyer_id: Name
    vendor_id: Name
    amount: Amount
    seats: dict[Role, SeatKind] = {}
    """Where each wallet lives; seats left out take the default."""


class PayoutAddress(Request, frozen=True, kw_only=True):
    """Where the caller's own money goes."""

    address: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class AddressConsent(Request, frozen=True, kw_only=True):
    """Whose new payout address the caller consents to."""

    role: Role


class Agreement(Request, frozen=True, kw_only=True):
    """An offer to the other party: exactly one of the two."""

    buyer_share_bp: BasisPoints | None = None
    ship_until: Moment | None = None


class MaintenanceMode(Request, frozen=True, kw_only=True):
    """Whether new escrows are refused, and what those who ask are told; a beginning needs a reason."""

    enabled: bool
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MAX)] = ""


class Holiday(Request, frozen=True, kw_only=True):
    """Until when an arbiter is away, null when back, and who stands in meanwhile."""

    until: Moment | None = None
    delegate: Name | None = None


class Conflict(Request, frozen=True, kw_only=True):
    """Whose cases an arbiter does not judge; `arbiter_id` by an administrator alone."""

    party: Name
    arbiter_id: Name | None = None


class ConflictWithdrawal(Request, frozen=True, kw_only=True):
    """The conflict that there is no more."""

    arbiter_id: Name
    party: Name


class Assistant(Request, frozen=True, kw_only=True):
    """Who may read the arbiter's cases, or no longer."""

    assistant: Name
    named: bool = True


class OpenDispute(Request, frozen=True, kw_only=True):
    """A call for the arbiter."""

    escrow_id: EscrowIdText
    claim: Text


class AddClaim(Request, frozen=True, kw_only=True):
    """The answer of the side that did not open the case."""

    case_id: CaseIdText
    claim: Text


class AddMessage(Request, frozen=True, kw_only=True):
    """One message in a case; `reply_to` is the number of the one it answers."""

    case_id: CaseIdText
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=MESSAGE_MAX)]
    reply_to: Annotated[int, msgspec.Meta(ge=1)] | None = None


class PrepareDraft(Request, frozen=True, kw_only=True):
    """What an arbiter or an assistant writes down about a case."""

    case_id: CaseIdText
    draft: Text


class ReviewDispute(Request, frozen=True, kw_only=True):
    """The case that its arbiter takes up."""

    case_id: CaseIdText


class AddPhoto(Request, frozen=True, kw_only=True):
    """What is sent beside a picture; `sha256` of its file is computed here, so that a repeated request is known."""

    case_id: CaseIdText
    description: Annotated[str, msgspec.Meta(max_length=DESCRIPTION_MAX)] = ""
    sha256: str = ""


class StateDecision(Request, frozen=True, kw_only=True):
    """A decision as an arbiter means to take it; `buyer_share_bp` for a split only."""

    case_id: CaseIdText
    decision: Verdict
    buyer_share_bp: BasisPoints | None = None
    reason: Reason
    reason_salt: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")] | None = None


class DecidedAmounts(Request, frozen=True, kw_only=True):
    """What an arbiter was told that each of the three gets."""

    buyer: Part
    vendor: Part
    arbiter: Part


class ResolveDispute(StateDecision, frozen=True, kw_only=True):
    """An arbiter's decision; one whose key is not held here sends its signature, and the salt that it signed with.

    With `amounts` it is taken only if it divides just these.
    """

    signature: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")] | None = None
    amounts: DecidedAmounts | None = None
