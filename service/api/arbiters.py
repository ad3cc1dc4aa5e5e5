"""Routes of arbiters about themselves: signs of life, holidays, conflicts, assistants; and what all may know."""

from aiohttp import web

from domain import arbiters as d
from domain.ids import UserId
from schemas import requests as r
from schemas.answers import micros, moment
from schemas.arbiter_answers import ArbiterLine, ArbiterList, ArbiterSaid, ChainLine
from service.api.door import ARBITERS, Keyed, admin_of, answer_json, body_of, caller_of, house_of, keyed, now
from service.auth import Caller, Right
from service.problems import Refusal, refuse

AT = "/api/arbiters"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.get(AT, show),
        web.post(f"{AT}/heartbeat", heartbeat),
        web.post(f"{AT}/holiday", holiday),
        web.post(f"{AT}/conflicts", declare_conflict),
        web.post(f"{AT}/conflicts/withdraw", withdraw_conflict),
        web.post(f"{AT}/assistants", name_assistant),
    ]


async def show(request: web.Request) -> web.Response:
    """Lists the arbiters, who is away until when, and the chains of secrets that draws are made with."""
    caller_of(request)
    settings, at = house_of(request).settings, now(request)
    arbiters = request.app[ARBITERS]
    roster, draws = await arbiters.roster(), await arbiters.draws()
    lines = []
    for each in settings.arbiters:
        away = roster.away.get(each.user_id)
        gone = away if away is not None and away.until > at else None
        line = ArbiterLine(
            arbiter_id=each.user_id,
            away_until=moment(gone.until) if gone else None,
            delegate=gone.delegate if gone else None,
        )
        lines.append(line)
    chains = tuple(
        ChainLine(chain=number, anchor=each.anchor, links_taken=each.taken)
        for number, each in enumerate(draws.chains, start=1)
    )
    return answer_json(ArbiterList(mode=settings.arbiter_mode, arbiters=tuple(lines), chains=chains))


async def heartbeat(request: web.Request) -> web.Response:
    """Shows that an arbiter is there."""
    caller = _arbiter(request)
    body = await body_of(request, r.Nothing)
    event = d.ArbiterSeen(at=now(request), arbiter=caller.user)
    return await _said(request, event, by=keyed(request, caller, body), caller=caller)


async def holiday(request: web.Request) -> web.Response:
    """Takes an arbiter out of what is created until a moment, and names who stands in; null ends it."""
    caller = _arbiter(request)
    body = await body_of(request, r.Holiday)
    if body.delegate is not None and not request.app[ARBITERS].is_one(UserId(body.delegate)):
        raise Refusal("delegate_unknown", facts={"path": "delegate"})
    event = d.ArbiterAway(
        at=now(request),
        arbiter=caller.user,
        until=None if body.until is None else micros(body.until),
        delegate=None if body.delegate is None or body.until is None else UserId(body.delegate),
    )
    return await _said(request, event, by=keyed(request, caller, body), caller=caller)


async def declare_conflict(request: web.Request) -> web.Response:
    """Declares that an arbiter is no judge of a party's: itself, or an administrator about any."""
    caller = caller_of(request)
    body = await body_of(request, r.Conflict)
    arbiter = UserId(body.arbiter_id or caller.user)
    if arbiter != caller.user and Right.ADMIN not in caller.rights:
        raise Refusal("right_missing", facts={"right": Right.ADMIN.value})
    if arbiter == caller.user:
        _arbiter(request)
    event = d.ConflictDeclared(at=now(request), arbiter=arbiter, party=UserId(body.party), by=caller.user)
    return await _said(request, event, by=keyed(request, caller, body), caller=caller)


async def withdraw_conflict(request: web.Request) -> web.Response:
    """Takes a conflict back; by an administrator, so that nobody declares itself free again."""
    caller = admin_of(request)
    body = await body_of(request, r.ConflictWithdrawal)
    event = d.ConflictWithdrawn(
        at=now(request), arbiter=UserId(body.arbiter_id), party=UserId(body.party), by=caller.user
    )
    return await _said(request, event, by=keyed(request, caller, body), caller=caller)


async def name_assistant(request: web.Request) -> web.Response:
    """Lets somebody read the arbiter's cases, or no longer."""
    caller = _arbiter(request)
    body = await body_of(request, r.Assistant)
    kind = d.AssistantNamed if body.named else d.AssistantDismissed
    event = kind(at=now(request), arbiter=caller.user, assistant=UserId(body.assistant))
    return await _said(request, event, by=keyed(request, caller, body), caller=caller)


def _arbiter(request: web.Request) -> Caller:
    caller = caller_of(request)
    if Right.ARBITER not in caller.rights and not request.app[ARBITERS].is_one(caller.user):
        raise Refusal("right_missing", facts={"right": Right.ARBITER.value})
    return caller


async def _said(request: web.Request, event: d.AnyArbiterEvent, *, by: Keyed, caller: Caller) -> web.Response:
    refused = await request.app[ARBITERS].say(event, by=caller.user, command_id=by.command_id, body_hash=by.body_hash)
    if refused is not None:
        raise refuse(refused)
    return answer_json(ArbiterSaid(arbiter_id=event.arbiter, status=str(event.__struct_config__.tag)))
