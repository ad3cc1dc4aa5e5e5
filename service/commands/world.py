"""`thirdkey world`: Postgres, chain and wallet slots alone, for nodes to join."""

import sys

from rich.console import Console

from service.commands.serve import CANNOT_SERVE, refuse_unsupported, told_to_stop
from service.embedded import embedded_world, folder_lock
from service.given_slots import given_slots
from service.logs import configure_logs
from service.settings import Settings


async def world(settings: Settings, *, console: Console) -> int:
    """Runs the world of the data folder until SIGINT or SIGTERM and returns 0, or says why it cannot and returns 1."""
    configure_logs()
    try:
        refuse_unsupported(settings)
        given_slots(settings)
        stop = told_to_stop()
        with folder_lock(settings.thirdkey_home):
            async with embedded_world(settings) as running:
                console.print(f"private chain at {running.daemon_url}", soft_wrap=True)
                console.print("nodes join with: thirdkey serve --node NAME", highlight=False)
                await stop.wait()
                console.print("stopping")
    except CANNOT_SERVE as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 1
    return 0
