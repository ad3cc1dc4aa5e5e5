"""The scanner's process is killed, stopped, orphaned, speaks garbage, or meets what is made to slow it."""

import asyncio
import copy
import os
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.ports import Blindness, DaemonDown
from actors.scan.child import MEMORY_MAX_BYTES
from actors.scan.process import ScannerProcess
from tests.chaos.scanner_parent import have_a_scanner
from tests.patience import PATIENCE_S
from tests.scan_daemon import answering
from tests.scan_process import PATIENT, look_until_seen, scanner_of, told_blind
from tests.scan_world import MemoryChain, Receiver, payment, places, times_base
from tests.service_process import start_process

ALICE, BOB = Receiver("alice"), Receiver("bob")
TARGETS = [ALICE.target(), BOB.target()]
STILL = msgspec.structs.replace(PATIENT, patience_s=1.0, silent_s=10.0)
"""Long enough for a process to start on a busy machine, short enough to be waited for."""


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while _state(pid) not in "ZX":
            await asyncio.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


async def test_a_killed_scanner_is_told_of_and_the_next_goes_on_where_it_was(tmp_path):
    chain = MemoryChain(blocks=5)
    chain.send(payment(ALICE, 7, nonce="deposit"))
    mined = chain.mine(3)
    async with answering(chain) as door, scanner_of(door, file=tmp_path / "scanned.seen") as scanner:
        before = await look_until_seen(scanner, TARGETS)
        assert scanner.pid is not None
        os.kill(scanner.pid, signal.SIGKILL)
        assert (await told_blind(scanner, TARGETS)).why is Blindness.SCANNER
        chain.asked.clear()
        assert await look_until_seen(scanner, TARGETS) == before
        assert places(before[ALICE.target().escrow_id]) == [(7, mined, False)]
        assert not any(asked.startswith("block ") for asked in chain.asked)
        assert scanner.counts().restarts == 1


async def test_a_scanner_that_stands_still_is_ended_by_its_pid_and_another_started():
    chain = MemoryChain(blocks=3)
    async with answering(chain) as door, scanner_of(door, limits=STILL) as scanner:
        await look_until_seen(scanner, TARGETS)
        stopped = scanner.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        assert (await told_blind(scanner, TARGETS)).why in (Blindness.READING, Blindness.SCANNER)
        chain.send(payment(ALICE, 7, nonce="deposit"))
        views = await look_until_seen(scanner, TARGETS)
        assert places(views[ALICE.target().escrow_id]) == [(7, None, False)]
        assert _state(stopped) == "X" and scanner.pid != stopped


async def test_a_program_that_answers_garbage_is_ended():
    async with answering(MemoryChain()) as door:
        scanner = ScannerProcess([door.url], network="regtest", limits=PATIENT, child="tests.garbage_child")
        with pytest.raises(DaemonDown, match="garbage") as said:
            await scanner.look(TARGETS)
        assert said.value.why is Blindness.SCANNER
        assert scanner.pid is None and not scanner.counts().up
        await scanner.aclose()


@pytest.mark.parametrize("stopped", [False, True])
async def test_no_scanner_outlives_a_service_that_was_killed(tmp_path, stopped: bool):
    pid_file = tmp_path / "pid"
    async with answering(MemoryChain(blocks=3)) as door:
        have = start_process(have_a_scanner, door.url, pid_file, out=tmp_path / "out")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not pid_file.exists():
                    assert have.exitcode is None
                    await asyncio.sleep(0.05)
            pid = int(pid_file.read_text())
            if stopped:
                os.kill(pid, signal.SIGSTOP)
        finally:
            have.kill()
            have.join()
        await gone(pid)


async def test_a_scanner_has_a_bound_on_its_memory_and_nothing_secret_in_its_command_line_or_environment(monkeypatch):
    monkeypatch.setenv("ENCRYPTION_KEY", "ab" * 32)
    async with answering(MemoryChain()) as door, scanner_of(door) as scanner:
        await look_until_seen(scanner, TARGETS)
        shown = b"".join(Path(f"/proc/{scanner.pid}/{part}").read_bytes() for part in ("cmdline", "environ"))
        assert b"actors.scan.child" in shown
        limits = Path(f"/proc/{scanner.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)  # a core would hold the view keys
        assert re.search(rf"Max data size +{MEMORY_MAX_BYTES} +{MEMORY_MAX_BYTES} ", limits)
        assert not any(secret in shown for secret in (ALICE.view_key.hex().encode(), b"abab", b"ENCRYPTION"))


async def test_a_target_left_out_of_a_look_is_forgotten_and_read_anew_when_it_returns():
    chain = MemoryChain()
    chain.send(payment(ALICE, 7, nonce="deposit"))
    mined = chain.mine()
    async with answering(chain) as door, scanner_of(door) as scanner:
        assert (await look_until_seen(scanner, TARGETS)).keys() == {"alice", "bob"}
        assert (await look_until_seen(scanner, [BOB.target()])).keys() == {"bob"}
        assert places((await look_until_seen(scanner, TARGETS))[ALICE.target().escrow_id]) == [(7, mined, False)]


async def test_a_target_that_cannot_be_watched_has_no_view_and_is_counted():
    bad = msgspec.structs.replace(ALICE.target(), view_key=BOB.view_key.hex())
    async with answering(MemoryChain()) as door, scanner_of(door) as scanner:
        assert (await look_until_seen(scanner, TARGETS)).keys() == {"alice", "bob"}
        other = msgspec.structs.replace(bad, since_height=1)
        assert (await look_until_seen(scanner, [other, BOB.target()])).keys() == {"bob"}
        assert scanner.counts().left_out == {"bad_target": 1}


async def test_a_second_daemon_that_shows_a_block_differently_is_told_of_and_waited_out():
    chain = MemoryChain(blocks=5)
    twin = copy.deepcopy(chain)
    for each in (chain, twin):
        each.send(payment(ALICE, 7, nonce="deposit"))
        each.mine()
    async with answering(chain) as door, answering(twin) as witness, scanner_of(door, witness) as scanner:
        witness.alter = without_transactions
        assert (await told_blind(scanner, TARGETS)).why is Blindness.DIFFERENT
        witness.shut = True
        assert (await told_blind(scanner, TARGETS)).why is Blindness.DOWN
        witness.alter, witness.shut = (lambda _, answer: answer), False
        views = await look_until_seen(scanner, TARGETS)
        assert places(views[ALICE.target().escrow_id]) == [(7, 5, False)]
        assert scanner.counts().restarts == 0


def without_transactions(what: str, answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"tx_hashes": []} if what == "get_block" else answer


async def test_a_daemon_that_says_it_is_not_to_be_trusted_shows_nothing():
    async with answering(MemoryChain()) as door, scanner_of(door) as scanner:
        door.alter = lambda _, answer: answer | {"untrusted": True}
        assert (await told_blind(scanner, TARGETS)).why is Blindness.DOWN
        door.alter = lambda _, answer: answer
        assert (await look_until_seen(scanner, TARGETS)).keys() == {"alice", "bob"}


LONG, SLOW_S = 80, 0.02
"""Blocks of a chain that takes some seconds to be read, and what its daemon takes for a call."""
HASTY = msgspec.structs.replace(PATIENT, patience_s=0.1, beat_s=0.05)


async def until_midway(scanner: ScannerProcess) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not 0 < scanner.counts().lag_blocks < LONG - 5:
            assert (await told_blind(scanner, TARGETS)).why is Blindness.READING


async def test_how_many_blocks_a_scanner_still_has_to_read_is_told_while_it_reads():
    async with answering(MemoryChain(blocks=LONG)) as door, scanner_of(door, limits=HASTY) as scanner:
        door.delay_s = SLOW_S
        await until_midway(scanner)
        door.delay_s = 0.0
        await look_until_seen(scanner, TARGETS)
        assert scanner.counts().lag_blocks == 0


async def test_a_scanner_killed_in_the_middle_of_a_long_reading_is_followed_by_one_that_goes_on_from_there(tmp_path):
    chain = MemoryChain(blocks=LONG)
    async with answering(chain) as door, scanner_of(door, limits=HASTY, file=tmp_path / "scanned.seen") as scanner:
        door.delay_s = SLOW_S
        await until_midway(scanner)
        assert scanner.pid is not None
        os.kill(scanner.pid, signal.SIGKILL)
        chain.asked.clear()
        door.delay_s = 0.0
        assert (await look_until_seen(scanner, TARGETS)).keys() == {"alice", "bob"}
        assert "block 0" not in chain.asked and f"block {LONG - 1}" in chain.asked


HOSTILE_OUTPUTS, CROWD = 16, 2_000


def hostile_transaction() -> dict[str, object]:
    """Sixteen outputs with a key for each: seventeen derivations a target, 1.7 ms of a core."""
    body = payment(BOB, *range(1, HOSTILE_OUTPUTS + 1), nonce="hostile")
    keys = [times_base(number.to_bytes(32, "little")) for number in range(2, HOSTILE_OUTPUTS + 2)]
    body["extra"] = [*body["extra"], 4, HOSTILE_OUTPUTS, *(byte for key in keys for byte in key)]
    return body


async def test_a_hostile_transaction_and_a_crowd_of_targets_leave_the_event_loop_alone():
    chain, crowd = MemoryChain(), [Receiver(f"one of many {number}").target() for number in range(CROWD)]
    async with answering(chain) as door, scanner_of(door) as scanner:
        await look_until_seen(scanner, [*crowd, BOB.target()])  # so that the rest is the hostile one's
        chain.send(hostile_transaction())
        looking, turns = asyncio.ensure_future(look_until_seen(scanner, [*crowd, BOB.target()])), 0
        used = _cpu_ticks(scanner.pid)
        while not looking.done():
            turns += 1
            await asyncio.sleep(0.005)
        assert len((await looking)[BOB.target().escrow_id].outputs) == HOSTILE_OUTPUTS
        assert _cpu_ticks(scanner.pid) - used > 10  # hundredths of a second: it was work
        assert turns > 50


def _cpu_ticks(pid: int | None) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_a_look_that_takes_too_long_is_told_of_and_its_work_is_not_lost():
    chain, some = MemoryChain(), [Receiver(f"one of some {number}").target() for number in range(300)]
    async with answering(chain) as door, scanner_of(door, limits=HASTY) as scanner:
        chain.send(hostile_transaction())
        assert (await told_blind(scanner, some)).why is Blindness.READING
        before = scanner.pid
        assert len(await look_until_seen(scanner, some)) == len(some)
        assert scanner.pid == before and scanner.counts().restarts == 0
