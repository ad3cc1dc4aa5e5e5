"""How a request becomes an escrow: who may ask, the terms, the creation."""

import msgspec
from aiohttp import web

from actors.escrow import Accepted
from domain import commands as c
from domain.ids import EscrowId, OrderId, UserId
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import Role, SeatKind
from domain.terms import Terms
from schemas import requests as r
from service.api.door import CREATOR, Keyed, house_of, now
from service.auth import Caller, Right
from service.creation import Creation, assign_arbiter, escrow_id_of
from service.problems import Refusal, refuse


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """An escrow, and what its creation was answered with."""

    escrow_id: EscrowId
    accepted: Accepted


async def create(request: web.Request, wish: r.CreateEscrow, *, caller: Caller, by: Keyed) -> Created:
    """Creates an escrow, for a marketplace or one of the two parties; raises `Refusal` and what `Creator` raises."""
    if Right.MARKETPLACE not in caller.rights and caller.user not in (wish.buyer_id, wish.vendor_id):
        raise Refusal("not_a_party")
    terms = _terms(request, wish, escrow_id_of(by.command_id))
    creation = Creation(
        command=c.CreateEscrow(at=now(request), terms=terms, by=caller.user),
        command_id=by.command_id,
        body_hash=by.body_hash,
        actor=caller.user,
    )
    answer = await request.app[CREATOR].create(creation)
    if not isinstance(answer, Accepted):
        raise _refused_creation(Refused(answer.code, answer.facts))
    return Created(escrow_id=terms.escrow_id, accepted=answer)


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
