"""How a request becomes an escrow: who may ask, the terms, the creation."""

import msgspec
from aiohttp import web

from actors.escrow import Accepted
from domain import commands as c
from domain.arbiters import Candidates
from domain.ids import EscrowId, OrderId, UserId
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import Role, SeatKind
from domain.terms import Terms
from schemas import requests as r
from service.api.door import ARBITERS, CREATOR, Keyed, house_of, now
from service.auth import Caller, Right
from service.creation import Creation, escrow_id_of
from service.problems import Refusal


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """An escrow, and what its creation was answered with."""

    escrow_id: EscrowId
    accepted: Accepted


async def create(request: web.Request, wish: r.CreateEscrow, *, caller: Caller, by: Keyed) -> Created:
    """Creates an escrow, for a marketplace or one of the two parties; raises `Refusal` and what `Creator` raises."""
    if Right.MARKETPLACE not in caller.rights and caller.user not in (wish.buyer_id, wish.vendor_id):
        raise Refusal("not_a_party")
    escrow_id = escrow_id_of(by.command_id)
    among = await _candidates(request, wish, escrow_id, by)
    terms = _terms(request, wish, escrow_id, arbiter=among.eligible[0])
    creation = Creation(
        command=c.CreateEscrow(at=now(request), terms=terms, by=caller.user),
        command_id=by.command_id,
        body_hash=by.body_hash,
        actor=caller.user,
        candidates=among,
    )
    answer = await request.app[CREATOR].create(creation)
    if not isinstance(answer, Accepted):
        raise _refused_creation(Refused(answer.code, answer.facts))
    return Created(escrow_id=terms.escrow_id, accepted=answer)


async def _candidates(request: web.Request, body: r.CreateEscrow, escrow_id: EscrowId, by: Keyed) -> Candidates:
    """Finds who may be the arbiter; raises `Refusal` where nobody may, unless this was asked and answered before."""
    parties = frozenset({UserId(body.buyer_id), UserId(body.vendor_id)})
    among = await request.app[ARBITERS].candidates(parties, at=now(request))
    if among.eligible:
        return among
    house = house_of(request)
    if await house.store.log.receipt(stream_id=escrow_id, command_id=by.command_id) is not None:
        usual = tuple(each.user_id for each in house.settings.arbiters)
        return Candidates(eligible=usual, excluded={})  # nobody is chosen any more: the first answer is given again
    all_parties = set(among.excluded.values()) <= {"party"}
    raise Refusal("three_must_differ" if all_parties else "no_arbiter")


def _terms(request: web.Request, body: r.CreateEscrow, escrow_id: EscrowId, *, arbiter: UserId) -> Terms:
    settings = house_of(request).settings
    return Terms(
        escrow_id=escrow_id,
        order_id=OrderId(body.order_id),
        buyer_id=UserId(body.buyer_id),
        vendor_id=UserId(body.vendor_id),
        arbiter_id=arbiter,
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
