"""What the forms of a case do: each the same command as the API's, then back to the page."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from aiohttp import web

from domain.events import Verdict
from domain.preview import preview
from domain.refusals import Refused
from domain.roles import THREE, Role
from domain.states import Escrow
from schemas import requests as r
from service.api import disputes
from service.api.door import Command, now, role_in, seen
from service.api.drafts import prepare_draft
from service.api.whose_case import case_id_of
from service.auth import Caller
from service.pages.cases import case_page, case_state, path_of
from service.pages.door import PageHandler, asked, form_of, page, person_in, see_other, shown
from service.pages.payouts import NETWORK_FEE_NOTE
from service.pages.signing import SIGNATURE, asked_to_sign, read_signature
from service.pages.words import read_share
from service.problems import Refusal, problem_of, refuse

_R = TypeVar("_R", bound=r.Request)
CONFIRMED = "amounts"
"""Field of a confirmed decision: what its arbiter was told that each of the three gets."""
AMOUNTS = "amounts_changed"
ONCE_MORE = (AMOUNTS, "signature_required", "signature_invalid")
"""Refusals after which a confirmation is shown again, as it was but for what has changed."""
_CONFIRMED = re.compile(r"(?P<buyer>[0-9]{1,19}) (?P<vendor>[0-9]{1,19}) (?P<arbiter>[0-9]{1,19})")


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    both = ("/cases/{case_id}", "/arbiter/disputes/{case_id}")
    return [
        web.get("/escrows/{escrow_id}/dispute", page(show_opening), allow_head=False),
        web.post("/escrows/{escrow_id}/dispute", page(take_opening)),
        web.post("/cases/{case_id}/answer", page(take_answer)),
        *(web.post(f"{base}/messages", page(_form(r.AddMessage, disputes.add_message, back="talk"))) for base in both),
        web.post(f"{both[1]}/review", page(_form(r.ReviewDispute, disputes.review_dispute, back="head"))),
        web.post(f"{both[1]}/drafts", page(_form(r.PrepareDraft, prepare_draft, back="drafts-title"))),
        web.post(f"{both[1]}/confirm", page(show_confirmation)),
        web.post(f"{both[1]}/decide", page(take_decision)),
    ]


def _form(kind: type[_R], command: Command[_R], *, back: str) -> PageHandler:
    """Makes what a form of a case does: its command, then the page again, at one of its parts."""

    async def handler(request: web.Request) -> web.StreamResponse:
        form = await form_of(request)
        return await _done(request, form, kind, command, back=back)

    return handler


async def take_answer(request: web.Request) -> web.StreamResponse:
    """Takes the claim of the side that did not open the case."""
    form = await form_of(request)
    role = role_in(await case_state(request), person_in(request))
    return await _done(request, form, r.AddClaim, disputes.answer_as(role or Role.BUYER), back="claims")


async def take_decision(request: web.Request) -> web.StreamResponse:
    """Takes the decision that its arbiter has confirmed, and signed where it holds the key.

    Where it would pay other amounts by now, or the signature is not right, nothing is taken: it is shown once more.
    """
    form = await form_of(request)
    if not _CONFIRMED.fullmatch(form.get(CONFIRMED, "")):
        return await _confirmation(request, await case_state(request), form, refused=Refusal(AMOUNTS))
    return await _done(request, form, r.ResolveDispute, disputes.resolve_dispute, back="decision")


async def _done(
    request: web.Request, form: Mapping[str, str], kind: type[_R], command: Command[_R], *, back: str
) -> web.StreamResponse:
    """Follows a form's command; refused, the page comes again with what its sender had written."""
    state = await case_state(request)
    try:
        body, by = asked(request, _read(form), kind, case_id=case_id_of(state.core.terms.escrow_id))
        await command(request, body, person_in(request), by)
    except Refusal as refused:
        state = await case_state(request)
        if refused.code in ONCE_MORE:
            return await _confirmation(request, state, form, refused=refused)
        return await case_page(request, state, problem=problem_of(refused), draft=form)
    return see_other(f"{path_of(request, state)}#{back}")


# -- the decision, once more ---------------------------------------------------------------------------------


async def show_confirmation(request: web.Request) -> web.StreamResponse:
    """Repeats who would get what before a decision is taken; changes nothing."""
    return await _confirmation(request, await case_state(request), await form_of(request))


async def _confirmation(
    request: web.Request, state: Escrow, form: Mapping[str, str], *, refused: Refusal | None = None
) -> web.StreamResponse:
    """Asks whether a decision is to pay these amounts, and for its signature; once more where that was `refused`."""
    try:
        case_id = case_id_of(state.core.terms.escrow_id)
        fields = {field: value for field, value in form.items() if field not in (CONFIRMED, SIGNATURE)}
        body, _ = asked(request, _read(fields), r.ResolveDispute, case_id=case_id)
        receivers = _receivers(request, state, body)
    except Refusal as wrong:
        return await case_page(request, state, problem=problem_of(wrong), draft=form)
    amounts = " ".join(str(each["amount"]) for each in receivers)
    changed = refused is not None and (refused.code == AMOUNTS or form.get(CONFIRMED) != amounts)
    facts = {
        "receivers": receivers,
        "amounts": amounts,
        "changed": changed,
        "signing": asked_to_sign(state, body, typed=form.get(SIGNATURE, "")),
        "problem": problem_of(refused) if refused is not None and refused.code != AMOUNTS else None,
    }
    status = problem_of(refused).status if refused is not None else HTTPStatus.OK
    back = path_of(request, state)
    return shown(request, "confirm.html", status=status, body=body, note=NETWORK_FEE_NOTE, back=back, **facts)


def _receivers(request: web.Request, state: Escrow, body: r.ResolveDispute) -> list[dict[str, Any]]:
    terms = state.core.terms
    if role_in(state, person_in(request)) is not Role.ARBITER:
        raise Refusal("not_the_arbiter")
    found = preview(state, verdict=body.decision, buyer_share_bp=body.buyer_share_bp, at=now(request))
    if isinstance(found, Refused):
        raise refuse(found)
    people = {Role.BUYER: terms.buyer_id, Role.VENDOR: terms.vendor_id, Role.ARBITER: terms.arbiter_id}
    parts = zip(THREE, found.parts, strict=True)
    return [{"role": role.value, "person": people[role], "amount": amount} for role, amount in parts]


def _read(form: Mapping[str, str]) -> dict[str, Any]:
    """Reads what people write otherwise than programs: the confirmed amounts, a signature, the share of a split."""
    fields: dict[str, Any] = {field: value for field, value in form.items() if field != "share"}
    if confirmed := _CONFIRMED.fullmatch(form.get(CONFIRMED, "")):
        fields[CONFIRMED] = {field: int(part) for field, part in confirmed.groupdict().items()}
    if fields.get(SIGNATURE, "").strip():
        fields[SIGNATURE] = read_signature(fields[SIGNATURE])
    else:
        fields.pop(SIGNATURE, None)
    if form.get("decision") != Verdict.SPLIT.value:
        return fields
    bp = read_share(form.get("share", ""))
    if bp is None:
        raise Refusal("validation", detail="Expected a percentage from 0 to 100, such as 62.5", facts={"path": "share"})
    return fields | {"buyer_share_bp": bp}


# -- opening a case ------------------------------------------------------------------------------------------


async def show_opening(request: web.Request) -> web.StreamResponse:
    """Shows the form that opens a dispute."""
    state = await _own_escrow(request, person_in(request))
    if state.core.case is not None:
        return see_other(path_of(request, state))
    return shown(request, "open.html", terms=state.core.terms, draft="")


async def take_opening(request: web.Request) -> web.StreamResponse:
    """Opens the dispute of an escrow."""
    form, caller = await form_of(request), person_in(request)
    state = await _own_escrow(request, caller)
    try:
        body, by = asked(request, form, r.OpenDispute, escrow_id=state.core.terms.escrow_id)
        await disputes.open_dispute(request, body, caller, by)
    except Refusal as refused:
        problem = problem_of(refused)
        facts = {"terms": state.core.terms, "draft": form.get("claim", ""), "problem": problem}
        return shown(request, "open.html", status=problem.status, **facts)
    return see_other(path_of(request, state))


async def _own_escrow(request: web.Request, caller: Caller) -> Escrow:
    state = await seen(request, request.match_info["escrow_id"], caller)
    if role_in(state, caller) is None:
        raise Refusal("no_such_escrow")
    return state
