"""Routes for those who take nobody's word: the signed heads for everybody, an escrow's bundle for its three."""

import re

import msgspec
from aiohttp import web

from schemas.heads import PublishedHeads
from service.api.door import JSON, path_escrow
from service.bundle import BundleMaker, BundleTooLong
from service.heads import HeadBoard
from service.house import House
from service.problems import Refusal

BOARD = web.AppKey("heads", HeadBoard)
BUNDLES = web.AppKey("bundles", BundleMaker)
HEADS_PATH = "/.well-known/thirdkey-heads.json"
CACHE_S = 10
"""How long anybody between may keep the published heads: they change once a minute."""


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [web.get(HEADS_PATH, show_heads), web.get("/api/escrows/{escrow_id}/bundle", show_bundle)]


def install(app: web.Application, house: House) -> None:
    """Makes what the routes work with."""
    app[BOARD] = HeadBoard(house.store.heads, clock=house.clock)
    app[BUNDLES] = BundleMaker(house.store.log, house.store.heads, clock=house.clock)


async def show_heads(request: web.Request) -> web.Response:
    """Shows the newest signed head of each partition, and the keys; needs no token."""
    shown: PublishedHeads = await request.app[BOARD].shown()
    headers = {"Cache-Control": f"public, max-age={CACHE_S}"}
    return web.Response(body=msgspec.json.encode(shown), content_type=JSON, headers=headers)


async def show_bundle(request: web.Request) -> web.Response:
    """Shows an escrow's bundle; `since` is a position at which the caller knows a signed head."""
    _, state = await path_escrow(request)
    try:
        bundle = await request.app[BUNDLES].make(state.core.terms.escrow_id, since=_since(request))
    except BundleTooLong:
        raise Refusal("bundle_too_long") from None
    if bundle is None:
        raise Refusal("no_such_escrow")
    return web.Response(body=msgspec.json.encode(bundle), content_type=JSON)


def _since(request: web.Request) -> tuple[int, ...]:
    for field in request.query:
        if field != "since" or len(request.query.getall(field)) > 1:
            raise Refusal("validation", detail="Unknown, or given twice", facts={"path": field[:64]})
    text = request.query.get("since")
    if text is not None and not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise Refusal("validation", detail="Expected a position", facts={"path": "since"})
    return () if text is None else (int(text),)
