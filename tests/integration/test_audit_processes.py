"""Several processes check a log as one does: the same figures, and the same findings in the same order."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from eventstore.heads import SignedHead
from eventstore.opening import open_store
from ops.bench.life import fill
from service.audit import FINDINGS_KEPT, HeadSources, Verified, verify
from service.audit_processes import EVENTS_A_PROCESS, processes_for, together, verify_together
from service.head_checks import Outside
from service.read_log import Read, reading_at
from tests.bundle_world import KEY_ID

PARTITIONS = 4
EVENTS = 400
TAMPERED = (
    "update events set body = body || ' ' where partition = 0 and position = 7",
    "delete from events where partition = 1 and position = 3",
    "update events set position = 1000 where partition = 2 and position = 5",
    "update events set leaf = chain where partition = 3 and position between 1 and 40",
    "update log_heads set position = position + 5 where partition = 3",
)

# Each of the others is a process that imports the service: seconds of a loaded machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def read(postgres_dsn: str) -> AsyncIterator[Read]:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="n")
    await store.aclose()
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await fill(connection, partitions=PARTITIONS, events=EVENTS, name="esc_life")
        async with reading_at(postgres_dsn) as opened:
            yield opened
    finally:
        await connection.close()


async def tamper(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("alter table events disable trigger all")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def elsewhere(read: Read) -> HeadSources:
    """A head of a partition that is not there, and one that no key signed, as an auditor might be handed them."""
    made_up = SignedHead(
        partition=2,
        position=3,
        chain=bytes(32),
        merkle_root=bytes(32),
        signed_at=1,
        key_id=KEY_ID,
        signature=bytes(64),
    )
    heads = (made_up, msgspec.structs.replace(made_up, partition=9))
    return HeadSources(stored=read.heads, outside=Outside(name="heads.jsonl", heads=heads), trusted=frozenset({KEY_ID}))


async def test_several_processes_find_what_one_finds(read: Read, postgres_dsn: str) -> None:
    for statements in ((), TAMPERED):
        await tamper(postgres_dsn, *statements)
        alone = await verify(read.log, heads=elsewhere(read))
        assert alone.count > FINDINGS_KEPT, "the first of them are kept, whoever found them"
        for processes in (1, 2, PARTITIONS + 1):
            seen: dict[int, int] = {}  # how many of how many
            told = await verify_together(
                read, elsewhere(read), dsn=postgres_dsn, processes=processes, progress=seen.__setitem__
            )
            assert told == alone
            assert max(seen) == alone.events


@pytest.mark.usefixtures("read")
async def test_the_command_says_the_same_with_several_processes(postgres_dsn: str, tmp_path: Path) -> None:
    one, two = [await run(postgres_dsn, tmp_path, "--processes", processes) for processes in ("1", "2")]
    assert one == two
    assert f"{EVENTS // 43 * 43 + 43} events" in one[1]
    code, out, err = await run(postgres_dsn, tmp_path, "--processes", "0")
    assert (code, "at least 1" in out + err) == (2, True)


async def test_a_large_log_alone_takes_several_processes() -> None:
    assert [processes_for(events) for events in (0, EVENTS_A_PROCESS, 2 * EVENTS_A_PROCESS - 1)] == [1, 1, 1]
    assert 1 <= processes_for(2 * EVENTS_A_PROCESS) <= 2


def test_what_one_process_came_to_alone_stays_what_it_is() -> None:
    alone = Verified(events=3, streams=2, escrows=1, partitions=1, heads=0, uncovered=3, count=0, findings=())
    assert together([alone]) == alone
    assert msgspec.json.decode(msgspec.json.encode(alone), type=Verified) == alone


async def run(dsn: str, home: Path, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "audit", "verify", *arguments),
        env={**os.environ, "DATABASE_URL": dsn, "ENCRYPTION_KEY": "00" * 32, "THIRDKEY_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
