"""Routes of administrators about the wallet slots of this node."""

import msgspec
from aiohttp import web

from schemas import requests as r
from schemas.answers import PoolReloaded, PoolShown, SlotDrained, SlotShown
from service.api.door import admin_of, answer_json, body_of, house_of
from service.given_slots import GivenSlotsWrong
from service.problems import Refusal
from service.slot_pool import SlotPool


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.get("/admin/pool", show_pool),
        web.post("/admin/pool/drain", drain_slot),
        web.post("/admin/reload-rpc-config", reload_pool),
    ]


async def show_pool(request: web.Request) -> web.Response:
    """Lists this node's slots: state, what is wrong with one, and since when."""
    pool = _pool(request)
    return answer_json(PoolShown(slots=tuple(SlotShown(**msgspec.structs.asdict(each)) for each in pool.status())))


async def drain_slot(request: web.Request) -> web.Response:
    """Lets a slot finish its lease and leave."""
    pool, body = _pool(request), await body_of(request, r.DrainSlot)
    if not await pool.drain(body.slot):
        raise Refusal("no_such_slot")
    return answer_json(SlotDrained(slot=body.slot))


async def reload_pool(request: web.Request) -> web.Response:
    """Takes over the wallet processes that are configured now; one mistake in them and nothing is changed."""
    pool = _pool(request)
    await body_of(request, r.Nothing)
    try:
        done = await pool.reload()
    except GivenSlotsWrong as wrong:
        raise Refusal("rpc_config_wrong", detail="; ".join(wrong.mistakes)) from None
    return answer_json(PoolReloaded(added=done.added, removed=done.removed, message=done.message))


def _pool(request: web.Request) -> SlotPool:
    admin_of(request)
    pool = house_of(request).pool
    if pool is None:
        raise Refusal("no_slots")
    return pool
