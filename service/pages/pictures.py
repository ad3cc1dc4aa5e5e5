"""Evidence on the pages of a case: the form that lays a picture before the arbiter, and the pictures themselves."""

import asyncio
import time

from aiohttp import web

from eventstore.api import LogBusy
from schemas.requests import DESCRIPTION_MAX
from service.api.door import keyed_by
from service.api.photos import FILE, ROOM, photo_added, photo_body, photo_shown
from service.api.uploads import form_of
from service.api.whose_case import case_id_of
from service.pages.cases import case_page, case_state, path_of
from service.pages.door import check_ours, own_fields, page, person_in, see_other
from service.problems import problem_of

PLACE_WAIT_S = 30.0
"""How long a picture on a page waits for its place among those that come and go."""
AGAIN_S = 0.1
TEXTS = {"description": DESCRIPTION_MAX, "form_token": 128, "key": 128}


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    both = ("/cases/{case_id}", "/arbiter/disputes/{case_id}")
    return [
        web.post("/cases/{case_id}/photos", page(take_photo)),
        *(web.get(f"{base}/photos/{{photo_id}}", page(show_photo), allow_head=False) for base in both),
    ]


async def show_photo(request: web.Request) -> web.StreamResponse:
    """Shows a picture to one of the three; it waits for its place, since a page asks for all its pictures at once."""
    caller, begun = person_in(request), time.monotonic()
    while True:
        try:
            return await photo_shown(request, caller)
        except LogBusy:
            if time.monotonic() - begun > PLACE_WAIT_S:
                raise
            await asyncio.sleep(AGAIN_S)


async def take_photo(request: web.Request) -> web.StreamResponse:
    """Lays a picture before the arbiter; refused, the page comes again with its description."""
    caller, texts = person_in(request), dict[str, str]()
    state = await case_state(request)
    try:
        with request.app[ROOM].transfer(caller.user):
            form = await form_of(request, texts=TEXTS, file=FILE)
            texts |= form.texts
            check_ours(request, texts)
            fields = own_fields(texts) | {"case_id": case_id_of(state.core.terms.escrow_id)}
            body = await photo_body(fields, form.content)
            by = keyed_by(request, caller, body, key=texts.get("key", ""))
            await photo_added(request, body, caller, by, content=form.content)
    except Exception as error:
        problem = problem_of(error)
        if problem.code == "internal":
            raise
        return await case_page(request, await case_state(request), problem=problem, draft=texts)
    return see_other(f"{path_of(request, state)}#photos-title")
