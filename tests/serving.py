"""How a test's own HTTP server is stopped, whatever its clients are doing at that moment."""

import asyncio

from aiohttp import web

ACCEPTED_IN = 4
"""Rounds of the event loop until what was accepted has become a connection (three, by asyncio's code), and one more."""


async def stop_serving(runner: web.AppRunner) -> None:
    """Stops a server so that no connection is left open.

    One that was just accepted when asyncio (3.11) closes its server is left open without a word, and so is one that is
    made while aiohttp (3.14) gathers its connections to close them; a warning then fails whatever test comes next. So
    nothing is accepted any more before the server is closed.
    """
    loop = asyncio.get_running_loop()
    for site in runner.sites:
        for listening in site._server.sockets:  # type: ignore[union-attr]
            loop.remove_reader(listening.fileno())
    for _ in range(ACCEPTED_IN):
        await asyncio.sleep(0)
    await runner.cleanup()
