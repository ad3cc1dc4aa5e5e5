"""Routes that create escrows and show them."""

import asyncio
import re

from aiohttp import web

from actors.escrow import Accepted
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.ids import EscrowId, OrderId, Sealed, UserId
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import PARTIES, Role, SeatKind
from domain.states import NAMES, Escrow, name
from domain.terms import Terms
from eventstore.api import SealBroken
from schemas import requests as r
from schemas.answers import Answer, EscrowPage, Followed
from schemas.cursor import encode_cursor
from schemas.sealing import SealedKind
from service.api import views
from service.api.door import (
    CREATOR,
    answer_json,
    body_of,
    caller_of,
    cursor_of,
    house_of,
    keyed,
    now,
    path_escrow,
)
from service.auth import Caller, Right
from service.creation import Creation, assign_arbiter, escrow_id_of
from service.problems import Refusal, refuse

FILTERS = frozenset({"state", "role", "order", "limit", "after"})


class Health(Answer, frozen=True, kw_only=True):
    """The service answers."""

    status: str = "ok"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.get("/health", health),
        web.post("/api/escrows", create_escrow),
        web.get("/api/escrows", list_escrows),
        web.get("/api/escrows/{escrow_id}", show_escrow),
        web.get("/api/escrows/{escrow_id}/turns", show_turns),
    ]


async def health(_: web.Request) -> web.Response:
    """Says that the service lives; asks nothing of the database."""
    return answer_json(Health())


# -- creating ------------------------------------------------------------------------------------------------


async def create_escrow(request: web.Request) -> web.Response:
    """Creates an escrow, for a marketplace or one of the two parties."""
    caller = caller_of(request)
    body = await body_of(request, r.CreateEscrow)
    if Right.MARKETPLACE not in caller.rights and caller.user not in (body.buyer_id, body.vendor_id):
        raise Refusal("not_a_party")
    by = keyed(request, caller, body)
    terms = _terms(request, body, escrow_id_of(by.command_id))
    creation = Creation(
        command=c.CreateEscrow(at=now(request), terms=terms, by=caller.user),
        command_id=by.command_id,
        body_hash=by.body_hash,
        actor=caller.user,
    )
    answer = await request.app[CREATOR].create(creation)
    if not isinstance(answer, Accepted):
        raise _refused_creation(Refused(answer.code, answer.facts))
    followed = Followed(
        escrow_id=terms.escrow_id, version=answer.version, state=answer.status, cursor=cursor_of(answer)
    )
    return answer_json(followed, status=201)


def _terms(request: web.Request, body: r.CreateEscrow, escrow_id: EscrowId) -> Terms:
    settings = house_of(request).settings
    parties = (UserId(body.buyer_id), UserId(body.vendor_id))
    arbiter = assign_arbiter(settings.arbiters, parties=parties)
    if isinstance(arbiter, Refused):
        raise refuse(arbiter)
    return Terms(
        escrow_id=escrow_id,
        order_id=OrderId(body.order_id),
        buyer_id=parties[0],
        vendor_id=parties[1],
        arbiter_id=arbiter.user_id,
        amount=Atomic(body.amount),
        network=settings.monero_network,
        seats=_seats(request, body),
        policy=settings.policy(),
    )


def _seats(request: web.Request, body: r.CreateEscrow) -> dict[Role, SeatKind]:
    settings = house_of(request).settings
    seats = {role: body.seats.get(role, settings.default_seats[role]) for role in Role}
    for role, kind in seats.items():
        if kind not in settings.seat_kinds():
            raise Refusal("seat_kind_unavailable", facts={"role": role.value, "kind": kind.value})
    return seats


def _refused_creation(refused: Refused) -> Refusal:
    # Whose escrow holds the order is nobody else's business.
    facts = {fact: value for fact, value in refused.facts.items() if fact != "escrow_id"}
    return Refusal(refused.code, facts=facts)


# -- showing -------------------------------------------------------------------------------------------------


async def show_escrow(request: web.Request) -> web.Response:
    """Shows everything the three may know of an escrow."""
    _, state = await path_escrow(request)
    house, terms = house_of(request), state.core.terms
    history = await house.store.log.read_stream(terms.escrow_id, limit=house.settings.history_max)
    shown = [each for each in history if each.version <= state.core.version]
    cursor = encode_cursor({each.partition: each.position for each in shown[-1:]})
    return answer_json(views.escrow(state, cursor=cursor, history=shown, opened=await _opened(request, state)))


async def show_turns(request: web.Request) -> web.Response:
    """Shows what is asked of which seat's wallet now."""
    _, state = await path_escrow(request)
    return answer_json(views.turn_list(state))


async def _opened(request: web.Request, state: Escrow) -> views.OpenedCase | None:
    case = state.core.case
    if case is None:
        return None
    sealing = EscrowSecrets(house_of(request).store.vault, state.core.terms.escrow_id)
    claims = {
        role: await _text(sealing, SealedKind.CLAIM, role, case.claims[role]) for role in PARTIES if role in case.claims
    }
    reason = await _text(sealing, SealedKind.DECISION_REASON, Role.ARBITER, case.reason) if case.reason else None
    return views.OpenedCase(claims=claims, reason=reason)


async def _text(sealing: EscrowSecrets, kind: SealedKind, role: Role, sealed: Sealed) -> str | None:
    try:
        return await sealing.open(kind, role.value, sealed)
    except SealBroken:
        return None  # shredded: the rest of the case is shown all the same


# -- lists ---------------------------------------------------------------------------------------------------


async def list_escrows(request: web.Request) -> web.Response:
    """Lists the caller's escrows (an administrator's: all), newest first."""
    caller = caller_of(request)
    _check_filters(request)
    await _own_writes(request)
    found = sorted(_found(request, caller), key=_newest_first)
    after = request.query.get("after")
    if after is not None:
        found = found[_place(found, after) + 1 :]
    most = _limit(request)
    page = found[:most]
    shown = EscrowPage(
        escrows=tuple(views.summary(state) for state in page),
        next=page[-1].core.terms.escrow_id if len(found) > most else None,
        cursor=encode_cursor(dict(enumerate(house_of(request).runner.positions))),
    )
    return answer_json(shown)


async def _own_writes(request: web.Request) -> None:
    """Waits until the read model has passed everything written so far, for a bounded time."""
    house = house_of(request)
    try:
        async with asyncio.timeout(house.settings.own_writes_wait_s):
            for head in await house.store.log.heads():
                await house.runner.reached(
                    partition=head.partition, position=head.position, timeout_s=house.settings.own_writes_wait_s
                )
    except TimeoutError:
        return  # the answer's cursor says how far it is


def _found(request: web.Request, caller: Caller) -> list[Escrow]:
    escrows, query = house_of(request).escrows, request.query
    mine = escrows.all() if Right.ADMIN in caller.rights else escrows.of_user(caller.user)
    return [
        state
        for _, state in mine
        if query.get("state") in (None, name(state))
        and query.get("order") in (None, state.core.terms.order_id)
        and query.get("role") in (None, state.core.terms.role_of(caller.user))
    ]


def _newest_first(state: Escrow) -> tuple[int, str]:
    return -state.core.created_at, state.core.terms.escrow_id


def _place(found: list[Escrow], after: str) -> int:
    for place, state in enumerate(found):
        if state.core.terms.escrow_id == after:
            return place
    raise Refusal("cursor_invalid", facts={"path": "after"})


def _check_filters(request: web.Request) -> None:
    allowed = {"state": set(NAMES.values()), "role": {role.value for role in Role}}
    for field, value in request.query.items():
        if field not in FILTERS:
            raise Refusal("validation", detail="Unknown filter", facts={"path": field[:64]})
        if len(request.query.getall(field)) > 1:
            raise Refusal("validation", detail="Given twice", facts={"path": field})
        if field in allowed and value not in allowed[field]:
            raise Refusal("validation", detail="Unknown value", facts={"path": field})


def _limit(request: web.Request) -> int:
    most = house_of(request).settings.page_max
    text = request.query.get("limit", str(most))
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text) or int(text) > most:
        raise Refusal("validation", detail=f"Expected 1 to {most}", facts={"path": "limit"})
    return int(text)
