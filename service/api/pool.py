"""Routes of administrators about the wallet slots of this node."""

import msgspec
from aiohttp import web

from schemas import requests as r
from schemas.pool_answers import PoolReloaded, PoolScaled, PoolShown, SlotDrained, SlotShown
from service.api.door import admin_of, answer_json, body_of, house_of
from service.given_slots import GivenSlotsWrong
from service.pool_scaler import Scaled, SizeInvalid
from service.problems import Refusal
from service.slot_pool import NotOurs, SlotPool


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.get("/admin/pool", show_pool),
        web.post("/admin/pool/drain", drain_slot),
        web.post("/admin/pool/scale", scale_pool),
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


async def scale_pool(request: web.Request) -> web.Response:
    """Has the number of wallet processes follow their use now, or sets it."""
    pool, body = _pool(request), await body_of(request, r.ScalePool)
    try:
        done = await pool.scale(body.slots)
    except SizeInvalid as wrong:
        raise Refusal("pool_size_invalid", detail=str(wrong)) from None
    except NotOurs:
        raise Refusal("slots_not_ours") from None
    return answer_json(_scaled(done))


async def reload_pool(request: web.Request) -> web.Response:
    """Takes over the wallet processes that are configured now; one mistake in them and nothing is changed."""
    pool = _pool(request)
    await body_of(request, r.Nothing)
    try:
        done = await pool.reload()
    except GivenSlotsWrong as wrong:
        raise Refusal("rpc_config_wrong", detail="; ".join(wrong.mistakes)) from None
    return answer_json(PoolReloaded(added=done.added, removed=done.removed, message=done.message))


def _scaled(done: Scaled) -> PoolScaled:
    if done.advised:
        status, says = "advised", f"{done.after} wallet processes are advised, {done.before} are configured"
    elif done.before == done.after:
        status, says = "unchanged", f"{done.before} wallet processes, as before"
    else:
        status, says = "scaled", f"{done.after} wallet processes instead of {done.before}"
    return PoolScaled(
        status=status,
        before=done.before,
        after=done.after,
        use_percent=done.use_percent,
        message=f"{says}; the busiest role uses {done.use_percent} % of its slots",
    )


def _pool(request: web.Request) -> SlotPool:
    admin_of(request)
    pool = house_of(request).pool
    if pool is None:
        raise Refusal("no_slots")
    return pool
