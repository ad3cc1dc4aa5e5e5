"""Routes that create escrows and show them."""

from collections.abc import Mapping

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain.ids import EscrowId
from domain.roles import PARTIES, Role
from domain.states import NAMES, Escrow
from eventstore.api import Recorded
from projections.api import EscrowQuery, Place
from schemas import requests as r
from schemas.answers import Answer, EscrowPage, Followed
from schemas.cursor import encode_cursor
from schemas.sealing import SealedKind
from service.api import views
from service.api.asking import check_query, limit_of, open_text, own_writes
from service.api.creating import create
from service.api.door import answer_json, body_of, caller_of, cursor_of, house_of, keyed, path_escrow, role_in
from service.auth import Caller, Right
from service.problems import Refusal

LIST_QUERY: Mapping[str, frozenset[str] | None] = {
    "state": frozenset(NAMES.values()),
    "role": frozenset(role.value for role in Role),
    **dict.fromkeys(("order", "limit", "after", "seen")),
}


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
    created = await create(request, body, caller=caller, by=keyed(request, caller, body))
    answer = created.accepted
    followed = Followed(
        escrow_id=created.escrow_id, version=answer.version, state=answer.status, cursor=cursor_of(answer)
    )
    return answer_json(followed, status=201)


# -- showing -------------------------------------------------------------------------------------------------


async def show_escrow(request: web.Request) -> web.Response:
    """Shows everything the three may know of an escrow; to an administrator without the texts of its case."""
    caller, state = await path_escrow(request)
    history, opened = await history_of(request, state), await _opened(request, state, caller)
    cursor = encode_cursor({each.partition: each.position for each in history[-1:]})
    return answer_json(views.escrow(state, cursor=cursor, history=history, opened=opened))


async def history_of(request: web.Request, state: Escrow) -> list[Recorded]:
    """Reads the events behind a state, so many at the most."""
    house = house_of(request)
    history = await house.store.log.read_stream(state.core.terms.escrow_id, limit=house.settings.history_max)
    return [each for each in history if each.version <= state.core.version]


async def show_turns(request: web.Request) -> web.Response:
    """Shows what is asked of which seat's wallet now."""
    _, state = await path_escrow(request)
    return answer_json(views.turn_list(state))


async def _opened(request: web.Request, state: Escrow, caller: Caller) -> views.OpenedCase | None:
    case = state.core.case
    if case is None:
        return None
    if role_in(state, caller) is None:
        return views.OpenedCase(claims={}, reason=None)  # an administrator: what people wrote is for the three
    sealing = EscrowSecrets(house_of(request).store.vault, state.core.terms.escrow_id)
    claims = {role: await open_text(sealing, SealedKind.CLAIM, role, case.claims.get(role)) for role in PARTIES}
    reason = await open_text(sealing, SealedKind.DECISION_REASON, Role.ARBITER, case.reason)
    return views.OpenedCase(claims=claims, reason=reason)


# -- lists ---------------------------------------------------------------------------------------------------


async def list_escrows(request: web.Request) -> web.Response:
    """Lists the caller's escrows (an administrator's: all), newest first."""
    caller = caller_of(request)
    check_query(request, LIST_QUERY)
    models, most = house_of(request).models, limit_of(request)
    await own_writes(request, "escrows")
    positions = models.positions("escrows")  # read first: the rows may only be further
    found = await models.rows.escrow_page(await _query(request, caller, limit=most + 1))
    shown = EscrowPage(
        escrows=tuple(views.summary(row) for row in found[:most]),
        next=found[most - 1].escrow_id if len(found) > most else None,
        cursor=encode_cursor(positions),
    )
    return answer_json(shown)


async def _query(request: web.Request, caller: Caller, *, limit: int) -> EscrowQuery:
    query = request.query
    role = query.get("role")
    of_all = Right.ADMIN in caller.rights and role is None
    return EscrowQuery(
        user=None if of_all else caller.user,
        role=Role(role) if role else None,
        state=query.get("state"),
        order=query.get("order"),
        after=await _after(request, caller),
        limit=limit,
    )


async def _after(request: web.Request, caller: Caller) -> Place | None:
    after = request.query.get("after")
    if after is None:
        return None
    row = await house_of(request).models.rows.escrow(EscrowId(after))
    if row is None or not (
        Right.ADMIN in caller.rights or caller.user in (row.buyer_id, row.vendor_id, row.arbiter_id)
    ):
        raise Refusal("cursor_invalid", facts={"path": "after"})
    return Place(row.created_at, row.escrow_id)
