"""A row that a newer program wrote stops its escrow, with words that say so, and no other."""

import io
import json
import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from domain.evolve import ImpossibleHistory
from domain.ids import EscrowId
from eventstore.api import Append, Appended, NewEvent
from eventstore.opening import open_store
from service.logs import configure_logs
from tests.given import VENDOR
from tests.patience import PATIENT
from tests.worlds import World, house_world

NEWER = [("parcel_tracked", 1), ("shipped", 2)]
"""A type and a version that nobody here has heard of."""
CRASH_LIMIT = 5


@contextmanager
def _logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logs(stream=stream)
    try:
        yield stream
    finally:
        structlog.reset_defaults()


async def _written_by_a_newer_program(world: World, escrow_id: str, type: str, version: int) -> None:
    at = world.now()
    event = NewEvent(
        type=type,
        schema_version=version,
        occurred_at=at,
        meta=b"{}",
        body=json.dumps({"type": type, "at": at, "carrier": "pigeon"}, separators=(",", ":")).encode(),
    )
    item = Append(
        stream_id=escrow_id,
        expected_version=await world.version(escrow_id),
        events=(event,),
        command_id="ab" * 32,
    )
    assert isinstance(await world.house.store.log.append(item), Appended)


@pytest.mark.parametrize(("type", "version"), NEWER)
async def test_an_escrow_with_an_event_of_a_newer_program_stops_alone_and_says_so(type: str, version: int) -> None:
    with _logged() as stream:
        async with house_world() as world:
            stopped, other = await world.funded(), await world.funded()
            await _written_by_a_newer_program(world, stopped, type, version)
            answers = [
                await world.ask("POST", f"/api/escrows/{stopped}/ship", user=VENDOR) for _ in range(CRASH_LIMIT + 2)
            ]
            shown = await world.ask("GET", f"/api/escrows/{stopped}")
            assert {(status, problem["code"]) for status, problem in (*answers, shown)} == {(503, "event_unknown")}
            assert (await world.ask("POST", f"/api/escrows/{other}/ship", user=VENDOR))[0] == 200
            assert await world.house.store.log.read_stream(stopped, after_version=17) != []
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    lines = [line for line in told if line["event"] == "event_unknown"]
    assert {line["escrow"] for line in lines} == {stopped}
    assert f"{type} version {version}" in lines[0]["says"]
    assert "pigeon" not in stream.getvalue()


async def test_what_cannot_follow_is_another_problem_than_what_is_not_known() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        at = world.now()
        event = NewEvent(
            type="shipped", schema_version=1, occurred_at=at, meta=b"{}", body=b'{"type":"shipped","at":%d}' % at
        )
        item = Append(
            stream_id=escrow_id,
            expected_version=await world.version(escrow_id),
            events=(event,),
            command_id="cd" * 32,
        )
        await world.house.store.log.append(item)
        assert (await world.ask("POST", f"/api/escrows/{escrow_id}/cancel"))[1]["code"] == "escrow_stopped"
        with pytest.raises(ImpossibleHistory):
            await world.house.desk.state(EscrowId(escrow_id))


async def test_replay_tells_a_life_up_to_what_it_cannot_read(postgres_dsn: str, tmp_path: Path) -> None:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        escrow_id = await world.create()
        known = await world.version(escrow_id)
        await _written_by_a_newer_program(world, escrow_id, "parcel_tracked", 1)
        code, out, says = await _replay(escrow_id, dsn=postgres_dsn, home=tmp_path)
        assert (code, out) == (1, "")
        assert "parcel_tracked version 1 is no event this program can read" in says
        code, out, _ = await _replay(escrow_id, "--at-version", str(known), dsn=postgres_dsn, home=tmp_path)
        assert code == 0 and f"state setting_up at version {known}" in out


async def _replay(*arguments: str, dsn: str, home: Path) -> tuple[int, str, str]:
    process = await create_subprocess_exec(
        *(sys.executable, "-m", "service", "replay", *arguments),
        env={**os.environ, "DATABASE_URL": dsn, "ENCRYPTION_KEY": "00" * 32, "THIRDKEY_HOME": str(home)},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
