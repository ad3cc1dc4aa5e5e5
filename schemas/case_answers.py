"""What the API answers about cases: amounts in atomic units, moments as RFC 3339 in UTC, texts opened."""

from schemas.answers import Answer


class DisputeOpened(Answer, frozen=True, kw_only=True):
    """The case, and who decides it."""

    case_id: str
    arbiter_id: str
    escrow_id: str
    version: int
    state: str
    cursor: str


class CaseFollowed(Answer, frozen=True, kw_only=True):
    """A command in a case was followed: `status` is `claim_added` or `under_review`."""

    case_id: str
    status: str
    escrow_id: str
    version: int
    state: str
    cursor: str


class MessageAdded(Answer, frozen=True, kw_only=True):
    """The message stands in the case under this number; `status` is `message_added`."""

    case_id: str
    status: str
    number: int
    sender_role: str
    at: str
    reply_to: int | None
    escrow_id: str
    version: int
    state: str
    cursor: str


class DisputeDecided(Answer, frozen=True, kw_only=True):
    """The decision is taken; hashes are null until it is paid, see the escrow."""

    case_id: str
    status: str
    winner_tx_hash: str | None
    arbiter_fee_tx_hash: str | None
    escrow_id: str
    version: int
    state: str
    cursor: str


class DecidedAmounts(Answer, frozen=True, kw_only=True):
    """What each of the three gets by a decision, before the network fee, of the money that can be paid out now."""

    buyer: int
    vendor: int
    arbiter: int


class DecisionStated(Answer, frozen=True, kw_only=True):
    """What an arbiter would sign: the bytes of `statement` (UTF-8), which are hashed and encoded no further."""

    case_id: str
    statement: str
    reason_salt: str
    fee_atomic: int
    amounts: DecidedAmounts | None
    """Sent along with the decision, they bind it; null while no such decision could be taken."""


class SignedDecision(Answer, frozen=True, kw_only=True):
    """What proves a decision to anybody who knows the key of the arbiter's seat."""

    statement: str
    key: str
    signature: str
    reason_salt: str | None
    """Null once the case's key is shredded; sha256 of salt and reason is the `reason_sha256` of the statement."""


class DisputeLine(Answer, frozen=True, kw_only=True):
    """One line of an arbiter's list."""

    case_id: str
    escrow_id: str
    order_id: str
    buyer_id: str
    vendor_id: str
    amount: int
    state: str
    status: str
    opened_by: str
    opened_at: str
    touched_at: str
    """The last act of any of the three in it."""
    escalated_at: str | None
    decided_at: str | None
    """Null before the decision; the status is `under_review` until the decision is paid."""


class DisputePage(Answer, frozen=True, kw_only=True):
    """An arbiter's cases, newest first; `next` asks for those after them."""

    cases: tuple[DisputeLine, ...]
    next: str | None
    cursor: str


class DisputeCase(Answer, frozen=True, kw_only=True):
    """A case with both claims; a text is null while there is none, or when its key is shredded."""

    case_id: str
    escrow_id: str
    order_id: str
    buyer_id: str
    vendor_id: str
    arbiter_id: str
    amount: int
    state: str
    status: str
    opened_by: str
    opened_at: str
    touched_at: str
    escalated_at: str | None
    buyer_claim: str | None
    vendor_claim: str | None
    decision: str | None
    buyer_share_bp: int | None
    reason: str | None
    fee_atomic: int
    decided_at: str | None
    signed: SignedDecision | None
    """Null before the decision, and of one taken before decisions were signed."""
    winner_tx_hash: str | None
    arbiter_fee_tx_hash: str | None


class CaseMessage(Answer, frozen=True, kw_only=True):
    """One message of the conversation in a case; null once its key is shredded."""

    number: int
    sender_role: str
    at: str
    message: str | None
    reply_to: int | None
    """Number of the message it answers."""


class CasePhoto(Answer, frozen=True, kw_only=True):
    """One picture that a party laid before the arbiter; it is fetched from `…/photos/{photo_id}` of its case."""

    photo_id: str
    uploader_role: str
    at: str
    description: str | None
    """Null when its key is shredded, and the picture with it."""
    ipfs_hash: str
    """CIDv1 of the sealed bytes, in whichever store they lie."""
    sha256: str
    """Of the picture as it is served."""
    media_type: str
    size: int
    width: int
    height: int
    shown: dict[str, str | None]
    """When each of the three was first shown it, by role."""


class DraftPrepared(Answer, frozen=True, kw_only=True):
    """The draft is kept, for the arbiter and the assistants alone; `status` is `draft_prepared`."""

    case_id: str
    status: str
    number: int


class CaseDraft(Answer, frozen=True, kw_only=True):
    """One draft; null once the case's key is shredded."""

    number: int
    by: str
    at: str
    draft: str | None


class CaseDrafts(Answer, frozen=True, kw_only=True):
    """All drafts of a case, in order."""

    case_id: str
    drafts: tuple[CaseDraft, ...]


class CaseShown(Answer, frozen=True, kw_only=True):
    """Everything the three of a case may see of it: messages in order, so many at once."""

    case: DisputeCase
    messages: tuple[CaseMessage, ...]
    messages_next: int | None
    """Passed as `after_message`, it asks for those that follow; null at the end."""
    photos: tuple[CasePhoto, ...]
    cursor: str
