"""How the database finds what is asked of it: by an index, in the order in which it is wanted."""

import asyncpg
import pytest

from eventstore.opening import open_store
from eventstore.queries import QUERIES
from projections import postgres_reading
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


# Plans made while the tables are empty are kept as they grow: they must go by whole keys from the start.
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


CASES = """
insert into model_disputes (generation, partition, escrow_id, case_id, order_id, buyer_id, vendor_id, arbiter_id,
    amount, state, status, awaited, opened_by, opened_at, touched_at, fee_atomic)
select 1, 0, 'esc_' || n, 'case_' || n, 'o', 'b', 'v', 'judy', 1, 'disputed',
    (array['open', 'under_review', 'resolved'])[1 + n % 3], n % 3 < 2, 'buyer', n, n, 1
from generate_series(1, 3000) n
"""
READS = {
    "case": ("'case_7'", "Index Scan using model_disputes_case"),
    "cases_awaited": ("'judy', 2000, '', 101, null", "Index Scan Backward using model_disputes_awaited"),
    "cases_by_status": ("'judy', 2000, '', 101, null, 'open'", "Index Scan Backward using model_disputes_status"),
    "cases_all": ("'judy', 2000, '', 101, 'text'", "Index Scan Backward using model_disputes_arbiter"),
}


async def test_cases_are_read_by_the_index_that_has_them_in_order(postgres_dsn):
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("insert into read_models (model) values ('disputes'), ('messages')")
    await connection.execute(CASES)
    await connection.execute("analyze model_disputes")
    for mode in ("force_generic_plan", "force_custom_plan"):
        await connection.execute(f"set plan_cache_mode = {mode}")
        for query, (values, index) in READS.items():
            await connection.execute(f"prepare {query}_{mode} as {postgres_reading.QUERIES[query]}")
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain execute {query}_{mode} ({values})"))
            assert f"{index} on model_disputes" in plan, plan
            assert "Index Scan Backward using model_messages_pkey" in plan, plan
            assert "Sort Key" not in plan and "Bitmap" not in plan, plan
    await connection.close()
