"""Routes of drafts: an arbiter and its assistants prepare a case together, out of the parties' sight."""

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain.arbiters import DraftPrepared
from domain.ids import CaseId, EscrowId
from domain.roles import PARTIES
from domain.states import Escrow
from eventstore.api import SealBroken
from schemas import case_answers as k
from schemas import requests as r
from schemas.answers import moment
from schemas.sealing import SealedKind
from service.api.cases import assists, is_case_id
from service.api.disputes import escrow_id_of_case
from service.api.door import Keyed, answer_json, caller_of, claim_key, commanded, house_of, now, role_in
from service.auth import Caller
from service.drafts import drafts_of, prepare
from service.problems import Refusal

PREPARED = "draft_prepared"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.post("/api/disputes/drafts", commanded(r.PrepareDraft, prepare_draft)),
        web.get("/api/disputes/{case_id}/drafts", list_drafts),
    ]


async def prepare_draft(request: web.Request, body: r.PrepareDraft, caller: Caller, by: Keyed) -> k.DraftPrepared:
    """Keeps what the arbiter or an assistant wrote down; it is sent to nobody."""
    escrow_id = await _prepared_by(request, body.case_id, caller)
    await claim_key(request, by)
    sealing = EscrowSecrets(house_of(request).store.vault, escrow_id)
    draft = DraftPrepared(
        at=now(request),
        escrow_id=escrow_id,
        by=caller.user,
        draft=await sealing.seal(SealedKind.DRAFT, caller.user, body.draft),
    )
    number = await prepare(house_of(request).store.log, draft, command_id=by.command_id, body_hash=by.body_hash)
    return k.DraftPrepared(case_id=body.case_id, status=PREPARED, number=number)


async def list_drafts(request: web.Request) -> web.Response:
    """Shows all drafts of a case."""
    return answer_json(await drafts_shown(request, request.match_info["case_id"], caller_of(request)))


async def drafts_shown(request: web.Request, case_id: str, caller: Caller) -> k.CaseDrafts:
    """Reads all drafts of a case for its arbiter and the assistants; to the parties there are none."""
    escrow_id = await _prepared_by(request, case_id, caller)
    sealing = EscrowSecrets(house_of(request).store.vault, escrow_id)
    there = await drafts_of(house_of(request).store.log, escrow_id)
    shown = tuple(
        [
            k.CaseDraft(number=number, by=each.by, at=moment(each.at), draft=await _text(sealing, each))
            for number, each in enumerate(there, start=1)
        ]
    )
    return k.CaseDrafts(case_id=case_id, drafts=shown)


async def _text(sealing: EscrowSecrets, draft: DraftPrepared) -> str | None:
    try:
        return await sealing.open(SealedKind.DRAFT, draft.by, draft.draft)
    except SealBroken:
        return None


async def _prepared_by(request: web.Request, case_id: str, caller: Caller) -> EscrowId:
    """Names the escrow of a case that the caller judges or assists in; to all others there is no such case."""
    state = await _state(request, case_id)
    if state is None or state.core.case is None:
        raise Refusal("no_such_case")
    role = role_in(state, caller)
    # A party of this case may assist its arbiter in others: here it is a party.
    if role in PARTIES or (role is None and not await assists(request, caller, state.core.terms.arbiter_id)):
        raise Refusal("no_such_case")
    return state.core.terms.escrow_id


async def _state(request: web.Request, case_id: str) -> Escrow | None:
    if not is_case_id(case_id):
        return None
    return await house_of(request).desk.state(escrow_id_of_case(CaseId(case_id)))
