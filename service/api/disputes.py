"""Routes of disputes: a party opens a case, its arbiter decides it."""

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.ids import CaseId, EscrowId
from domain.roles import Role
from schemas import requests as r
from schemas.answers import DisputeDecided, DisputeOpened
from schemas.sealing import SealedKind
from service.api.door import (
    answer_json,
    body_of,
    caller_of,
    claim_key,
    cursor_of,
    follow,
    house_of,
    keyed,
    now,
    role_in,
    seen,
)
from service.problems import Refusal

DECIDED = "decided"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.post("/api/disputes/open", open_dispute), web.post("/api/disputes/resolve", resolve_dispute)]


def case_id_of(escrow_id: EscrowId) -> CaseId:
    """Names the one case an escrow can have, so that it is found without an index."""
    return CaseId(f"case_{escrow_id.removeprefix('esc_')}")


def escrow_id_of_case(case_id: CaseId) -> EscrowId:
    """Names the escrow of a case."""
    return EscrowId(f"esc_{case_id.removeprefix('case_')}")


async def open_dispute(request: web.Request) -> web.Response:
    """Opens the case of an escrow with the caller's claim."""
    caller = caller_of(request)
    body = await body_of(request, r.OpenDispute)
    state = await seen(request, body.escrow_id, caller)
    terms, role = state.core.terms, role_in(state, caller)
    if role is None:
        raise Refusal("not_a_party")
    by = keyed(request, caller, body)
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
    opened = DisputeOpened(
        case_id=case_id,
        arbiter_id=terms.arbiter_id,
        escrow_id=terms.escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )
    return answer_json(opened)


async def resolve_dispute(request: web.Request) -> web.Response:
    """Takes the arbiter's decision, for good; what is paid for it is shown with the escrow."""
    caller = caller_of(request)
    body = await body_of(request, r.ResolveDispute)
    case_id = CaseId(body.case_id)
    try:
        state = await seen(request, escrow_id_of_case(case_id), caller)
    except Refusal:
        raise Refusal("no_such_case") from None
    if state.core.case is None:
        raise Refusal("no_such_case")
    terms = state.core.terms
    by = keyed(request, caller, body)
    await claim_key(request, by)
    sealing = EscrowSecrets(house_of(request).store.vault, terms.escrow_id)
    command = c.ResolveDispute(
        at=now(request),
        by=caller.user,
        verdict=body.decision,
        buyer_share_bp=body.buyer_share_bp,
        reason=await sealing.seal(SealedKind.DECISION_REASON, Role.ARBITER.value, body.reason),
    )
    answer = await follow(request, terms.escrow_id, command, caller=caller, by=by)
    decided = DisputeDecided(
        case_id=case_id,
        status=DECIDED,
        winner_tx_hash=None,
        arbiter_fee_tx_hash=None,
        escrow_id=terms.escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )
    return answer_json(decided)
