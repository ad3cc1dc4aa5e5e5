"""Routes of administrators about an escrow's secrets."""

from aiohttp import web

from domain import commands as c
from schemas import requests as r
from schemas.answers import Followed
from service.api.door import answer_json, body_of, cursor_of, follow, house_of, keyed, now, path_escrow
from service.auth import Right
from service.problems import Refusal


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.post("/api/admin/escrows/{escrow_id}/shred", shred_escrow)]


async def shred_escrow(request: web.Request) -> web.Response:
    """Makes an ended escrow's secrets unreadable for good, once their retention is over."""
    caller, state = await path_escrow(request)
    if Right.ADMIN not in caller.rights:
        raise Refusal("right_missing", facts={"right": Right.ADMIN.value})
    body, house, escrow_id = await body_of(request, r.Nothing), house_of(request), state.core.terms.escrow_id
    command = c.ShredKey(at=now(request), by=caller.user, retention_days=house.settings.secrets_retention_days)
    answer = await follow(request, escrow_id, command, caller=caller, by=keyed(request, caller, body))
    await house.store.vault.shred()  # where a crash leaves this undone, any node does it at its next look
    followed = Followed(escrow_id=escrow_id, version=answer.version, state=answer.status, cursor=cursor_of(answer))
    return answer_json(followed)
