"""What every route that answers from a read model needs: a query checked, a page bounded, its callers' writes in."""

import asyncio
import re
from collections.abc import Mapping

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain.ids import Sealed
from eventstore.api import SealBroken
from schemas.cursor import BadCursor, decode_cursor
from schemas.sealing import SealedKind
from service.api.door import house_of
from service.problems import Refusal


def check_query(request: web.Request, allowed: Mapping[str, frozenset[str] | None]) -> None:
    """Refuses a query with a field that is unknown or given twice, or a value that is none of its field's.

    `allowed` says for each field which values it may have, None for any.
    """
    for field, value in request.query.items():
        if field not in allowed:
            raise Refusal("validation", detail="Unknown filter", facts={"path": field[:64]})
        if len(request.query.getall(field)) > 1:
            raise Refusal("validation", detail="Given twice", facts={"path": field})
        values = allowed[field]
        if "\0" in value or (values is not None and value not in values):
            raise Refusal("validation", detail="Unknown value", facts={"path": field})


def limit_of(request: web.Request) -> int:
    """Reads how many lines a page may have; raises `Refusal` outside of 1 to the setting's bound."""
    most = house_of(request).settings.page_max
    text = request.query.get("limit", str(most))
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text) or int(text) > most:
        raise Refusal("validation", detail=f"Expected 1 to {most}", facts={"path": "limit"})
    return int(text)


async def own_writes(request: web.Request, *models: str) -> None:
    """Waits, for a bounded time, until models have passed what the caller wrote.

    That is the cursor in `seen` where the caller names one, else everything in the log, whoever wrote it. When it
    takes too long the answer is given all the same: its own cursor says how far it is.
    """
    house = house_of(request)
    timeout_s = house.settings.own_writes_wait_s
    seen = request.query.get("seen")
    try:
        positions = decode_cursor(seen) if seen is not None else await house.models.ends()
    except BadCursor:
        raise Refusal("cursor_invalid", facts={"path": "seen"}) from None
    await asyncio.gather(*(house.models.passed(model, positions, timeout_s=timeout_s) for model in models))


async def open_text(sealing: EscrowSecrets, kind: SealedKind, place: str, sealed: Sealed | None) -> str | None:
    """Opens a sealed text; None where there is none, or where its key is shredded: the rest is shown all the same."""
    if sealed is None:
        return None
    try:
        return await sealing.open(kind, place, sealed)
    except SealBroken:
        return None
