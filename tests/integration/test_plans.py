"""Plans made while the tables are empty are kept as they grow: they must go by whole keys from the start."""

import asyncpg
import pytest

from eventstore.opening import open_store
from eventstore.queries import QUERIES
from tests.patience import PATIENT

NOTHING = ", ".join(["'{}'"] * 6)
CALLS = {
    "append_group": ("0, '1s', '1s', 0, '', 0, '', '{}', '{}'", ["Index Scan using log_heads_pkey"]),
    "append_group_checked": (
        f"0, '1s', '1s', 0, '', 0, '', {NOTHING}",
        ["(stream_id = base.stream_id)"],
    ),
    "append_group_behind": (
        f"0, '1s', '1s', 0, 0, {NOTHING}",
        ["(stream_id = base.stream_id)"],
    ),
    "known": ("0, '{}', '{}', '{}', '{}'", ["(command_id = c.command_id)", "(stream_id = s.stream_id)"]),
    "read_stream": ("0, 's', 0, 10", ["(stream_id = $2) AND (version > $3)"]),
    "read_streams": ("0, '{}', 0, 10", ["(stream_id = stream.id)"]),
    "read_firsts": ("0, '{}'", ["(stream_id = stream.id)"]),
    "read_partition": ("0, 0, 10", ['(partition = $1) AND ("position" > $2)']),
    "receipt": ("0, 's', 'c'", ["command_id = $3"]),
}


@pytest.mark.parametrize("query", CALLS)
async def test_a_query_on_an_empty_log_goes_by_the_index_that_fits_it(postgres_dsn, query):
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    values, expected = CALLS[query]
    connection: asyncpg.Connection
    async with store.pools[0].acquire() as connection:
        await connection.execute(f"prepare planned as {QUERIES[query]}")
        plan = "\n".join(row[0] for row in await connection.fetch(f"explain execute planned ({values})"))
    await store.aclose()
    assert all(part in plan for part in expected), plan
    assert "Seq Scan on" not in plan and "Bitmap" not in plan, plan
    assert plan.count("Sort Key") == (1 if query == "read_streams" else 0), plan
