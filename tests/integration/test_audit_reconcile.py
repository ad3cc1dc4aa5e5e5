"""`thirdkey audit reconcile` through its door: a real process, a log in Postgres, a daemon over HTTP."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from domain import events as e
from domain.ids import UserId
from eventstore.opening import open_store
from service.commands.reconcile import daemon_url, reconcile
from service.embedded import WORLD_FILE, JoinedWorld
from service.reconcile import ReconcileLimits
from service.reconcile_apart import LINE_BYTES_MAX, ReconcileBroken, ReconcileJob, compared_apart, job_of
from service.settings import Settings
from tests.chaos.wire import WireWorld
from tests.given import AMOUNT
from tests.patience import PATIENCE_S, PATIENT
from tests.reconcile_world import ReconcileWorld
from tests.store_worlds import KEY

AT_ONCE = ReconcileLimits(settle_s=0, retry_s=0)


@dataclass(frozen=True)
class Audited:
    """A log, a chain that answers over HTTP, and the folder in which a world says where."""

    world: ReconcileWorld
    dsn: str
    home: Path

    async def thirdkey(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Runs the command line."""
        settings = {"DATABASE_URL": self.dsn, "ENCRYPTION_KEY": KEY.hex(), "THIRDKEY_HOME": str(self.home), **more}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "audit", "reconcile", *arguments),
            env={**os.environ, **settings},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def job(self, *, key: bytes = KEY, limits: ReconcileLimits = AT_ONCE) -> ReconcileJob:
        settings = self.settings(key=key)
        return job_of(settings, dsn=self.dsn, daemon_url=daemon_url(settings), limits=limits)

    def settings(self, *, key: bytes = KEY) -> Settings:
        return Settings(database_url=self.dsn, encryption_key=key, thirdkey_home=self.home)


@pytest.fixture
async def audited(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Audited]:
    store = await open_store(dsn=postgres_dsn, encryption_key=KEY, partitions=4, node_id="n", limits=PATIENT)
    world, wire = ReconcileWorld(store), WireWorld()
    wire.daemon = world.chain
    await wire.start()
    where = JoinedWorld(dsn=None, daemon_url=wire.url, network="regtest")
    (tmp_path / WORLD_FILE).write_bytes(msgspec.json.encode(where))
    try:
        yield Audited(world=world, dsn=postgres_dsn, home=tmp_path)
    finally:
        await wire.stop()
        await store.aclose()


async def test_a_log_that_agrees_with_the_chain_is_said_to_and_shredded_escrows_are_named(audited: Audited) -> None:
    await audited.world.paid_out("done")
    gone = await audited.world.paid_out("gone")
    gone.life.events.append(e.KeyShredded(at=gone.life.now, by=UserId("root"), retention_days=1))
    await gone.save()
    code, out, err = await audited.thirdkey()
    assert (code, err) == (0, ""), out
    height = audited.world.chain.height
    assert out.splitlines() == [
        "esc_gone: not compared, shredded",
        f"1 escrows compared with the chain at height {height}: log and chain agree; not compared: shredded 1",
    ]


async def test_each_difference_is_a_line_and_the_command_exits_with_one(audited: Audited) -> None:
    missed, fine = await audited.world.awaiting("missed"), await audited.world.paid_out("fine")
    missed.pay(AMOUNT)
    height = audited.world.chain.mine(10)
    code, out, err = await audited.thirdkey()
    assert (code, err) == (1, ""), out
    told, summary = out.splitlines()
    assert told.startswith("esc_missed: deposit_not_logged ") and told.endswith(f", log nothing, chain {height}")
    assert "2 escrows compared" in summary and "1 differences in 1 of them (deposit_not_logged 1)" in summary
    code, out, _ = await audited.thirdkey("--json", fine.escrow_id)
    assert code == 0
    assert json.loads(out) == {
        "compared": 1,
        "differing": 0,
        "height": audited.world.chain.height,
        "differences": {},
        "unchecked": {},
    }


async def test_differences_go_out_as_json_without_any_address(
    audited: Audited, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = await audited.world.awaiting("missed")
    missed.pay(AMOUNT)
    height = audited.world.chain.mine(10)
    assert await reconcile(audited.settings(), as_json=True, limits=AT_ONCE) == 1
    out = capsys.readouterr().out
    told, summary = (json.loads(line) for line in out.splitlines())
    assert told == {
        "escrow_id": "esc_missed",
        "code": "deposit_not_logged",
        "about": told["about"],
        "logged": None,
        "shown": height,
    }
    assert (summary["differing"], summary["differences"]) == (1, {"deposit_not_logged": 1})
    assert missed.receiver.address not in out


async def test_what_cannot_be_asked_exits_with_two_and_says_why(
    audited: Audited, capsys: pytest.CaptureFixture[str]
) -> None:
    await audited.world.awaiting("one")
    code, out, err = await audited.thirdkey("esc_nobody")
    assert (code, out.splitlines()[0], err) == (2, "esc_nobody: not compared, unknown", "")
    assert await reconcile(audited.settings(key=bytes(32)), as_json=False) == 2
    assert "SealBroken" in capsys.readouterr().err
    audited.world.chain.synchronized = False
    assert await reconcile(audited.settings(), as_json=False, limits=AT_ONCE) == 2
    assert "DaemonDown" in capsys.readouterr().err
    (audited.home / WORLD_FILE).unlink()
    assert await reconcile(audited.settings(), as_json=False) == 2
    assert "NoWorld" in capsys.readouterr().err
    keyless = Settings(database_url=audited.dsn, thirdkey_home=audited.home, monero_daemon_urls=("http://127.0.0.1:9",))
    assert await reconcile(keyless, as_json=False) == 2
    assert "NoKey" in capsys.readouterr().err
    assert not (audited.home / "encryption.key").exists(), "an auditor makes no key"


@pytest.mark.parametrize("address", ["postgresql://u:hunter2@127.0.0.1:port/db", "postgresql://h/db?sslmode=odd"])
async def test_a_database_that_cannot_be_meant_is_no_difference(audited: Audited, address: str) -> None:
    code, out, err = await audited.thirdkey(DATABASE_URL=address)
    assert (code, out) == (2, ""), err
    assert err and "hunter2" not in err and "Traceback" not in err


# -- in a process apart, as the service does ---------------------------------------------------------------------


async def test_a_process_apart_tells_of_every_escrow_and_of_what_broke_it_off(audited: Audited) -> None:
    missed, fine = await audited.world.awaiting("missed"), await audited.world.paid_out("fine")
    missed.pay(AMOUNT)
    audited.world.chain.mine(10)
    job = msgspec.structs.replace(audited.job(), ended_blocks=1)  # what ended is looked up by its transactions
    compared = [each async for each in compared_apart(job)]
    assert {each.escrow_id: [found.code for found in each.differences] for each in compared} == {
        missed.escrow_id: ["deposit_not_logged"],
        fine.escrow_id: [],
    }
    with pytest.raises(ReconcileBroken, match="SealBroken"):
        _ = [each async for each in compared_apart(audited.job(key=bytes(32)))]


async def test_a_process_apart_ends_when_the_service_is_gone(audited: Audited) -> None:
    missed = await audited.world.awaiting("missed")
    missed.pay(AMOUNT)
    audited.world.chain.mine(10)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.reconcile_apart"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    job = audited.job(limits=ReconcileLimits(settle_s=10 * PATIENCE_S))
    process.stdin.write(msgspec.json.encode(job) + b"\n")
    process.stdin.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 1


@pytest.mark.parametrize("said", [b'{"compared":{"escrow_id":"esc', b"x" * (LINE_BYTES_MAX + 1)], ids=["cut", "long"])
async def test_a_process_apart_whose_words_cannot_be_read_broke_the_comparison_off(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "said").write_bytes(said)
    instead = tmp_path / "nice"
    instead.write_text(f"#!/bin/sh\nread job\nexec /bin/cat {tmp_path}/said\n")
    instead.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    job = ReconcileJob(dsn="", daemon_url="", network="regtest", encryption_key="")
    with pytest.raises(ReconcileBroken):
        _ = [each async for each in compared_apart(job)]
