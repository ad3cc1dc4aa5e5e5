"""The pages of a case: an arbiter's list, and one page for each of the three, drawn from what the API answers."""

import asyncio
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from aiohttp import web

from domain.roles import PARTIES, Role
from domain.states import CaseStatus, Escrow
from projections.api import EscrowQuery
from projections.rows import EscrowRow
from schemas.problems import Problem
from service.api import views
from service.api.asking import check_query, own_writes
from service.api.cases import MODEL, case_shown, cases_listed
from service.api.door import house_of, now, role_in
from service.api.drafts import drafts_shown
from service.api.escrows import history_of
from service.api.whose_case import case_id_of, case_read
from service.auth import Caller
from service.pages.door import page, person_in, see_other, shown
from service.pages.moves import Moves
from service.pages.payouts import NETWORK_FEE_NOTE, payout_shown, previews, waiting
from service.pages.timeline import timeline
from service.problems import Refusal

MOVES = web.AppKey("moves", Moves)
FILTERS = {
    "": "Not over",
    "all": "All",
    "open": "Open",
    "under_review": "Under review",
    "resolved": "Resolved",
}
"""What a list shows, by the status that is asked for."""
PAGE_MAX = 50
"""Cases on a page of the list."""
MESSAGES_MAX = 300
"""Messages on a page: as many as the three may write in one case."""
ASSISTANT = "assistant"
"""Of the arbiter: reads, and does nothing."""
VERSION_DIGITS_MAX = 9
OWN_MAX = 30
"""Escrows on the page of one's own."""
DISPUTABLE = ("awaiting_funding", "funded", "delivering", "releasing", "refunding")
"""States in which a dispute may perhaps be opened; the rules decide."""
NO_DRAFT: Mapping[str, str] = dict.fromkeys(
    ("claim", "message", "reason", "share", "decision", "description", "draft"), ""
)


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.get("/arbiter/disputes", page(show_disputes), allow_head=False),
        web.get("/arbiter/disputes/{case_id}", page(show_case), allow_head=False),
        web.get("/cases", page(show_own), allow_head=False),
        web.get("/cases/{case_id}", page(show_case), allow_head=False),
    ]


# -- one case ------------------------------------------------------------------------------------------------


async def show_case(request: web.Request) -> web.StreamResponse:
    """Shows a case to one of its three, at the address of their role; with `moved`, once it has moved past that."""
    state = await case_state(request)
    path = path_of(request, state)
    if path != request.path:
        return see_other(path)
    after = _moved(request)
    if after is not None:
        state = await _moved_state(request, state, after=after)
        if state.core.version <= after:
            return web.Response(status=204)
    return await case_page(request, state)


async def case_state(request: web.Request) -> Escrow:
    """Returns the escrow of the case in the path; to all who may not read it through the API there is none."""
    return await case_read(request, request.match_info["case_id"], person_in(request))


def path_of(request: web.Request, state: Escrow) -> str:
    """Names the page of a case for whoever looks at it: the arbiter's assistants see what the arbiter sees."""
    base = "/cases" if role_in(state, person_in(request)) in PARTIES else "/arbiter/disputes"
    return f"{base}/{case_id_of(state.core.terms.escrow_id)}"


async def case_page(
    request: web.Request, state: Escrow, *, problem: Problem | None = None, draft: Mapping[str, str] = NO_DRAFT
) -> web.Response:
    """Draws the page of a case; after a refusal with the problem, and with what its sender had written."""
    caller, terms = person_in(request), state.core.terms
    role = role_in(state, caller)
    assert state.core.case is not None
    path, prepares = path_of(request, state), role not in PARTIES
    case_id = case_id_of(terms.escrow_id)
    drafts = (await drafts_shown(request, case_id, caller)).drafts if prepares else ()
    seen = await case_shown(request, case_id, caller, after=0, most=MESSAGES_MAX)
    history = await history_of(request, state)
    facts = views.escrow(state, cursor="", history=(), opened=None)
    people = {Role.BUYER: terms.buyer_id, Role.VENDOR: terms.vendor_id, Role.ARBITER: terms.arbiter_id}
    return shown(
        request,
        "case.html",
        status=problem.status if problem else 200,
        **({"problem": problem} if problem else {}),
        case=seen.case,
        messages=seen.messages,
        photos=seen.photos,
        prepares=prepares,
        drafts=drafts,
        people=people,
        role=role.value if role else ASSISTANT,
        given={side.value: side in state.core.case.claims for side in Role},
        may=_may(state, role),
        draft=dict(NO_DRAFT) | dict(draft),
        previews=previews(state, at=now(request)) if state.core.case.undecided else (),
        preview_note=NETWORK_FEE_NOTE,
        payout=payout_shown(state, facts),
        waiting=waiting(facts, role=role),
        timeline=list(timeline(history)),
        version=state.core.version,
        path=path,
        back=path.rpartition("/")[0] + (f"?arbiter_id={quote(terms.arbiter_id)}" if role is None else ""),
    )


def _may(state: Escrow, role: Role | None) -> dict[str, bool]:
    """Says which forms are offered; whether they are followed is decided by the rules alone."""
    case = state.core.case
    assert case is not None
    undecided, arbiter, party = case.undecided, role is Role.ARBITER, role in PARTIES
    return {
        "upload": undecided and party,
        "answer": undecided and party and role not in case.claims,
        "say": role is not None and not case.over,
        "review": arbiter and case.status is CaseStatus.OPEN,
        "decide": arbiter and undecided,
    }


# -- when it moves -------------------------------------------------------------------------------------------


def _moved(request: web.Request) -> int | None:
    text = request.query.get("moved")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > VERSION_DIGITS_MAX:
        raise Refusal("validation", detail="Expected a version", facts={"path": "moved"})
    return int(text)


async def _moved_state(request: web.Request, state: Escrow, *, after: int) -> Escrow:
    """Returns how an escrow stands once it has passed a version, or when the wait for that is over."""
    escrow_id, seconds = state.core.terms.escrow_id, house_of(request).settings.page_wait_s
    with request.app[MOVES].listening(escrow_id) as moved:
        # Looked at again: it may have moved between the first look and the listening.
        state = await case_state(request)
        if moved is None or state.core.version > after:
            return state
        try:
            async with asyncio.timeout(seconds):
                await moved.wait()
        except TimeoutError:
            return state
    return await case_state(request)


# -- lists ---------------------------------------------------------------------------------------------------


async def show_disputes(request: web.Request) -> web.StreamResponse:
    """Lists an arbiter's cases, newest first: the reader's own, or those of whom they assist."""
    check_query(request, {**dict.fromkeys(("q", "after", "arbiter_id", "moved")), "status": frozenset(FILTERS) - {""}})
    query = {field: value for field, value in request.query.items() if field != "moved"}
    listed = await cases_listed(request, person_in(request), most=PAGE_MAX)
    kept = {field: query[field] for field in ("status", "arbiter_id") if field in query}
    return shown(
        request,
        "disputes.html",
        cases=listed.cases,
        filters=[
            (name, _asking(request, {**query, "status": status, "after": ""})) for status, name in FILTERS.items()
        ],
        chosen=FILTERS[query.get("status", "")],
        searched=query.get("q", ""),
        kept=kept,
        next=_asking(request, {**query, "after": listed.next}) if listed.next else None,
    )


def _asking(request: web.Request, query: Mapping[str, str]) -> str:
    asked = {field: value for field, value in query.items() if value}
    return f"{request.path}?{urlencode(asked)}" if asked else request.path


async def show_own(request: web.Request) -> web.StreamResponse:
    """Lists somebody's newest escrows, with the case of each, or a way to open one."""
    caller, rows = person_in(request), house_of(request).models.rows
    await own_writes(request, "escrows")
    await own_writes(request, MODEL)
    found = await rows.escrow_page(EscrowQuery(user=caller.user, limit=OWN_MAX))
    cases = [await rows.case(case_id_of(each.escrow_id)) for each in found]
    lines = [
        {"escrow": views.summary(row), "case": case and views.dispute_line(case), "path": _own_path(row, caller)}
        for row, case in zip(found, cases, strict=True)
    ]
    return shown(request, "own.html", lines=lines, disputable=DISPUTABLE)


def _own_path(row: EscrowRow, caller: Caller) -> str:
    base = "/arbiter/disputes" if row.arbiter_id == caller.user else "/cases"
    return f"{base}/{case_id_of(row.escrow_id)}"
