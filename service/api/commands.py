"""Routes that ask something of one escrow: shipping, delivery, refund, cancellation, addresses, agreements."""

from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from actors.escrow import Accepted
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain import events as e
from domain.commands import AnyCommand
from domain.ids import Micros, Sealed, UserId
from domain.roles import Role
from domain.states import Escrow, money_of
from schemas import requests as r
from schemas.address import BadAddress, Network, decode_address, parse_address
from schemas.answers import Followed, micros
from schemas.sealing import SealedKind
from service.api.door import (
    Handler,
    answer_json,
    body_of,
    caller_of,
    cursor_of,
    follow,
    house_of,
    keyed,
    now,
    own_event,
    path_escrow,
    role_in,
)
from service.problems import Refusal

NUMBER_DIGITS_MAX = 9
_R = TypeVar("_R", bound=r.Request)


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    at = "/api/escrows/{escrow_id}"
    return [
        web.post(f"{at}/ship", _plain(c.Ship)),
        web.post(f"{at}/confirm-delivery", _plain(c.ConfirmDelivery)),
        web.post(f"{at}/refund", _plain(c.GrantRefund)),
        web.post(f"{at}/cancel", _plain(c.CancelEscrow)),
        web.put(f"{at}/payout-address", set_payout_address),
        web.post(f"{at}/payout-address/consent", consent_address),
        web.post(f"{at}/agreements", propose_agreement),
        web.post(f"{at}/agreements/{{number}}/accept", accept_agreement),
        web.delete(f"{at}/agreements/{{number}}", withdraw_agreement),
    ]


def _plain(kind: type[c.Ship] | type[c.ConfirmDelivery] | type[c.GrantRefund] | type[c.CancelEscrow]) -> Handler:
    """Makes the route of a command that needs nothing but to know who asks."""

    async def handler(request: web.Request) -> web.Response:
        return await _told(request, r.Nothing, lambda _, by, at: kind(at=at, by=by))

    return handler


async def consent_address(request: web.Request) -> web.Response:
    """Consents to another one's new payout address."""
    return await _told(request, r.AddressConsent, lambda body, by, at: c.ConsentAddress(at=at, by=by, role=body.role))


async def accept_agreement(request: web.Request) -> web.Response:
    """Accepts what the other party offered."""
    number = _number(request)
    return await _told(request, r.Nothing, lambda _, by, at: c.AcceptAgreement(at=at, by=by, number=number))


async def withdraw_agreement(request: web.Request) -> web.Response:
    """Takes one's own offer back."""
    number = _number(request)
    return await _told(request, r.Nothing, lambda _, by, at: c.WithdrawAgreement(at=at, by=by, number=number))


async def set_payout_address(request: web.Request) -> web.Response:
    """Says where the caller's own money goes."""
    caller, state = await path_escrow(request)
    body = await body_of(request, r.PayoutAddress)
    by = keyed(request, caller, body)
    check_address(body.address, network=house_of(request).settings.monero_network)
    role = role_in(state, caller)
    if role is None:
        raise Refusal("not_a_party")
    money = money_of(state)
    tag, sealed = await _sealed_address(request, state, role, body.address)
    command = c.SetPayoutAddress(
        at=now(request),
        by=caller.user,
        tag=tag,
        address=sealed,
        # By its key, not its text: the escrow's own key has other spellings (as a subaddress, with another view key).
        is_escrow_address=money is not None and _spend_key(body.address) == _spend_key(money.address),
    )
    answer = await follow(request, state.core.terms.escrow_id, command, caller=caller, by=by)
    return answer_json(_followed(state, answer))


def _spend_key(address: str) -> str:
    return decode_address(address).spend_key


def check_address(address: str, *, network: Network) -> None:
    """Refuses what cannot be paid out to; raises `Refusal`, which never repeats the address."""
    try:
        parse_address(address, network=network)
    except BadAddress as bad:
        raise Refusal(bad.code, facts={"path": "address"}) from None


async def _sealed_address(request: web.Request, state: Escrow, role: Role, address: str) -> tuple[str, Sealed]:
    sealing = EscrowSecrets(house_of(request).store.vault, state.core.terms.escrow_id)
    tag = await sealing.tag(SealedKind.PAYOUT_ADDRESS, address)
    known = state.core.addresses.get(role)
    if known is not None and known.tag == tag:
        return tag, known.sealed  # the same again: nothing new to record
    return tag, await sealing.seal(SealedKind.PAYOUT_ADDRESS, role.value, address)


async def propose_agreement(request: web.Request) -> web.Response:
    """Offers the other party a settlement, or a later deadline to ship; the answer names the offer's number."""
    caller, state = await path_escrow(request)
    body = await body_of(request, r.Agreement)
    if (body.buyer_share_bp is None) == (body.ship_until is None):
        raise Refusal("validation", detail="Expected exactly one of `buyer_share_bp` and `ship_until`")
    by = keyed(request, caller, body)
    command = c.ProposeAgreement(
        at=now(request),
        by=caller.user,
        buyer_share_bp=body.buyer_share_bp,
        ship_until=None if body.ship_until is None else micros(body.ship_until),
    )
    answer = await follow(request, state.core.terms.escrow_id, command, caller=caller, by=by)
    offered = await own_event(request, state.core.terms.escrow_id, answer, by=by, kind=e.AgreementProposed)
    return answer_json(_followed(state, answer, number=offered.number))


async def _told(
    request: web.Request, kind: type[_R], command: Callable[[_R, UserId, Micros], AnyCommand]
) -> web.Response:
    """Reads a body, makes the command of it and the caller, and brings it to the escrow of the path."""
    caller, state = await path_escrow(request)
    body = await body_of(request, kind)
    by = keyed(request, caller, body)
    asked = command(body, caller.user, now(request))
    return answer_json(_followed(state, await follow(request, state.core.terms.escrow_id, asked, caller=caller, by=by)))


def _followed(state: Escrow, answer: Accepted, *, number: int | None = None) -> Followed:
    return Followed(
        escrow_id=state.core.terms.escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
        number=number,
    )


def _number(request: web.Request) -> int:
    text = request.match_info["number"]
    if not text.isascii() or not text.isdigit() or len(text) > NUMBER_DIGITS_MAX:
        caller_of(request)  # who may not ask at all is told that first
        raise Refusal("agreement_none")
    return int(text)
