"""Numbered SQL files, applied once each, in order, as `thirdkey_owner`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import msgspec

from eventstore.chain import GENESIS

SQL_FOLDER = Path(__file__).with_name("sql")
OWNER_ROLE = "thirdkey_owner"
PARTITIONS_MAX = 1024

Connection: TypeAlias = Any
"""An `asyncpg.Connection`; asyncpg ships no types."""

_LOCK = 0x7468_6972_646B_6579
"""Any fixed number: the advisory lock under which one process at a time migrates."""
_ROLES = Path(__file__).with_name("roles.sql")
_TABLE = """
create table if not exists schema_migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
)
"""


class MigrationChanged(Exception):
    """A migration that was applied is not the file it was: write a new one instead."""

    def __init__(self, *, name: str) -> None:
        super().__init__(f"{name} was applied with other contents")
        self.name = name


class DatabaseNewer(Exception):
    """The database was migrated by a newer program."""

    def __init__(self, *, names: Sequence[str]) -> None:
        super().__init__(f"migrations unknown to this program were applied: {', '.join(names)}")
        self.names = tuple(names)


class RolesMissing(Exception):
    """The connecting user may neither create the roles nor use them: an administrator has to, once."""

    def __init__(self, *, user: str) -> None:
        super().__init__(
            f"user {user} may not set up the roles of Thirdkey. Let a superuser run in this database:"
            f' create role thirdkey_owner; create role thirdkey_app; grant thirdkey_owner, thirdkey_app to "{user}";'
            " grant usage, create on schema public to thirdkey_owner; grant usage on schema public to thirdkey_app;"
        )
        self.user = user


class PartitionsFixed(Exception):
    """The log was created with another number of partitions; it cannot be changed."""

    def __init__(self, *, created_with: int, wanted: int) -> None:
        super().__init__(f"the log was created with LOG_PARTITIONS={created_with} and cannot be opened with {wanted}")
        self.created_with, self.wanted = created_with, wanted


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file: `NNN_name.sql`."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """The sha256 of its text, in hex."""
        return sha256(self.text.encode()).hexdigest()


def read_migrations(*folders: Path) -> Sequence[Migration]:
    """Reads the SQL files of the folders, folder after folder, each in order of its numbers.

    Raises `ValueError` when two files have one name.
    """
    files = [file for folder in folders for file in sorted(folder.glob("[0-9][0-9][0-9]_*.sql"))]
    if len({file.name for file in files}) != len(files):
        raise ValueError("two migrations have one name")
    return [Migration(name=file.name, text=file.read_text()) for file in files]


async def migrate(dsn: str, *, folders: Sequence[Path] = (SQL_FOLDER,)) -> Sequence[str]:
    """Applies what is missing, all in one transaction, and returns the names applied.

    Raises `MigrationChanged`, `DatabaseNewer` or `RolesMissing`. With nothing missing, a user who may only work as
    `thirdkey_app` will do.
    """
    wanted = read_migrations(*folders)
    connection = await asyncpg.connect(dsn)
    try:
        if not _missing(wanted, await _applied(connection)):
            return ()
        async with _as_owner(connection):
            await connection.execute(_TABLE)
            missing = _missing(wanted, await _applied(connection))
            for migration in missing:
                await connection.execute(migration.text)
                await connection.execute(
                    "insert into schema_migrations (name, checksum) values ($1, $2)",
                    migration.name,
                    migration.checksum,
                )
            return [migration.name for migration in missing]
    finally:
        await connection.close()


async def create_log(dsn: str, *, partitions: int) -> None:
    """Fixes the number of partitions and lays their heads, once; later only checks it.

    Raises `PartitionsFixed`, or `ValueError` outside 1..1024.
    """
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"LOG_PARTITIONS must be between 1 and {PARTITIONS_MAX}")
    connection = await asyncpg.connect(dsn)
    try:
        if await _created_with(connection) is None:
            async with _as_owner(connection):
                if await _created_with(connection) is None:
                    await _lay_heads(connection, partitions)
        created_with = await _created_with(connection)
    finally:
        await connection.close()
    if created_with != partitions:
        raise PartitionsFixed(created_with=created_with or 0, wanted=partitions)


@asynccontextmanager
async def _as_owner(connection: Connection) -> AsyncIterator[None]:
    """Opens one transaction as the owner, one process at a time."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        try:
            async with connection.transaction():
                await connection.execute(_ROLES.read_text())
                await connection.execute(f"set local role {OWNER_ROLE}")
        except asyncpg.InsufficientPrivilegeError:
            raise RolesMissing(user=await connection.fetchval("select session_user")) from None
        yield


async def _applied(connection: Connection) -> Mapping[str, str]:
    if await connection.fetchval("select to_regclass('schema_migrations')") is None:
        return {}
    rows = await connection.fetch("select name, checksum from schema_migrations")
    return {row["name"]: row["checksum"] for row in rows}


def _missing(wanted: Sequence[Migration], applied: Mapping[str, str]) -> Sequence[Migration]:
    for migration in wanted:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationChanged(name=migration.name)
    unknown = sorted(set(applied) - {migration.name for migration in wanted})
    if unknown:
        raise DatabaseNewer(names=unknown)
    return [migration for migration in wanted if migration.name not in applied]


async def _created_with(connection: Connection) -> int | None:
    found: int | None = await connection.fetchval("select partitions from log_settings")
    return found


async def _lay_heads(connection: Connection, partitions: int) -> None:
    await connection.execute("insert into log_settings (partitions) values ($1)", partitions)
    await connection.execute(
        "insert into log_heads (partition, position, chain) select n, 0, $2 from generate_series(0, $1 - 1) as n",
        partitions,
        GENESIS,
    )
