"""Routes of administrators about maintenance mode."""

from aiohttp import web

from domain.limits import SetMaintenance
from schemas import requests as r
from service.api.door import admin_of, answer_json, body_of, house_of, keyed, now
from service.maintenance import maintenance_state, set_maintenance
from service.problems import Refusal

PATH = "/api/admin/maintenance-mode"


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.get(PATH, show), web.post(PATH, change)]


async def show(request: web.Request) -> web.Response:
    """Says whether new escrows are refused, why, since when and by whom."""
    admin_of(request)
    return answer_json(await maintenance_state(house_of(request).store.log))


async def change(request: web.Request) -> web.Response:
    """Begins or ends maintenance: new escrows are refused with its reason, running ones go on."""
    caller = admin_of(request)
    body = await body_of(request, r.MaintenanceMode)
    if body.enabled and not body.reason.strip():
        raise Refusal("validation", detail="Expected a reason", facts={"path": "reason"})
    by = keyed(request, caller, body)
    command = SetMaintenance(at=now(request), enabled=body.enabled, reason=body.reason, by=caller.user)
    state = await set_maintenance(
        house_of(request).store.log, command, command_id=by.command_id, body_hash=by.body_hash
    )
    return answer_json(state)
