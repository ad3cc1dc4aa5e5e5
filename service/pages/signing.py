"""What an arbiter that holds its own key signs before its decision is taken: shown to it, and asked of it."""

import hashlib
import re

import msgspec

from domain.decision import statement_bytes
from domain.roles import Role
from domain.states import Escrow
from schemas.requests import ResolveDispute
from service.api.disputes import meant_by
from service.decisions import signs_itself
from service.problems import Refusal

SIGNATURE = "signature"
"""Field of a decision; people paste it with blanks and line ends around it."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that waits for its signature."""

    statement: str
    sha256: str
    """Of the statement's bytes, hex."""
    salt: str
    """Of the reason: it goes with the form, so that the same statement is made of it again."""
    key: str
    """Public, of the arbiter's seat; hex."""
    typed: str
    """What was given as the signature, as it was typed."""


def asked_to_sign(state: Escrow, body: ResolveDispute, *, typed: str) -> Asked | None:
    """Makes what the arbiter signs for a decision; None where the service signs."""
    if not signs_itself(state):
        return None
    meant = meant_by(body)
    said = statement_bytes(meant.statement(state))
    return Asked(
        statement=said.decode(),
        sha256=hashlib.sha256(said).hexdigest(),
        salt=meant.salt,
        key=state.core.seats[Role.ARBITER].identity_key,
        typed=typed,
    )


def read_signature(typed: str) -> str:
    """Reads a signature as people paste it; raises `Refusal` for what is no 128 hex digits."""
    text = "".join(typed.split()).lower()
    if not re.fullmatch("[0-9a-f]{128}", text):
        raise Refusal("signature_invalid", detail="Expected its 128 hex digits", facts={"path": SIGNATURE})
    return text
