"""A node that takes a picture in, and is killed at one point on the picture's way, as a process of its own."""

import asyncio
import os
import signal
from enum import StrEnum
from typing import Any, NoReturn

import msgspec

from domain.ids import Cid, EscrowId
from eventstore.evidence import EvidenceBlocks
from eventstore.opening import Store, open_store
from tests.evidence_world import lay
from tests.patience import PATIENT
from tests.worlds import house_world

KEY = "the-same-request"


class Point(StrEnum):
    """Where the process is killed."""

    BEFORE_STORING = "before storing"
    AFTER_STORING = "after storing"
    AFTER_READING_BACK = "after reading back"
    AFTER_THE_EVENT = "after the event"


def lay_and_die(dsn: str, case_id: str, point: Point) -> None:
    """Sends one picture to its own doors and is gone before they answer."""
    asyncio.run(_lay_and_die(dsn, case_id, point))


async def _lay_and_die(dsn: str, case_id: str, point: Point) -> None:
    store = await opened(dsn)
    store = msgspec.structs.replace(store, evidence=_Dying(store.evidence, point))
    async with house_world(store=store) as world:
        if point is Point.AFTER_THE_EVENT:
            _die_after_the_event(world.house.desk)
        print("answered", await lay(world, case_id, key=KEY))


async def opened(dsn: str) -> Store:
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)


class _Dying:
    """A store of evidence whose process ends with a call."""

    def __init__(self, inner: EvidenceBlocks, point: Point) -> None:
        self._inner, self._point = inner, point

    async def add(self, escrow_id: EscrowId, sealed: bytes) -> Cid:
        if self._point is Point.BEFORE_STORING:
            _die()
        cid = await self._inner.add(escrow_id, sealed)
        if self._point is Point.AFTER_STORING:
            _die()
        return cid

    async def get(self, escrow_id: EscrowId, cid: Cid) -> bytes:
        data = await self._inner.get(escrow_id, cid)
        if self._point is Point.AFTER_READING_BACK:
            _die()
        return data

    async def sweep(self, *, older_than_s: float) -> Any:
        return await self._inner.sweep(older_than_s=older_than_s)


def _die_after_the_event(desk: Any) -> None:
    handle = desk.handle

    async def handle_and_die(*arguments: Any, **more: Any) -> NoReturn:
        await handle(*arguments, **more)
        _die()

    desk.handle = handle_and_die


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlives SIGKILL")
