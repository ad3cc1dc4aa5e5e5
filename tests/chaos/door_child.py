"""A service node's doors, creator and desk, without slots or chain, as a process of its own on one Postgres."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import msgspec

from eventstore.opening import open_store
from tests.patience import PATIENT
from tests.worlds import house_world

PARTITIONS = 4


class DoorOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is: its name, its database, where it says how to reach it, and its limits."""

    name: str
    dsn: str
    folder: Path
    issuer: bytes
    settings: dict[str, Any]

    @property
    def url_file(self) -> Path:
        """Holds the node's address once it answers."""
        return self.folder / f"{self.name}.url"


def run(orders: DoorOrders) -> None:
    """Serves until it is told to end."""
    asyncio.run(_serve(orders))


async def _serve(orders: DoorOrders) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = await open_store(
        dsn=orders.dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id=orders.name, limits=PATIENT
    )
    async with house_world(store=store, issuer_public_key=orders.issuer, **orders.settings) as world:
        part = orders.url_file.with_suffix(".part")
        part.write_text(str(world.client.make_url("")))
        part.rename(orders.url_file)
        await stop.wait()
