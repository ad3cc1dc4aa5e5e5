"""The second making of the chain, in SQL, gives the bytes of the first."""

from collections.abc import Sequence

import asyncpg
import pytest

from eventstore.chain import GENESIS
from eventstore.opening import open_store
from eventstore.plan import Row, hashed
from tests.patience import PATIENT

SALTS = (bytes(16), bytes(range(240, 256)))
ODD: Sequence[Row] = [
    ("s", 1, "t", 1, "c", 0, b"", b"", SALTS[0]),
    ("Straße/\\x41\\", 2_147_483_647, "ключ", 32_767, "'\"\\\\", -1, b"\x00\\x41\xff", b"\\", SALTS[1]),
    ("\N{SNOWMAN}" * 300, 10, "a" * 256, 12, "0" * 64, 2**63 - 1, b"{}", bytes(range(256)) * 300, SALTS[1]),
]


@pytest.mark.parametrize("position", [0, 9, 2**40])
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_leaves_and_chains_made_in_sql_are_those_of_the_program(postgres_dsn, position, count):
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    rows, chain = ODD[:count], GENESIS if position == 0 else bytes(range(32))
    connection: asyncpg.Connection
    async with store.pools[0].acquire() as connection:
        made = await connection.fetchrow(
            "select leaves, chains from chain_events($1, $2, $3, $4)", 1023, position, chain, rows
        )
    await store.aclose()
    expected = hashed(rows, partition=1023, position=position, chain=chain)
    assert (made["leaves"], made["chains"]) == (expected.leaves, expected.chains)
