"""Programs we own: ended by identity, found after a crash of the service, and never mistaken for another's."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from actors.monero_programs import LOOPBACK, WalletProgram, regtest_program, reserved_port, wallet_program
from actors.processes import ProcessKeeper, Program, ProgramFailed, port_answers

SLEEPER = ("sleep", "300")
STUBBORN = ("/bin/sh", "-c", "trap 'echo asked' TERM; echo deaf; while :; do sleep 0.05; done")


def program(name, argv=SLEEPER, stop_limit_s=60.0):
    return Program(name=name, argv=argv, stop_limit_s=stop_limit_s)


def deaf(out):
    return saying(out, "deaf")


def saying(out, word):
    async def said() -> bool:
        return word in out.read_text()

    return said


def pid_of(keeper, name):
    found = keeper.find(name)
    return found.pid if found and found.alive else None


async def test_a_program_runs_until_it_is_stopped(tmp_path):
    keeper = ProcessKeeper(tmp_path)
    process = await keeper.start(program("a"))
    assert process.alive and pid_of(keeper, "a") == process.pid
    await process.stop()
    assert not process.alive and keeper.find("a") is None
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


async def test_one_name_runs_once(tmp_path):
    keeper = ProcessKeeper(tmp_path)
    process = await keeper.start(program("a"))
    with pytest.raises(ProgramFailed, match="already running"):
        await keeper.start(program("a"))
    await process.stop()


async def test_who_ignores_the_request_is_killed_after_its_limit(tmp_path):
    process = await ProcessKeeper(tmp_path).start(program("a", STUBBORN, 0.3))
    await process.ready(deaf(tmp_path / "a.out"), limit_s=60)
    started = time.monotonic()
    await process.stop()
    assert not process.alive and time.monotonic() - started >= 0.3


async def test_a_stopped_program_is_ended_as_well(tmp_path):
    process = await ProcessKeeper(tmp_path).start(program("a"))
    os.kill(process.pid, signal.SIGSTOP)
    await process.stop()
    assert not process.alive


async def test_a_program_that_cannot_run_is_said_to_have_failed(tmp_path):
    keeper = ProcessKeeper(tmp_path)

    async def never():
        return False

    with pytest.raises(ProgramFailed, match="died"):
        process = await keeper.start(program("a", ("/nowhere/to/be/found",)))
        await process.ready(never, limit_s=60)


async def test_a_program_that_is_never_ready_is_given_up(tmp_path):
    process = await ProcessKeeper(tmp_path).start(program("a"))
    with reserved_port() as port, pytest.raises(ProgramFailed, match="not ready"):
        await process.ready(lambda: port_answers(port), limit_s=0.2)
    await process.stop()


def test_a_reserved_port_is_its_programs_own_and_nobody_elses():
    with reserved_port() as port, contextlib.ExitStack() as stack:
        others = [stack.enter_context(socket.socket()) for _ in range(500)]
        for other in others:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind((LOOPBACK, 0))
        assert port not in {other.getsockname()[1] for other in others}
        with socket.create_server((LOOPBACK, port)), socket.create_connection((LOOPBACK, port)):
            pass
        for _ in range(500):  # whose own end might be that very port: they would talk to themselves
            with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
                caller.connect((LOOPBACK, port))


async def test_orphans_of_a_killed_service_are_found_and_ended(tmp_path):
    # The service is another Python that starts two programs and is killed before it can end them.
    script = (
        "import asyncio, pathlib, sys, time\n"
        "from actors.processes import *\n"
        "async def main():\n"
        "    keeper = ProcessKeeper(pathlib.Path(sys.argv[1]))\n"
        "    for name in ('a', 'b'):\n"
        "        process = await keeper.start(Program(name=name, argv=('sleep', '300')))\n"
        "        print(process.pid, flush=True)\n"
        "    time.sleep(300)\n"
        "asyncio.run(main())\n"
    )
    service = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    pids = [int(service.stdout.readline()) for _ in range(2)]
    service.kill()
    service.wait()
    service.stdout.close()
    keeper = ProcessKeeper(tmp_path)
    assert pid_of(keeper, "a") == pids[0]
    assert await keeper.end_orphans(stop_limit_s=60) == ("a", "b")
    assert keeper.find("a") is None and keeper.find("b") is None
    assert await keeper.end_orphans() == ()


async def test_a_pid_that_belongs_to_another_by_now_is_left_alone(tmp_path):
    keeper = ProcessKeeper(tmp_path)
    mine = await keeper.start(program("mine"))
    stat, boot_id = (tmp_path / "mine.pid").read_text().splitlines()
    start = stat.rpartition(")")[2].split()[19]
    for name, text in {
        "earlier": f"{stat.replace(start, '1')}\n{boot_id}\n",
        "boot": f"{stat}\nanother-boot\n",
        "torn": stat[:20],
        "empty": "",
    }.items():
        (tmp_path / f"{name}.pid").write_text(text)
        assert keeper.find(name) is None
    assert await keeper.end_orphans(stop_limit_s=60) == ("mine",)
    assert not mine.alive


async def test_a_login_is_not_to_be_seen_in_the_command_line(tmp_path):
    wallet = WalletProgram(
        name="w", folder=tmp_path / "w", port=1, daemon_address="127.0.0.1:2", login=("caller", "open sesame")
    )
    argv = " ".join(wallet_program(wallet).argv)
    assert "sesame" not in argv and "--config-file" in argv
    (file,) = (tmp_path / "w").glob("*.conf")
    assert "open sesame" in file.read_text() and file.stat().st_mode & 0o077 == 0


async def test_every_address_we_bind_is_the_loopback(tmp_path):
    wallet = WalletProgram(name="w", folder=tmp_path / "w", port=1, daemon_address="127.0.0.1:2")
    for argv in (wallet_program(wallet).argv, regtest_program(folder=tmp_path / "c", port=3, p2p_port=4).argv):
        bound = [after for flag, after in itertools.pairwise(argv) if flag.endswith("bind-ip")]
        assert bound and set(bound) == {"127.0.0.1"}


async def test_many_programs_end_side_by_side(tmp_path):
    keeper = ProcessKeeper(tmp_path)
    names = [f"p{number}" for number in range(4)]
    processes = [await keeper.start(program(name, STUBBORN)) for name in names]
    for process in processes:
        await process.ready(deaf(tmp_path / f"{process.name}.out"), limit_s=60)
    ending = asyncio.create_task(keeper.end_orphans(stop_limit_s=600))
    for process in processes:  # all are asked before the first of them has ended
        await process.ready(saying(tmp_path / f"{process.name}.out", "asked"), limit_s=60)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    assert await ending == tuple(names)
