"""What the database itself refuses about sealed keys, whoever asks."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

CHANGEABLE = {"wrapped", "wrapping_key_id", "rewrapped_at", "shredded_at"}
BLANKED = "update sealed_keys set wrapped = null, shredded_at = clock_timestamp() where stream_id = 'esc_1'"


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[Any]:
    """The tables' owner, with two keys: esc_1's may be shredded by the log, esc_2's is shredded."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(
        "insert into sealed_keys (partition, stream_id, wrapping_key_id, wrapped)"
        " values (0, 'esc_1', 'k', '\\x01'), (0, 'esc_2', 'k', '\\x02')"
    )
    await _event(connection, "esc_2", position=1)
    await connection.execute(BLANKED.replace("esc_1", "esc_2"))
    yield connection
    await connection.close()


async def _event(connection: Any, stream_id: str, *, position: int) -> None:
    await connection.execute(
        "insert into events (partition, position, stream_id, version, type, schema_version, command_id, occurred_at,"
        " meta, body, salt, leaf, chain) values (0, $2, $1, 1, 'key_shredded', 1, 'c', 1, '', '',"
        " substr(sha256('s'), 1, 16), sha256('l'), sha256('c'))",
        stream_id,
        position,
    )


@pytest.mark.parametrize("column", ["partition", "stream_id", "created_at"])
async def test_the_service_may_not_change_whose_a_key_is(connection: Any, column: str) -> None:
    await connection.execute("set role thirdkey_app")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(f"update sealed_keys set {column} = {column}")


async def test_the_service_may_change_how_a_key_is_wrapped_and_nothing_else(connection: Any) -> None:
    columns = await connection.fetch(
        "select attname from pg_attribute where attrelid = 'sealed_keys'::regclass and attnum > 0"
        " and has_column_privilege('thirdkey_app', 'sealed_keys', attname, 'UPDATE')"
    )
    assert {row["attname"] for row in columns} == CHANGEABLE
    await connection.execute("set role thirdkey_app")
    await connection.execute("update sealed_keys set wrapped = '\\x03', rewrapped_at = now() where stream_id = 'esc_1'")


@pytest.mark.parametrize("role", ["thirdkey_app", "thirdkey_owner"])
async def test_no_key_is_blanked_before_its_event(connection: Any, role: str) -> None:
    await connection.execute(f"set role {role}")
    with pytest.raises(asyncpg.RestrictViolationError, match="esc_1 has no key_shredded event"):
        await connection.execute(BLANKED)
    await connection.execute("reset role")
    await _event(connection, "esc_1", position=2)
    await connection.execute(f"set role {role}")
    assert await connection.execute(BLANKED) == "UPDATE 1"


@pytest.mark.parametrize(
    "change",
    [
        "update sealed_keys set wrapped = '\\x02', shredded_at = null where stream_id = 'esc_2'",
        "update sealed_keys set wrapping_key_id = 'other' where stream_id = 'esc_2'",
    ],
    ids=["brought back", "touched"],
)
@pytest.mark.parametrize("role", ["thirdkey_app", "thirdkey_owner", "replica"])
async def test_a_shredded_key_stays_shredded(connection: Any, role: str, change: str) -> None:
    await connection.execute("set session_replication_role = replica" if role == "replica" else f"set role {role}")
    with pytest.raises(asyncpg.RestrictViolationError, match="esc_2 was shredded and stays so"):
        await connection.execute(change)


@pytest.mark.parametrize("change", ["delete from sealed_keys", "truncate sealed_keys"])
async def test_no_key_is_removed_even_by_the_owner(connection: Any, change: str) -> None:
    await connection.execute("set role thirdkey_owner")
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(change)
