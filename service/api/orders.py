"""Routes that set up escrows for orders, one or many at once, and wait a while for their addresses."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import structlog
from aiohttp import web
from prometheus_client import Gauge

from actors.desk import derived_id
from schemas import orders as o
from schemas import requests as r
from schemas.problems import Problem
from service.api import views
from service.api.creating import Created, create
from service.api.door import Keyed, answer_json, body_of, caller_of, claim_key, house_of, keyed, read_part
from service.auth import Caller
from service.house import House
from service.problems import Refusal, problem_of
from service.setup_waits import SetupWaits

log = structlog.get_logger(__name__)

SETUP_WAITS = web.AppKey("setup_waits", SetupWaits)


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """One order so far: its escrow, or why there is none."""

    order_id: str | None
    created: Created | None = None
    error: Problem | None = None


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.post("/api/orders/batch-init-escrow", batch_init_escrow),
        web.post("/api/orders/{order_id}/init-escrow", init_escrow),
    ]


def make_waits(house: House, shown: Gauge) -> SetupWaits:
    """Builds what the node's requests wait with, within the settings' bound, and shows in a metric how many wait."""
    waits = SetupWaits(house.store.log, waiting_max=house.settings.init_waiting_max)
    shown.set_function(lambda: waits.waiting)
    return waits


async def init_escrow(request: web.Request) -> web.Response:
    """Creates the escrow of one order and waits a while for its set-up."""
    begun = time.monotonic()
    caller = caller_of(request)
    body = await body_of(request, o.InitEscrow)
    order = {"order_id": request.match_info["order_id"], **msgspec.structs.asdict(body)}
    wish = read_part(order, r.CreateEscrow, at="")
    created = await create(request, wish, caller=caller, by=keyed(request, caller, body))
    (answer,) = await _awaited(request, [Opened(order_id=wish.order_id, created=created)], begun=begun)
    return answer_json(answer, status=201)


async def batch_init_escrow(request: web.Request) -> web.Response:
    """Creates the escrows of many orders at once and waits a while for their set-ups; one bad order fails alone."""
    begun = time.monotonic()
    caller = caller_of(request)
    body = await body_of(request, o.BatchInitEscrow)
    most = house_of(request).settings.batch_orders_max
    if len(body.orders) > most:
        raise Refusal("batch_too_long", facts={"batch_orders_max": most})
    by = keyed(request, caller, body)
    await claim_key(request, by)
    opened = await asyncio.gather(*(_open(request, each, caller=caller, by=by) for each in _read(body.orders)))
    answers = await _awaited(request, opened, begun=begun)
    return answer_json(o.BatchAnswer(results=tuple(answers), summary=_summary(answers, begun=begun)))


def _read(orders: Sequence[object]) -> list[o.BatchOrder | Opened]:
    """Checks each order on its own; of several with one id the first counts."""
    found: list[o.BatchOrder | Opened] = []
    ids = set[str]()
    for number, part in enumerate(orders):
        try:
            order = read_part(part, o.BatchOrder, at=f"orders[{number}]")
            if order.order_id in ids:
                raise Refusal("order_repeated")
        except Refusal as refusal:
            found.append(Opened(order_id=_id_of(part), error=problem_of(refusal)))
        else:
            ids.add(order.order_id)
            found.append(order)
    return found


def _id_of(part: object) -> str | None:
    """Reads the id of an order that is wrong elsewhere; what is no id is not repeated."""
    try:
        return msgspec.convert(part, type=o.OrderNamed).order_id
    except msgspec.ValidationError:
        return None


async def _open(request: web.Request, order: o.BatchOrder | Opened, *, caller: Caller, by: Keyed) -> Opened:
    if isinstance(order, Opened):
        return order
    # By key and order: asked again after a crash in the middle, each order finds its own escrow or makes it.
    own = Keyed(command_id=derived_id("order", by.command_id, order.order_id), body_hash=by.body_hash)
    wish = r.CreateEscrow(**msgspec.structs.asdict(order))
    try:
        return Opened(order_id=order.order_id, created=await create(request, wish, caller=caller, by=own))
    except Exception as error:
        told = problem_of(error)
        if told.code == "internal":
            log.error("order_failed", error=type(error).__name__, exc_info=error)
        return Opened(order_id=order.order_id, error=told)


# -- waiting and telling -------------------------------------------------------------------------------------


async def _awaited(request: web.Request, opened: Sequence[Opened], *, begun: float) -> list[o.OrderAnswer]:
    """Waits until every set-up has ended or the time is up, and tells how each stands then."""
    left_s = house_of(request).settings.init_wait_s - (time.monotonic() - begun)
    after = {each.created.escrow_id: each.created.accepted.position for each in opened if each.created}
    if left_s > 0:
        await request.app[SETUP_WAITS].ended(after, timeout_s=left_s)
    return await asyncio.gather(*(_told(request, each) for each in opened))


async def _told(request: web.Request, opened: Opened) -> o.OrderAnswer:
    created = opened.created
    if created is None:
        return o.OrderAnswer(
            order_id=opened.order_id, status="failed", escrow_id=None, multisig_address=None, error=opened.error
        )
    try:
        state = await house_of(request).desk.state(created.escrow_id)
    except Exception as error:
        log.warning("order_not_read", error=type(error).__name__)
        state = None
    if state is not None:
        return views.order(state)
    # It was created, and that is all that can be said now.
    return o.OrderAnswer(
        order_id=opened.order_id,
        status=created.accepted.status,
        escrow_id=created.escrow_id,
        multisig_address=None,
        error=None,
    )


def _summary(answers: Sequence[o.OrderAnswer], *, begun: float) -> o.BatchSummary:
    failed = sum(each.error is not None for each in answers)
    under_way = sum(each.error is None and each.status in views.SETUP_STATES for each in answers)
    return o.BatchSummary(
        total=len(answers),
        successful=len(answers) - failed - under_way,
        failed=failed,
        duration_ms=round((time.monotonic() - begun) * 1000),
    )
