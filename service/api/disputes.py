"""Routes of disputes: a party opens a case, the three of it talk in it, its arbiter decides it."""

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain import commands as c
from domain import events as e
from domain.amounts import Amounts
from domain.commands import AnyCommand
from domain.decision import statement_bytes
from domain.ids import Micros, Sealed
from domain.money import Atomic
from domain.preview import preview
from domain.refusals import Refused
from domain.roles import Role
from domain.states import Escrow
from schemas import requests as r
from schemas.answers import moment
from schemas.case_answers import (
    CaseFollowed,
    DecidedAmounts,
    DecisionStated,
    DisputeDecided,
    DisputeOpened,
    MessageAdded,
)
from schemas.sealing import SealedKind
from service.api.door import (
    ARBITERS,
    Command,
    Keyed,
    answer_json,
    body_of,
    caller_of,
    claim_key,
    commanded,
    cursor_of,
    follow,
    house_of,
    now,
    own_event,
    role_in,
    seen,
)
from service.api.whose_case import case_commanded, case_id_of
from service.auth import Caller
from service.decisions import Decision, new_salt, sign_decision
from service.problems import Refusal

CLAIM_ADDED = "claim_added"
MESSAGE_ADDED = "message_added"
UNDER_REVIEW = "under_review"
DECIDED = "decided"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.post("/api/disputes/open", commanded(r.OpenDispute, open_dispute)),
        web.post("/api/disputes/buyer-response", commanded(r.AddClaim, answer_as(Role.BUYER))),
        web.post("/api/disputes/vendor-response", commanded(r.AddClaim, answer_as(Role.VENDOR))),
        web.post("/api/disputes/messages", commanded(r.AddMessage, add_message)),
        web.post("/api/disputes/review", commanded(r.ReviewDispute, review_dispute)),
        web.post("/api/disputes/statement", state_decision),
        web.post("/api/disputes/resolve", commanded(r.ResolveDispute, resolve_dispute)),
    ]


async def open_dispute(request: web.Request, body: r.OpenDispute, caller: Caller, by: Keyed) -> DisputeOpened:
    """Opens the case of an escrow with the caller's claim."""
    state = await seen(request, body.escrow_id, caller)
    terms, role = state.core.terms, role_in(state, caller)
    if role is None:
        raise Refusal("not_a_party")
    await claim_key(request, by)
    case_id = case_id_of(terms.escrow_id)
    sealing = EscrowSecrets(house_of(request).store.vault, terms.escrow_id)
    command = c.OpenDispute(
        at=now(request),
        by=caller.user,
        case_id=case_id,
        claim=await sealing.seal(SealedKind.CLAIM, role.value, body.claim),
    )
    answer = await follow(request, terms.escrow_id, command, caller=caller, by=by)
    return DisputeOpened(
        case_id=case_id,
        arbiter_id=terms.arbiter_id,
        escrow_id=terms.escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )


def answer_as(role: Role) -> Command[r.AddClaim]:
    """Makes the command by which one side answers the other's claim."""

    async def add_claim(request: web.Request, body: r.AddClaim, caller: Caller, by: Keyed) -> CaseFollowed:
        state = await case_commanded(request, body.case_id, caller)
        if role_in(state, caller) is not role:
            raise Refusal(f"not_the_{role.value}")
        await claim_key(request, by)
        claim = await _sealed(request, state, SealedKind.CLAIM, role, body.claim)
        command = c.AddClaim(at=now(request), by=caller.user, claim=claim)
        return await _case_followed(request, state, command, by=by, caller=caller, status=CLAIM_ADDED)

    return add_claim


async def review_dispute(request: web.Request, body: r.ReviewDispute, caller: Caller, by: Keyed) -> CaseFollowed:
    """Takes a case up; its arbiter's first message or decision does so too."""
    state = await case_commanded(request, body.case_id, caller)
    await claim_key(request, by)
    command = c.ReviewDispute(at=now(request), by=caller.user)
    return await _case_followed(request, state, command, by=by, caller=caller, status=UNDER_REVIEW)


async def add_message(request: web.Request, body: r.AddMessage, caller: Caller, by: Keyed) -> MessageAdded:
    """Takes a message of one of the three, perhaps in answer to an earlier one."""
    state = await case_commanded(request, body.case_id, caller)
    terms, role = state.core.terms, role_in(state, caller)
    if role is None:
        raise Refusal("not_of_the_case")
    await claim_key(request, by)
    text = await _sealed(request, state, SealedKind.MESSAGE, role, body.message)
    command = c.AddMessage(at=now(request), by=caller.user, message=text, reply_to=body.reply_to)
    answer = await follow(request, terms.escrow_id, command, caller=caller, by=by)
    said = await own_event(request, terms.escrow_id, answer, by=by, kind=e.DisputeMessageAdded)
    return MessageAdded(
        case_id=body.case_id,
        status=MESSAGE_ADDED,
        number=said.number,
        sender_role=role.value,
        at=moment(said.at),
        reply_to=said.reply_to,
        escrow_id=terms.escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )


async def state_decision(request: web.Request) -> web.Response:
    """Tells an arbiter what it would sign for a decision; nothing is decided by it."""
    caller = caller_of(request)
    body = await body_of(request, r.StateDecision)
    state = await case_commanded(request, body.case_id, caller)
    if role_in(state, caller) is not Role.ARBITER:
        raise Refusal("not_the_arbiter")
    meant = meant_by(body)
    said = meant.statement(state)
    stated = DecisionStated(
        case_id=body.case_id,
        statement=statement_bytes(said).decode(),
        reason_salt=meant.salt,
        fee_atomic=said.fee_atomic,
        amounts=_amounts(state, meant, at=now(request)),
    )
    return answer_json(stated)


def _amounts(state: Escrow, meant: Decision, *, at: Micros) -> DecidedAmounts | None:
    found = preview(state, verdict=meant.verdict, buyer_share_bp=meant.buyer_share_bp, at=at)
    if isinstance(found, Refused):
        return None
    return DecidedAmounts(buyer=found.buyer, vendor=found.vendor, arbiter=found.arbiter)


def meant_by(body: r.StateDecision) -> Decision:
    """Makes of a request the decision that is signed, with a salt of ours where it brings none."""
    return Decision(
        verdict=body.decision,
        buyer_share_bp=body.buyer_share_bp,
        reason=body.reason,
        salt=body.reason_salt or new_salt(),
    )


async def resolve_dispute(request: web.Request, body: r.ResolveDispute, caller: Caller, by: Keyed) -> DisputeDecided:
    """Takes the arbiter's signed decision, for good; what is paid for it is shown with the escrow."""
    state = await case_commanded(request, body.case_id, caller)
    escrow_id, meant = state.core.terms.escrow_id, meant_by(body)
    if role_in(state, caller) is not Role.ARBITER:
        raise Refusal("not_the_arbiter")  # nobody else has anything signed
    # Before the key is bound: whoever mends a signature may send it as the same request.
    signed = await sign_decision(house_of(request).store.vault, state, meant, signature=body.signature)
    await claim_key(request, by)
    await _no_conflict(request, state)
    command = c.ResolveDispute(
        at=now(request),
        by=caller.user,
        verdict=meant.verdict,
        buyer_share_bp=meant.buyer_share_bp,
        reason=await _sealed(request, state, SealedKind.DECISION_REASON, Role.ARBITER, meant.reason),
        reason_salt=await _sealed(request, state, SealedKind.REASON_SALT, Role.ARBITER, meant.salt),
        signed=signed,
        confirmed=_confirmed(body),
    )
    answer = await follow(request, escrow_id, command, caller=caller, by=by)
    return DisputeDecided(
        case_id=body.case_id,
        status=DECIDED,
        winner_tx_hash=None,
        arbiter_fee_tx_hash=None,
        escrow_id=escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )


def _confirmed(body: r.ResolveDispute) -> Amounts | None:
    told = body.amounts
    if told is None:
        return None
    return Amounts(buyer=Atomic(told.buyer), vendor=Atomic(told.vendor), arbiter=Atomic(told.arbiter))


async def _no_conflict(request: web.Request, state: Escrow) -> None:
    """Refuses a decision by an arbiter who is, or was found to be, no judge of one of the two.

    Not one that is taken already: repeated, it is answered as before.
    """
    if state.core.case is None or not state.core.case.undecided:
        return
    terms, roster = state.core.terms, await request.app[ARBITERS].roster()
    if roster.conflicted(terms.arbiter_id, (terms.buyer_id, terms.vendor_id)):
        raise Refusal("conflict_of_interest")


async def _sealed(request: web.Request, state: Escrow, kind: SealedKind, role: Role, text: str) -> Sealed:
    sealing = EscrowSecrets(house_of(request).store.vault, state.core.terms.escrow_id)
    return await sealing.seal(kind, role.value, text)


async def _case_followed(
    request: web.Request, state: Escrow, command: AnyCommand, *, by: Keyed, caller: Caller, status: str
) -> CaseFollowed:
    escrow_id = state.core.terms.escrow_id
    answer = await follow(request, escrow_id, command, caller=caller, by=by)
    return CaseFollowed(
        case_id=case_id_of(escrow_id),
        status=status,
        escrow_id=escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )
