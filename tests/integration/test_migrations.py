"""Migrations, roles and what the database itself enforces."""

import asyncio
import secrets
import shutil

import asyncpg
import pytest
from msgspec.structs import replace

from eventstore.api import Append, LogBusy, NewEvent
from eventstore.migrations import (
    SQL_FOLDER,
    DatabaseNewer,
    MigrationChanged,
    PartitionsFixed,
    RolesMissing,
    create_log,
    migrate,
    read_migrations,
)
from eventstore.opening import StoreUnsafe, open_store
from projections.models import MODELS
from tests.patience import PATIENT

ALL = [migration.name for migration in read_migrations(SQL_FOLDER)]


@pytest.fixture
async def connection(postgres_dsn):
    opened = await asyncpg.connect(postgres_dsn)
    yield opened
    await opened.close()


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(SQL_FOLDER, tmp_path / "sql")
    return tmp_path / "sql"


async def opened(dsn, *, partitions=1, limits=None):
    return await open_store(
        dsn=dsn, encryption_key=bytes(32), partitions=partitions, node_id="n", limits=limits or PATIENT
    )


async def with_one_event(dsn):
    store = await opened(dsn)
    event = NewEvent(type="t", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
    await store.log.append(Append(stream_id="s", expected_version=0, events=(event,), command_id="0" * 64))
    await store.aclose()


async def test_all_migrations_are_applied_once_in_order(postgres_empty_dsn):
    assert list(await migrate(postgres_empty_dsn)) == ALL
    assert list(await migrate(postgres_empty_dsn)) == []


async def test_processes_that_migrate_at_once_apply_each_once(postgres_empty_dsn):
    applied = await asyncio.gather(*(migrate(postgres_empty_dsn) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(ALL)]


async def test_a_changed_file_is_refused(postgres_dsn, folder):
    (folder / ALL[0]).write_text((folder / ALL[0]).read_text() + "\n")
    with pytest.raises(MigrationChanged, match=ALL[0]):
        await migrate(postgres_dsn, folders=(folder,))


async def test_a_database_of_a_newer_program_is_refused(postgres_dsn, folder):
    (folder / ALL[-1]).unlink()
    with pytest.raises(DatabaseNewer, match=ALL[-1]):
        await migrate(postgres_dsn, folders=(folder,))


async def test_a_failing_migration_leaves_nothing_behind(postgres_dsn, folder):
    (folder / "900_good.sql").write_text("create table good (a int);")
    (folder / "901_bad.sql").write_text("create tabel bad (a int);")
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await migrate(postgres_dsn, folders=(folder,))
    (folder / "901_bad.sql").unlink()
    assert list(await migrate(postgres_dsn, folders=(folder,))) == ["900_good.sql"]


async def test_a_case_that_was_called_decided_is_under_review_until_it_is_paid(postgres_empty_dsn, folder):
    for name in ALL[ALL.index("014_case_statuses.sql") :]:
        (folder / name).unlink()
    await migrate(postgres_empty_dsn, folders=(folder,))
    connection = await asyncpg.connect(postgres_empty_dsn)
    for number, status in enumerate(("open", "decided", "resolved")):
        await connection.execute(
            "insert into model_disputes (generation, partition, escrow_id, case_id, order_id, buyer_id, vendor_id,"
            " arbiter_id, amount, state, status, awaited, opened_by, opened_at, touched_at, fee_atomic)"
            " values (1, 0, $1, $1, 'o', 'b', 'v', 'a', 1, 's', $2, true, 'buyer', $3, 1, 0)",
            f"e{number}",
            status,
            number,
        )
    await migrate(postgres_empty_dsn)
    rows = await connection.fetch("select status from model_disputes order by opened_at")
    await connection.close()
    assert [row["status"] for row in rows] == ["open", "under_review", "resolved"]


async def test_the_number_of_partitions_is_fixed_when_the_log_is_created(postgres_dsn):
    await asyncio.gather(*(create_log(postgres_dsn, partitions=4) for _ in range(3)))
    with pytest.raises(PartitionsFixed, match="LOG_PARTITIONS=4 and cannot be opened with 2"):
        await create_log(postgres_dsn, partitions=2)


@pytest.mark.parametrize("partitions", [0, -1, 1025])
async def test_a_senseless_number_of_partitions_is_refused(postgres_dsn, partitions):
    with pytest.raises(ValueError, match="1 and 1024"):
        await create_log(postgres_dsn, partitions=partitions)


async def test_every_table_of_the_log_carries_its_partition(connection):
    rows = await connection.fetch(
        "select relname, exists (select from pg_attribute where attrelid = c.oid and attname = 'partition') as has"
        " from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    without = {row["relname"] for row in rows if not row["has"]}
    assert without == {"schema_migrations", "log_settings", "read_models"}
    assert len(rows) >= 11


CHANGES = ["update events set body = ''", "delete from events", "truncate events", "truncate events cascade"]


@pytest.mark.parametrize("change", CHANGES)
async def test_the_service_role_may_not_change_events(postgres_dsn, connection, change):
    await with_one_event(postgres_dsn)
    await connection.execute("set role thirdkey_app")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(change)


@pytest.mark.parametrize("role", ["thirdkey_owner", "a superuser"])
@pytest.mark.parametrize("change", CHANGES)
async def test_the_owner_and_a_superuser_run_into_the_triggers(postgres_dsn, connection, change, role):
    await with_one_event(postgres_dsn)
    if role == "thirdkey_owner":
        await connection.execute("set role thirdkey_owner")
    else:
        await connection.execute("set session_replication_role = replica")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await connection.execute(change)
    assert await connection.fetchval("select count(*) from events") == 1


async def test_the_service_role_has_the_least_it_needs(connection):
    rows = await connection.fetch(
        "select relname, array_to_string(array(select p from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE',"
        " 'TRUNCATE']) p where has_table_privilege('thirdkey_app', c.oid, p)"
        " or (p = 'UPDATE' and has_any_column_privilege('thirdkey_app', c.oid, p))), ' ') as may"
        " from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"]: row["may"] for row in rows} == {
        "events": "SELECT INSERT",
        "command_receipts": "SELECT INSERT",
        "signed_heads": "SELECT INSERT",
        "sealed_keys": "SELECT INSERT UPDATE",
        "log_heads": "SELECT UPDATE",
        "log_settings": "SELECT",
        "schema_migrations": "SELECT",
        "projection_checkpoints": "SELECT INSERT UPDATE DELETE",
        "read_models": "SELECT INSERT UPDATE",
        **{f"model_{model}": "SELECT INSERT UPDATE DELETE" for model in MODELS},
        "primed_wallets": "SELECT INSERT UPDATE DELETE",
        "evidence_blocks": "SELECT INSERT DELETE",
        "seat_leases": "SELECT INSERT UPDATE",
        "slot_leases": "SELECT INSERT UPDATE",
        "duty_leases": "SELECT INSERT UPDATE",
    }


@pytest.fixture
async def plain_user(postgres_server, postgres_empty_dsn):
    """A login without any right of its own; dropped after its database."""
    name = f"thirdkey_test_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(postgres_empty_dsn)
    await connection.execute(f"create role {name} login password 'test'")
    yield connection, name
    await connection.execute(f"drop owned by {name}")
    await connection.execute(f"drop role {name}")
    await connection.close()


async def test_a_user_who_may_not_make_the_roles_is_told_what_to_have_run(plain_user, postgres_empty_dsn):
    _, name = plain_user
    with pytest.raises(RolesMissing, match=f'grant thirdkey_owner, thirdkey_app to "{name}"'):
        await migrate(as_user(postgres_empty_dsn, name))


async def test_a_user_with_only_the_service_role_opens_a_migrated_log(plain_user, postgres_empty_dsn):
    connection, name = plain_user
    await migrate(postgres_empty_dsn)
    await create_log(postgres_empty_dsn, partitions=1)
    await connection.execute(f"grant thirdkey_app to {name}")
    await with_one_event(as_user(postgres_empty_dsn, name))


async def test_a_user_granted_both_roles_migrates(plain_user, postgres_empty_dsn):
    connection, name = plain_user
    await migrate(postgres_empty_dsn)
    await connection.execute(f"grant thirdkey_owner, thirdkey_app to {name}")
    await connection.execute("drop table sealed_keys; delete from schema_migrations where name = '003_sealed_keys.sql'")
    assert list(await migrate(as_user(postgres_empty_dsn, name))) == ["003_sealed_keys.sql"]


async def test_a_database_that_may_lose_commits_is_refused(postgres_dsn, connection):
    database = await connection.fetchval("select current_database()")
    await connection.execute(f"alter database {database} set synchronous_commit = off")
    with pytest.raises(StoreUnsafe, match="synchronous_commit"):
        await opened(postgres_dsn)


async def test_a_service_role_that_may_change_events_is_refused(postgres_dsn, connection):
    await connection.execute("grant update on events to thirdkey_app")
    with pytest.raises(StoreUnsafe, match="may change"):
        await opened(postgres_dsn)


async def test_a_lock_held_too_long_is_answered_with_try_later(postgres_dsn, connection):
    store = await opened(postgres_dsn, limits=replace(PATIENT, lock_timeout_s=0.1))
    event = NewEvent(type="t", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
    item = Append(stream_id="s", expected_version=0, events=(event,), command_id="0" * 64)
    async with connection.transaction():
        await connection.execute("select from log_heads for update")
        with pytest.raises(LogBusy):
            await store.log.append(item)
    assert (await store.log.append(item)).version == 1
    await store.aclose()


def as_user(dsn, name):
    head, _, query = dsn.partition("?")
    database = head.rpartition("/")[2]
    at = head.removeprefix("postgresql://").rpartition("/")[0].rpartition("@")[2]
    return f"postgresql://{name}:test@{at}/{database}?{query}"


@pytest.mark.parametrize(
    "change", ["update signed_heads set position = 9", "delete from signed_heads", "truncate signed_heads"]
)
async def test_a_superuser_runs_into_the_triggers_of_the_signed_heads(connection, change):
    await connection.execute(
        "insert into signed_heads (partition, position, chain, merkle_root, signed_at, key_id, signature, frontier)"
        " values (0, 1, sha256('a'), sha256('b'), 1, 'k', '', sha256('c'))"
    )
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await connection.execute(change)
