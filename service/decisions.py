"""Decisions are signed: by the arbiter's own program, or with the identity key of a seat that is hosted here."""

import secrets

import msgspec

from actors.identity import Identity, verified
from actors.sealed import EscrowSecrets
from domain.decision import Statement, reason_digest, statement, statement_bytes
from domain.event import Signed, Verdict
from domain.roles import Role, SeatKind
from domain.states import Escrow
from eventstore.api import Vault
from service.problems import Refusal

SALT_BYTES = 16


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What an arbiter decides, before it is signed."""

    verdict: Verdict
    buyer_share_bp: int | None
    reason: str
    salt: str
    """Of the reason's digest, hex."""

    def statement(self, state: Escrow) -> Statement:
        """Says it of one case."""
        assert state.core.case is not None
        return statement(
            state.core.terms,
            case_id=state.core.case.case_id,
            verdict=self.verdict,
            buyer_share_bp=self.buyer_share_bp,
            reason_digest=reason_digest(self.reason, salt=self.salt),
        )


def new_salt() -> str:
    """Draws the salt of a reason's digest."""
    return secrets.token_hex(SALT_BYTES)


def signs_itself(state: Escrow) -> bool:
    """Says whether the arbiter holds the key of its seat, so that nobody here can sign for it."""
    return state.core.terms.seats[Role.ARBITER] is not SeatKind.POOL


async def sign_decision(vault: Vault, state: Escrow, decision: Decision, *, signature: str | None) -> Signed:
    """Checks the signature that came with a decision, or makes it where the arbiter's seat is hosted here.

    Raises `Refusal`: `signature_required` where the arbiter holds its own key, `signature_invalid` for one that is not
    this seat's over this very decision.
    """
    seat, said = state.core.seats[Role.ARBITER], decision.statement(state)
    if signature is None:
        if signs_itself(state):
            raise Refusal("signature_required")
        wallet = await EscrowSecrets(vault, state.core.terms.escrow_id).wallet(state, Role.ARBITER)
        signature = Identity(bytes.fromhex(wallet.identity_seed)).sign(statement_bytes(said))
    # One that we made is checked as well: a key that does not fit its seat proves nothing to anybody.
    if not verified(seat.identity_key, statement_bytes(said), signature=signature):
        raise Refusal("signature_invalid")
    return Signed(key=seat.identity_key, signature=signature, reason_digest=said.reason_sha256)


def decision_holds(state: Escrow) -> bool:
    """Says whether the decision of a case is signed by the key of the arbiter's seat, over what the case says."""
    case = state.core.case
    if case is None or case.verdict is None or case.signed is None:
        return False
    said = statement(
        state.core.terms,
        case_id=case.case_id,
        verdict=case.verdict,
        buyer_share_bp=case.buyer_share_bp,
        reason_digest=case.signed.reason_digest,
    )
    right = said.fee_atomic == case.fee_atomic and state.core.seats[Role.ARBITER].identity_key == case.signed.key
    return right and verified(case.signed.key, statement_bytes(said), signature=case.signed.signature)
