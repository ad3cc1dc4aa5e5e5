"""Whose case it is: who acts in it, who reads it and who prepares it; to all others there is no such case."""

import re

from aiohttp import web

from domain.ids import CaseId, EscrowId, UserId
from domain.roles import PARTIES
from domain.states import Escrow
from domain.terms import Terms
from projections.rows import DisputeRow
from schemas.requests import CASE_ID
from service.api.door import ARBITERS, house_of, role_in
from service.auth import Caller, Right
from service.problems import Refusal

_CASE_ID = re.compile(CASE_ID)


def case_id_of(escrow_id: EscrowId) -> CaseId:
    """Names the one case an escrow can have, so that it is found without an index."""
    return CaseId(f"case_{escrow_id.removeprefix('esc_')}")


def is_case_id(text: str) -> bool:
    """Says whether a text could name a case."""
    return _CASE_ID.match(text) is not None


async def case_acted_in(request: web.Request, case_id: str, caller: Caller) -> Escrow:
    """Returns the escrow of a case to one of its three; raises `Refusal`."""
    state = await _disputed(request, case_id)
    return _to(state, allowed=role_in(state, caller) is not None)


async def case_commanded(request: web.Request, case_id: str, caller: Caller) -> Escrow:
    """Returns the escrow of a case to its three, and to administrators, whose commands are refused later.

    Raises `Refusal`.
    """
    state = await _disputed(request, case_id)
    return _to(state, allowed=role_in(state, caller) is not None or Right.ADMIN in caller.rights)


async def case_read(request: web.Request, case_id: str, caller: Caller) -> Escrow:
    """Returns the escrow of a case to whoever reads it; raises `Refusal`."""
    state = await _disputed(request, case_id)
    return _to(state, allowed=await reads(request, state.core.terms, caller))


async def case_prepared(request: web.Request, case_id: str, caller: Caller) -> Escrow:
    """Returns the escrow of a case to its arbiter and the arbiter's assistants; raises `Refusal`."""
    state = await _disputed(request, case_id)
    # A party of this case may assist its arbiter in others: here it is a party.
    prepares = role_in(state, caller) not in PARTIES
    return _to(state, allowed=prepares and await reads(request, state.core.terms, caller))


async def _disputed(request: web.Request, case_id: str) -> Escrow:
    escrow_id = EscrowId(f"esc_{case_id.removeprefix('case_')}")
    state = await house_of(request).desk.state(escrow_id) if is_case_id(case_id) else None
    if state is None or state.core.case is None:
        raise Refusal("no_such_case")
    return state


def _to(state: Escrow, *, allowed: bool) -> Escrow:
    if not allowed:
        raise Refusal("no_such_case")
    return state


async def reads(request: web.Request, case: Terms | DisputeRow, caller: Caller) -> bool:
    """Says whether somebody is one of the three of a case or assists its arbiter."""
    three = (case.buyer_id, case.vendor_id, case.arbiter_id)
    return caller.user in three or await assists(request, caller, case.arbiter_id)


async def assists(request: web.Request, caller: Caller, arbiter: UserId) -> bool:
    """Says whether somebody is an arbiter's assistant: named by the arbiter, with the right in the token."""
    if Right.ASSISTANT not in caller.rights:
        return False
    return (await request.app[ARBITERS].roster()).assists(caller.user, arbiter)
