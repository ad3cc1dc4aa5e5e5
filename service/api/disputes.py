"""Routes of disputes: a party opens a case, its arbiter decides it, and the three of it look at it."""

import re

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.ids import CaseId, EscrowId
from domain.roles import Role
from projections.api import Place
from projections.rows import DisputeRow, PhotoRow
from schemas import requests as r
from schemas.answers import CasePhoto, CaseShown, DisputeDecided, DisputeOpened, DisputePage
from schemas.cursor import encode_cursor
from schemas.sealing import SealedKind
from service.api import views
from service.api.asking import check_query, limit_of, open_text, own_writes
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
from service.auth import Caller
from service.problems import Refusal

DECIDED = "decided"
MODEL = "disputes"
PHOTOS = "photos"
_CASE_ID = re.compile(r.CASE_ID)


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.post("/api/disputes/open", open_dispute),
        web.post("/api/disputes/resolve", resolve_dispute),
        web.get("/api/disputes/arbiter", list_cases),
        web.get("/api/disputes/{case_id}", show_case),
    ]


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


# -- showing -------------------------------------------------------------------------------------------------


async def list_cases(request: web.Request) -> web.Response:
    """Lists the cases in which the caller is the arbiter and that are neither resolved nor closed, newest first."""
    caller = caller_of(request)
    check_query(request, dict.fromkeys(("limit", "after", "seen")))
    models, most = house_of(request).models, limit_of(request)
    await own_writes(request, MODEL)
    positions = models.positions(MODEL)  # read first: the rows may only be further
    found = await models.rows.cases_of(caller.user, after=await _after(request, caller), limit=most + 1)
    shown = DisputePage(
        cases=tuple(views.dispute_line(row) for row in found[:most]),
        next=found[most - 1].case_id if len(found) > most else None,
        cursor=encode_cursor(positions),
    )
    return answer_json(shown)


async def show_case(request: web.Request) -> web.Response:
    """Shows a case to its three; to everybody else, administrators too, it does not exist."""
    caller = caller_of(request)
    check_query(request, dict.fromkeys(("seen",)))
    models = house_of(request).models
    await own_writes(request, MODEL)
    await own_writes(request, PHOTOS)
    positions = models.positions(MODEL)
    row = await _case(request, request.match_info["case_id"])
    if row is None or caller.user not in (row.buyer_id, row.vendor_id, row.arbiter_id):
        raise Refusal("no_such_case")
    case = views.dispute(row, await _opened(request, row))
    return answer_json(
        CaseShown(case=case, messages=(), photos=await _photos(request, row), cursor=encode_cursor(positions))
    )


async def _after(request: web.Request, caller: Caller) -> Place | None:
    after = request.query.get("after")
    if after is None:
        return None
    row = await _case(request, after)
    if row is None or row.arbiter_id != caller.user:
        raise Refusal("cursor_invalid", facts={"path": "after"})
    return Place(row.opened_at, row.case_id)


async def _case(request: web.Request, case_id: str) -> DisputeRow | None:
    if not _CASE_ID.match(case_id):
        return None
    return await house_of(request).models.rows.case(CaseId(case_id))


async def _opened(request: web.Request, row: DisputeRow) -> views.OpenedCase:
    sealing = EscrowSecrets(house_of(request).store.vault, row.escrow_id)
    claims = {
        Role.BUYER: await open_text(sealing, SealedKind.CLAIM, Role.BUYER, row.buyer_claim),
        Role.VENDOR: await open_text(sealing, SealedKind.CLAIM, Role.VENDOR, row.vendor_claim),
    }
    reason = await open_text(sealing, SealedKind.DECISION_REASON, Role.ARBITER, row.reason)
    return views.OpenedCase(claims=claims, reason=reason)


async def _photos(request: web.Request, row: DisputeRow) -> tuple[CasePhoto, ...]:
    sealing = EscrowSecrets(house_of(request).store.vault, row.escrow_id)
    found = await house_of(request).models.rows.photos(row.escrow_id)
    return tuple([views.photo(each, description=await _description(sealing, each)) for each in found])


async def _description(sealing: EscrowSecrets, row: PhotoRow) -> str | None:
    return await open_text(sealing, SealedKind.PICTURE_DESCRIPTION, row.photo_id, row.description)
