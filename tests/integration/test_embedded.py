"""The embedded Postgres: it starts, joins, survives kills and stale files, stays private and really stops."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from eventstore.api import AlreadyDone, Append, Appended, LogUnavailable, NewEvent, OutcomeUnknown
from eventstore.embedded import start_embedded
from eventstore.embedded_os import EmbeddedFailed, assert_private, programs, server_processes, server_user
from eventstore.opening import open_store
from tests.patience import PATIENCE_S, PATIENT
from tests.postgres_fixtures import run_apart


@pytest.fixture
def empty_folder():
    """A short folder of its own: as root the server's user has to pass everything above it."""
    made = Path(tempfile.mkdtemp(prefix="thirdkey-test-"))
    yield made / "pg"
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def stopped_cluster():
    """A cluster made once per worker: copying it takes a tenth of the time that `initdb` does."""
    made = Path(tempfile.mkdtemp(prefix="thirdkey-test-"))
    server = run_apart(start_embedded(made / "pg", durable=False))
    run_apart(server.stop())
    yield made / "pg"
    shutil.rmtree(made)


@pytest.fixture
def folder(empty_folder, stopped_cluster):
    subprocess.run(["cp", "-a", stopped_cluster, empty_folder], check=True)
    return empty_folder


async def ask(dsn, query="select 1"):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def kill_all(postmaster, data):
    for pid in (postmaster, *server_processes(data)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def until_gone(pid):
    async with asyncio.timeout(PATIENCE_S):
        while alive(pid):
            await asyncio.sleep(0.02)


async def test_it_starts_answers_commits_durably_and_stops(empty_folder):
    server = await start_embedded(empty_folder)
    assert await ask(server.dsn) == 1
    assert await ask(server.dsn, "show synchronous_commit") == "on"
    assert await ask(server.dsn, "show fsync") == "on"
    assert await ask(server.dsn, "show listen_addresses") == ""
    await server.stop()
    assert not alive(server.pid)
    await server.stop()


async def test_what_was_written_is_there_after_a_restart(folder):
    server = await start_embedded(folder, durable=False)
    await ask(server.dsn, "create table kept as select 42 as n")
    await server.stop()
    server = await start_embedded(folder, durable=False)
    assert await ask(server.dsn, "select n from kept") == 42
    await server.stop()


async def test_a_second_user_of_the_folder_joins_and_the_last_one_ends_it(folder):
    first, second = await asyncio.gather(start_embedded(folder, durable=False), start_embedded(folder, durable=False))
    assert first.pid == second.pid
    await first.stop()
    await first.stop()
    assert await ask(second.dsn) == 1
    await second.stop()
    assert not alive(second.pid)


async def test_after_kill_9_it_starts_again_and_no_acknowledged_append_is_lost(folder):
    server = await start_embedded(folder)
    store = await open_store(dsn=server.dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    event = NewEvent(type="t", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
    items = [Append(stream_id="s", expected_version=n, events=(event,), command_id=f"{n:064x}") for n in range(10_000)]
    acknowledged = 0
    asyncio.get_running_loop().call_later(0.3, kill_all, server.pid, folder / "data")
    with pytest.raises((OutcomeUnknown, LogUnavailable)):
        for item in items:
            await store.log.append(item)
            acknowledged += 1
    again = await start_embedded(folder)
    assert again.pid != server.pid
    assert acknowledged <= len(await store.log.read_stream("s", limit=10_000)) <= acknowledged + 1
    assert isinstance(await store.log.append(items[acknowledged]), Appended | AlreadyDone)
    assert isinstance(await store.log.append(items[acknowledged + 1]), Appended)
    await store.aclose()
    await again.stop()
    await server.stop()
    assert not alive(again.pid)


@pytest.mark.parametrize("whose", ["ours", "another user's", "nobody's"])
async def test_a_stale_pid_file_is_not_believed(folder, whose):
    server = await start_embedded(folder, durable=False)
    os.kill(server.pid, signal.SIGKILL)
    await until_gone(server.pid)
    pid_file = folder / "data" / "postmaster.pid"
    pid = {"ours": os.getpid(), "another user's": 1, "nobody's": 2**22 - 1}[whose]
    pid_file.write_text(pid_file.read_text().replace(str(server.pid), str(pid), 1))
    again = await start_embedded(folder, durable=False)
    assert await ask(again.dsn) == 1
    await again.stop()
    await server.stop()


async def test_a_server_that_does_not_answer_is_replaced(folder, monkeypatch):
    # Of one that was just started, more patience is asked than this.
    monkeypatch.setattr("eventstore.embedded.PROBE_TIMEOUT_S", 0.001)
    monkeypatch.setattr("eventstore.embedded.ORPHANS_TIMEOUT_S", 0.3)
    server = await start_embedded(folder, durable=False)
    os.kill(server.pid, signal.SIGSTOP)
    again = await start_embedded(folder, durable=False)
    assert again.pid != server.pid and not alive(server.pid)
    assert await ask(again.dsn) == 1
    await server.stop()
    await again.stop()


async def test_an_interrupted_first_start_is_begun_anew(empty_folder):
    (empty_folder / "data.new").mkdir(parents=True)
    (empty_folder / "data.new" / "PG_VERSION").write_text("18\n")
    server = await start_embedded(empty_folder, durable=False)
    assert await ask(server.dsn) == 1
    await server.stop()


@pytest.mark.parametrize("name", ["x" * 120, 'it\'s a "test" $HOME; é'], ids=["long", "odd"])
async def test_a_long_or_odd_path_gets_a_private_short_socket(folder, name):
    deep = folder.with_name(name) / "pg"
    deep.parent.mkdir()
    folder.rename(deep)
    server = await start_embedded(deep, durable=False)
    assert await ask(server.dsn) == 1
    found = server.socket_folder.stat()
    assert stat.S_IMODE(found.st_mode) == 0o700
    assert found.st_uid == (deep / "data").stat().st_uid
    assert (server.socket_folder == deep / "run") == (len(name) < 100)
    socket = server.socket_folder / ".s.PGSQL.5432"
    assert len(os.fsencode(socket)) <= 107 and stat.S_ISSOCK(socket.stat().st_mode)
    await server.stop()
    assert not socket.exists()
    assert server.socket_folder.exists() == (len(name) < 100), "a short folder goes with its server"


async def test_a_socket_folder_others_may_enter_is_refused(folder):
    server = await start_embedded(folder, durable=False)
    (folder / "run").chmod(0o755)
    with pytest.raises(EmbeddedFailed, match="not private"):
        assert_private(folder / "run", server_user(folder))
    await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
async def test_another_user_of_the_machine_cannot_connect(folder):
    server = await start_embedded(folder, durable=False)
    # Even past the folder's permissions, the server asks the kernel who calls.
    (folder / "run").chmod(0o711)
    (folder / "run" / ".s.PGSQL.5432").chmod(0o777)
    try:
        nobody = pwd.getpwnam("nobody")
        tried = subprocess.run(
            [programs() / "psql", "-c", "select 1", server.dsn],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            env={"LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Peer authentication failed" in tried.stderr
    finally:
        await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
async def test_as_root_a_closed_parent_is_opened_to_pass_and_no_further(folder):
    closed = folder.with_name("closed")
    closed.mkdir(mode=0o700)
    folder.rename(closed / "pg")
    open_before = stat.S_IMODE(folder.parent.parent.stat().st_mode)
    server = await start_embedded(closed / "pg", durable=False)
    await server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE(folder.parent.parent.stat().st_mode) == open_before
    assert stat.S_IMODE((closed / "pg" / "data").stat().st_mode) == 0o700


OWNER = """
import asyncio, signal, sys
from pathlib import Path
from eventstore.embedded import start_embedded
async def main():
    server = await start_embedded(Path(sys.argv[1]), durable=False)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(server.pid, flush=True)
    if sys.argv[2] == "leave":
        return
    await stopped.wait()
    await server.stop()
asyncio.run(main())
"""


async def owner_process(folder, *, how="wait"):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(folder), how, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def test_an_owner_that_ends_on_sigterm_takes_the_server_with_it(folder):
    process, pid = await owner_process(folder)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert not alive(pid)


async def test_an_owner_that_forgets_to_stop_takes_the_server_with_it(folder):
    process, pid = await owner_process(folder, how="leave")
    assert await process.wait() == 0
    assert not alive(pid)


async def test_the_server_of_a_killed_owner_is_taken_over_and_ended_by_the_next(folder):
    process, pid = await owner_process(folder)
    process.kill()
    await process.wait()
    assert alive(pid)
    server = await start_embedded(folder, durable=False)
    assert server.pid == pid
    await server.stop()
    assert not alive(pid)


async def test_the_services_environment_stays_out_of_the_server(folder, monkeypatch):
    monkeypatch.setenv("ENCRYPTION_KEY", "a secret")
    server = await start_embedded(folder, durable=False)
    assert b"secret" not in Path(f"/proc/{server.pid}/environ").read_bytes()
    await server.stop()
