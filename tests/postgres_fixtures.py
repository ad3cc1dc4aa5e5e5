"""A Postgres for tests: `DATABASE_URL`, or an embedded one per worker; a fresh, migrated database for each test."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from eventstore.embedded import start_embedded
from eventstore.migrations import migrate
from tests.patience import PATIENCE_S

T = TypeVar("T")


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a thread of its own: a fixture may be set up from within a test's running loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


@dataclass(frozen=True)
class PostgresServer:
    """A server for this worker; `dsn` is an administrator's."""

    dsn: str
    template: str

    def dsn_of(self, database: str) -> str:
        head, _, query = self.dsn.partition("?")
        return f"{head.rpartition('/')[0]}/{database}?{query}"

    def run(self, statement: str) -> None:
        run_apart(self._run(statement))

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn, timeout=PATIENCE_S)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await _executed(connection, statement)
        finally:
            await connection.close()


async def _executed(connection: Any, statement: str) -> None:
    """Makes or drops a database; the server itself waits five seconds for whoever has just left it, and no longer."""
    while True:
        try:
            await connection.execute(statement)
            return
        except asyncpg.ObjectInUseError:
            await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Starts or joins the server and makes the template that the tests' databases are copied from."""
    template = f"thirdkey_template_{secrets.token_hex(6)}"
    given = os.environ.get("DATABASE_URL")
    if given:
        yield from _with_template(PostgresServer(dsn=given, template=template))
        return
    # Not under pytest's own temporary folder: as root the server's user has to pass every folder above it.
    folder = Path(tempfile.mkdtemp(prefix="thirdkey-test-"))
    embedded = run_apart(start_embedded(folder / "pg", durable=False))
    try:
        yield from _with_template(PostgresServer(dsn=embedded.dsn, template=template))
    finally:
        run_apart(embedded.stop())
        shutil.rmtree(folder)


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """Gives one test a database of its own, migrated, without a log in it yet."""
    with fresh_database(postgres_server) as dsn:
        yield dsn


@contextmanager
def fresh_database(server: PostgresServer) -> Iterator[str]:
    """Makes a database, migrated, without a log in it yet, for a test that needs several one after another."""
    yield from _with_database(server, f"template {server.template}")


@pytest.fixture
def postgres_empty_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """Gives one test an empty database of its own."""
    yield from _with_database(postgres_server, "")


def _with_template(server: PostgresServer) -> Iterator[PostgresServer]:
    server.run(f"create database {server.template}")
    try:
        run_apart(migrate(server.dsn_of(server.template)))
        yield server
    finally:
        server.run(f"drop database {server.template} with (force)")


def _with_database(server: PostgresServer, options: str) -> Iterator[str]:
    name = f"thirdkey_test_{secrets.token_hex(6)}"
    server.run(f"create database {name} {options}")
    try:
        yield server.dsn_of(name)
    finally:
        server.run(f"drop database {name} with (force)")
