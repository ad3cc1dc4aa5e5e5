"""A test's server leaves no connection open, at whichever moment a client came."""

import asyncio
import gc
import socket
import warnings

import pytest
from aiohttp import web

from tests.serving import stop_serving


@pytest.mark.parametrize("rounds", range(6))
def test_a_connection_that_comes_while_the_server_stops_is_closed(rounds: int) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(_stopped_after(rounds))
        gc.collect()
    assert [str(each.message) for each in said if "unclosed" in str(each.message)] == []


async def _stopped_after(rounds: int) -> None:
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with socket.create_connection(runner.addresses[0][:2]):
        for _ in range(rounds):
            await asyncio.sleep(0)
        await stop_serving(runner)
