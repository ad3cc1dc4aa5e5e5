"""What an arbiter signs when it decides: one statement that says everything a party must be able to hold it to."""

import hashlib
from typing import Annotated

import msgspec

from domain.events import Verdict
from domain.ids import CaseId, EscrowId, OrderId, UserId
from domain.money import ATOMIC_MAX, Atomic
from domain.payout import BP_ALL
from domain.terms import Terms, arbiter_fee

HEADER = b"thirdkey decision 1\n"
"""Sets a decision apart from all else that an identity key signs; its number is the format's version."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision, in words of its own: nothing that it says has to be looked up anywhere."""

    escrow_id: EscrowId
    order_id: OrderId
    case_id: CaseId
    buyer_id: UserId
    vendor_id: UserId
    arbiter_id: UserId
    terms_sha256: Sha256
    decision: Verdict
    buyer_share_bp: int | None
    """Of a split, in basis points."""
    fee_atomic: Atomic
    reason_sha256: Sha256
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


def read_statement(content: bytes) -> Statement | None:
    """Reads what `statement_bytes` wrote; None for anything else, differed it by one byte."""
    if not content.startswith(HEADER):
        return None
    try:
        said = msgspec.json.decode(content.removeprefix(HEADER), type=Statement)
        # Written again it is the same: no key twice, no blank, no second way to write a character.
        return said if _is_a_decision(said) and statement_bytes(said) == content else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _is_a_decision(said: Statement) -> bool:
    divides = said.buyer_share_bp is not None and 0 <= said.buyer_share_bp <= BP_ALL
    shared = divides if said.decision is Verdict.SPLIT else said.buyer_share_bp is None
    return shared and 0 <= said.fee_atomic <= ATOMIC_MAX


def reason_digest(reason: str, *, salt: str) -> str:
    """Hashes a reason (sha256, hex) behind its salt.

    The digest stays in the log for ever, the reason does not: without the salt, which is shredded with it, a short
    reason could be guessed.
    """
    return hashlib.sha256(f"{salt}{reason}".encode()).hexdigest()
