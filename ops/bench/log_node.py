"""One node of `make bench-log`: a process of its own that appends when it is told to, until its input ends."""

import asyncio
import sys

import msgspec

from eventstore.opening import open_store
from ops.bench.writers import OurWriter


async def main(dsn: str, *, partitions: int, appenders: int) -> None:
    """Says that it is ready; then appends for as many seconds as each line says, and prints what that came to."""
    store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=partitions, node_id="bench")
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        load = await OurWriter(store).run(appenders=appenders, seconds=float(line))
        print(msgspec.json.encode(load).decode(), flush=True)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], partitions=int(sys.argv[2]), appenders=int(sys.argv[3])))
