"""Routes that show cases: an arbiter's list, and one case to its three and to its arbiter's assistants."""

import secrets

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain.arbiters import ArbiterSeen
from domain.ids import MICROS, CaseId, CommandId, UserId
from domain.roles import Role
from domain.states import CaseStatus
from projections.api import ALL_CASES, Place
from projections.rows import DisputeRow, MessageRow
from schemas.case_answers import CaseShown, DisputePage
from schemas.cursor import encode_cursor
from schemas.sealing import SealedKind
from service.api import views
from service.api.asking import check_query, limit_of, open_text, own_writes
from service.api.door import ARBITERS, answer_json, caller_of, house_of, now
from service.api.photo_list import PHOTOS, photos_of
from service.api.whose_case import assists, is_case_id, reads
from service.auth import Caller, Right
from service.problems import Refusal

MODEL, MESSAGES = "disputes", "messages"
NUMBER_DIGITS_MAX = 9
SEARCH_MAX = 128
"""Characters of what is looked for in names."""
STATUSES = frozenset({*CaseStatus, ALL_CASES})


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.get("/api/disputes/arbiter", list_cases), web.get("/api/disputes/{case_id}", show_case)]


async def list_cases(request: web.Request) -> web.Response:
    """Lists an arbiter's cases, newest first; without a `status` those that are neither resolved nor closed.

    Of the caller, or of the arbiter in `arbiter_id` whose assistant the caller is.
    """
    caller = caller_of(request)
    fields = ("arbiter_id", "older_than_s", "q", "limit", "after", "seen")
    check_query(request, {**dict.fromkeys(fields), "status": STATUSES})
    return answer_json(await cases_listed(request, caller, most=limit_of(request)))


async def cases_listed(request: web.Request, caller: Caller, *, most: int) -> DisputePage:
    """Reads a page of the list that a query asks for; raises `Refusal` for one that means nothing."""
    models = house_of(request).models
    arbiter = await _arbiter(request, caller)
    await _note_seen(request, caller)
    await own_writes(request, MODEL)
    positions = models.positions(MODEL)  # read first: the rows may only be further
    found = await models.rows.cases_of(
        arbiter,
        after=await _after(request, arbiter),
        limit=most + 1,
        status=request.query.get("status"),
        text=_searched(request),
    )
    return DisputePage(
        cases=tuple(views.dispute_line(row) for row in found[:most]),
        next=found[most - 1].case_id if len(found) > most else None,
        cursor=encode_cursor(positions),
    )


async def _arbiter(request: web.Request, caller: Caller) -> UserId:
    """Names whose cases are listed; to all but an arbiter's assistants nobody else has any."""
    named = UserId(request.query.get("arbiter_id", caller.user))
    if named != caller.user and not await assists(request, caller, named):
        raise Refusal("right_missing", facts={"right": Right.ASSISTANT.value})
    return named


async def _note_seen(request: web.Request, caller: Caller) -> None:
    """Takes an arbiter's look at the list for a sign of life, where one is asked for."""
    arbiters = request.app[ARBITERS]
    if house_of(request).settings.arbiter_ready_s and arbiters.is_one(caller.user):
        seen = ArbiterSeen(at=now(request), arbiter=caller.user)
        await arbiters.say(seen, by=caller.user, command_id=CommandId(secrets.token_hex(32)))


def _searched(request: web.Request) -> str | None:
    text = request.query.get("q")
    if text is not None and not 1 <= len(text) <= SEARCH_MAX:
        raise Refusal("validation", detail=f"Expected 1 to {SEARCH_MAX} characters", facts={"path": "q"})
    return text


async def show_case(request: web.Request) -> web.Response:
    """Shows a case to its three and its arbiter's assistants; to all others, administrators too, it does not exist."""
    caller = caller_of(request)
    check_query(request, dict.fromkeys(("after_message", "limit", "seen")))
    after, most = _number(request, "after_message") or 0, limit_of(request)
    return answer_json(await case_shown(request, request.match_info["case_id"], caller, after=after, most=most))


async def case_shown(request: web.Request, case_id: str, caller: Caller, *, after: int, most: int) -> CaseShown:
    """Reads a case with so many messages behind one; raises `Refusal` where the caller may not read it."""
    models = house_of(request).models
    await own_writes(request, MODEL, MESSAGES, PHOTOS)
    positions = models.positions(MESSAGES)
    row = await _case(request, case_id)
    if row is None or not await reads(request, row, caller):
        raise Refusal("no_such_case")
    said = await models.rows.messages(row.escrow_id, after=after, limit=most + 1)
    sealing = EscrowSecrets(house_of(request).store.vault, row.escrow_id)
    return CaseShown(
        case=views.dispute(row, await _opened(sealing, row)),
        messages=tuple([views.message(each, await _text(sealing, each)) for each in said[:most]]),
        messages_next=said[most - 1].number if len(said) > most else None,
        photos=await photos_of(request, row.escrow_id, sealing),
        cursor=encode_cursor(positions),
    )


def _number(request: web.Request, field: str) -> int | None:
    text = request.query.get(field)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > NUMBER_DIGITS_MAX:
        raise Refusal("validation", detail="Expected a whole number", facts={"path": field})
    return int(text)


async def _after(request: web.Request, arbiter: UserId) -> Place | None:
    """Reads where the page begins: behind a case, or at an age."""
    after = request.query.get("after")
    if after is None:
        aged_s = _number(request, "older_than_s")
        return None if aged_s is None else Place(now(request) - aged_s * MICROS, "")
    row = await _case(request, after)
    if row is None or row.arbiter_id != arbiter:
        raise Refusal("cursor_invalid", facts={"path": "after"})
    return Place(row.opened_at, row.case_id)


async def _case(request: web.Request, case_id: str) -> DisputeRow | None:
    if not is_case_id(case_id):
        return None
    return await house_of(request).models.rows.case(CaseId(case_id))


async def _text(sealing: EscrowSecrets, row: MessageRow) -> str | None:
    return await open_text(sealing, SealedKind.MESSAGE, row.by, row.message)


async def _opened(sealing: EscrowSecrets, row: DisputeRow) -> views.OpenedCase:
    claims = {
        Role.BUYER: await open_text(sealing, SealedKind.CLAIM, Role.BUYER, row.buyer_claim),
        Role.VENDOR: await open_text(sealing, SealedKind.CLAIM, Role.VENDOR, row.vendor_claim),
    }
    reason = await open_text(sealing, SealedKind.DECISION_REASON, Role.ARBITER, row.reason)
    salt = await open_text(sealing, SealedKind.REASON_SALT, Role.ARBITER, row.reason_salt)
    return views.OpenedCase(claims=claims, reason=reason, reason_salt=salt)
