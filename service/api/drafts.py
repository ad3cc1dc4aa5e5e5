"""Routes of drafts: an arbiter and its assistants prepare a case together, out of the parties' sight."""

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain.arbiters import DraftPrepared
from eventstore.api import SealBroken
from schemas import case_answers as k
from schemas import requests as r
from schemas.answers import moment
from schemas.sealing import SealedKind
from service.api.door import Keyed, answer_json, caller_of, claim_key, commanded, house_of, now
from service.api.whose_case import case_prepared
from service.auth import Caller
from service.drafts import drafts_of, prepare

PREPARED = "draft_prepared"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.post("/api/disputes/drafts", commanded(r.PrepareDraft, prepare_draft)),
        web.get("/api/disputes/{case_id}/drafts", list_drafts),
    ]


async def prepare_draft(request: web.Request, body: r.PrepareDraft, caller: Caller, by: Keyed) -> k.DraftPrepared:
    """Keeps what the arbiter or an assistant wrote down; it is sent to nobody."""
    terms = (await case_prepared(request, body.case_id, caller)).core.terms
    await claim_key(request, by)
    log, vault = house_of(request).store.log, house_of(request).store.vault
    sealing = EscrowSecrets(vault, terms.escrow_id)
    draft = DraftPrepared(
        at=now(request),
        escrow_id=terms.escrow_id,
        by=caller.user,
        draft=await sealing.seal(SealedKind.DRAFT, caller.user, body.draft),
    )
    number = await prepare(log, draft, arbiter=terms.arbiter_id, command_id=by.command_id, body_hash=by.body_hash)
    return k.DraftPrepared(case_id=body.case_id, status=PREPARED, number=number)


async def list_drafts(request: web.Request) -> web.Response:
    """Shows all drafts of a case."""
    return answer_json(await drafts_shown(request, request.match_info["case_id"], caller_of(request)))


async def drafts_shown(request: web.Request, case_id: str, caller: Caller) -> k.CaseDrafts:
    """Reads all drafts of a case for its arbiter and the assistants; to the parties there are none."""
    escrow_id = (await case_prepared(request, case_id, caller)).core.terms.escrow_id
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
