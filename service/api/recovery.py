"""Routes of administrators: the escrows that people must look at."""

import re

from aiohttp import web

from projections.api import Place
from projections.rows import RecoveryRow
from schemas.answers import RecoveryPage
from schemas.cursor import encode_cursor
from schemas.requests import ESCROW_ID
from service.api import views
from service.api.asking import check_query, limit_of, own_writes
from service.api.door import admin_of, answer_json, house_of, now
from service.problems import Refusal

MODEL = "recovery"
_PLACE = re.compile(rf"([0-9]{{1,18}})-({ESCROW_ID.strip('^')})")


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.get("/api/admin/recovery/list", list_recovery)]


async def list_recovery(request: web.Request) -> web.Response:
    """Lists open recovery items, disputed escrows and those that cannot be read; for administrators."""
    admin_of(request)
    check_query(request, dict.fromkeys(("limit", "after", "seen")))
    models, most, after = house_of(request).models, limit_of(request), _after(request)
    await own_writes(request, MODEL)
    positions = models.positions(MODEL)  # read first: the rows may only be further
    found = await models.rows.recovery(after=after, limit=most + 1)
    shown = RecoveryPage(
        total_cases=await models.rows.recovery_count(),
        cases=tuple(views.recovery_case(row, now=now(request)) for row in found[:most]),
        next=_place(found[most - 1]) if len(found) > most else None,
        cursor=encode_cursor(positions),
    )
    return answer_json(shown)


def _place(row: RecoveryRow) -> str:
    # Not the escrow alone: its item may be closed before the next page is asked for.
    return f"{row.active_at}-{row.escrow_id}"


def _after(request: web.Request) -> Place | None:
    after = request.query.get("after")
    if after is None:
        return None
    found = _PLACE.match(after)
    if found is None:
        raise Refusal("cursor_invalid", facts={"path": "after"})
    return Place(int(found[1]), found[2])
