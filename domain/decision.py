"""What an arbiter signs when it decides: one statement that says everything a party must be able to hold it to."""

import hashlib

import msgspec

from domain.events import Verdict
from domain.ids import CaseId, EscrowId, OrderId, UserId
from domain.money import Atomic
from domain.terms import Terms, arbiter_fee

HEADER = b"thirdkey decision 1\n"
"""Sets a decision apart from all else that an identity key signs; its number is the format's version."""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, in words of its own: nothing that it says has to be looked up anywhere."""

    escrow_id: EscrowId
    order_id: OrderId
    case_id: CaseId
    buyer_id: UserId
    vendor_id: UserId
    arbiter_id: UserId
    terms_sha256: str
    decision: Verdict
    buyer_share_bp: int | None
    """Of a split, in basis points."""
    fee_atomic: Atomic
    reason_sha256: str
    """Of salt and reason."""


def statement(
    terms: Terms, *, case_id: CaseId, verdict: Verdict, buyer_share_bp: int | None, reason_digest: str
) -> Statement:
    """Makes the statement of a decision; the fee follows from the terms."""
    return Statement(
        escrow_id=terms.escrow_id,
        order_id=terms.order_id,
        case_id=case_id,
        buyer_id=terms.buyer_id,
        vendor_id=terms.vendor_id,
        arbiter_id=terms.arbiter_id,
        terms_sha256=terms.digest(),
        decision=verdict,
        buyer_share_bp=buyer_share_bp,
        fee_atomic=arbiter_fee(terms),
        reason_sha256=reason_digest,
    )


def statement_bytes(said: Statement) -> bytes:
    """Writes a statement as it is signed: a header line, then JSON with its keys in order and no space."""
    return HEADER + msgspec.json.encode(said, order="deterministic")


def reason_digest(reason: str, *, salt: str) -> str:
    """Hashes a reason (sha256, hex) behind its salt.

    The digest stays in the log for ever, the reason does not: without the salt, which is shredded with it, a short
    reason could be guessed.
    """
    return hashlib.sha256(f"{salt}{reason}".encode()).hexdigest()
