"""The auditor's commands and doors, on a log in Postgres: real processes, real files, a real server."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eventstore.heads import SignedHead
from eventstore.opening import Store, open_store
from schemas.bundle import Bundle
from service.auth import Right
from service.bundle_check import check_bundle
from service.commands.audit import check
from service.heads_file import HeadsFile, read_heads
from tests.bundle_world import KEY, KEY_ID, sign
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S, PATIENT
from tests.worlds import World, house_world

KEY_HEX = KEY.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()).hex()
OTHER = "ab" * 32


@dataclass(frozen=True)
class Audited:
    """A log of one partition with one life in it, served, and an auditor's folder."""

    world: World
    store: Store
    dsn: str
    home: Path
    escrow_id: str

    async def thirdkey(self, *arguments: str, offline: bool = False, **more: str) -> tuple[int, str, str]:
        """Runs the command line; `offline` without any setting."""
        settings = {"DATABASE_URL": self.dsn, "ENCRYPTION_KEY": "00" * 32, "THIRDKEY_HOME": str(self.home), **more}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", *arguments),
            env={**os.environ, **({} if offline else settings)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def tamper(self, *statements: str) -> None:
        """Runs statements as a superuser with the triggers off."""
        connection = await asyncpg.connect(self.dsn)
        try:
            for table in ("events", "signed_heads"):
                await connection.execute(f"alter table {table} disable trigger all")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def heads(self) -> list[SignedHead]:
        return list(await self.store.heads.after(0, position=0, limit=100))


@pytest.fixture
async def audited(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Audited]:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        escrow_id = await world.funded()
        await sign(store)
        yield Audited(world=world, store=store, dsn=postgres_dsn, home=tmp_path, escrow_id=escrow_id)


async def test_a_log_is_verified_against_its_heads_and_a_file_kept_elsewhere(audited: Audited) -> None:
    kept = audited.home / "kept.jsonl"
    HeadsFile(kept).append(await audited.heads())
    code, out, err = await audited.thirdkey("audit", "verify", "--heads", str(kept), "--key", KEY_ID)
    assert (code, err) == (0, ""), out
    assert "every leaf, chain, head and transition is right" in out
    assert "signed heads: 1 checked, with kept.jsonl and its 1" in out
    assert "keys: the 1 given with --key" in out
    assert "read models: as the log makes them" in out
    foreign, says, _ = await audited.thirdkey("audit", "verify", "--heads", str(kept), "--key", OTHER)
    assert (foreign, "a key that is not trusted" in says) == (1, True)


async def test_a_tail_cut_with_its_heads_shows_against_the_heads_kept_elsewhere_alone(audited: Audited) -> None:
    HeadsFile(audited.home / "heads.jsonl").append(await audited.heads())
    await audited.tamper(
        "delete from events where position > 9",
        "delete from signed_heads",
        "update log_heads set (position, chain) = (select position, chain from events where position = 9)",
    )
    code, out, _ = await audited.thirdkey("audit", "verify")
    assert code == 1
    assert "events after 9 were cut off" in out
    (audited.home / "heads.jsonl").unlink()
    _, out, _ = await audited.thirdkey("audit", "verify")
    assert "every leaf, chain, head and transition is right" in out
    assert "no heads file: a tail cut off together with its heads would not show" in out


async def test_heads_that_only_a_node_wrote_down_are_known_as_well(audited: Audited) -> None:
    HeadsFile(audited.home / "nodes" / "node-1" / "heads.jsonl").append(await audited.heads())
    HeadsFile(audited.home / "nodes" / "node-2" / "heads.jsonl").append(await audited.heads())
    await audited.tamper(
        "delete from events where position >= 10",
        "delete from signed_heads",
        "update log_heads set (position, chain) = (select position, chain from events where position = 9)",
    )
    code, out, _ = await audited.thirdkey("audit", "verify")
    assert (code, out.count("events after 9 were cut off")) == (1, 2), out
    _, out, err = await audited.thirdkey("audit", "export", audited.escrow_id, HEAD_SIGNING_KEY=KEY_HEX)
    assert "not signed: a head was signed at position" in err and await audited.heads() == []
    assert json.loads(out)["escrow_id"] == audited.escrow_id, "on standard output the bundle stands alone"


async def test_a_read_model_that_is_not_what_the_log_makes_of_it_is_told(audited: Audited) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await audited.world.ask("GET", "/api/escrows"))[1]["escrows"][0]["state"] != "funded":
            await asyncio.sleep(0.05)
    await audited.tamper("delete from model_escrows")
    code, out, _ = await audited.thirdkey("audit", "verify")
    assert code == 1
    assert f"escrows, partition 0, {audited.escrow_id}: missing" in out


async def test_a_bundle_is_exported_and_checked_far_from_any_log(
    audited: Audited, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = audited.home / "bundle.json"
    code, out, err = await audited.thirdkey("audit", "export", audited.escrow_id, "--out", str(bundle))
    assert (code, out, err) == (0, "", "")
    assert bundle.stat().st_mode & 0o777 == 0o600
    code, out, err = await audited.thirdkey("audit", "check", str(bundle), "--key", KEY_ID, offline=True)
    assert (code, err) == (0, ""), out
    assert "state funded at version" in out
    assert out.splitlines()[-1].startswith("verdict: right")
    (audited.home / "trusted.txt").write_text(f"{OTHER}\n{KEY_ID}\n")
    assert check(bundle, keys=[str(audited.home / "trusted.txt")]) == 0
    assert "no key was given" not in capsys.readouterr().out
    assert check(bundle) == 0
    assert "no key was given (--key)" in capsys.readouterr().out
    assert check(bundle, keys=[OTHER]) == 1
    assert "a key that is not trusted" in capsys.readouterr().out


async def test_a_changed_bundle_is_told_by_name_and_by_its_exit_code(audited: Audited) -> None:
    bundle = audited.home / "bundle.json"
    await audited.thirdkey("audit", "export", audited.escrow_id, "--out", str(bundle))
    bundle.write_text(bundle.read_text().replace('"deposit_unlocked"', '"deposit_seen"').replace("alice", "mallory"))
    code, out, _ = await audited.thirdkey("audit", "check", str(bundle), "--key", KEY_ID, offline=True)
    assert code == 1
    assert "verdict: WRONG" in out
    assert "it is not in the log that was signed: the event or its proof was changed" in out


async def test_an_earlier_bundle_shows_that_the_log_only_grew(
    audited: Audited, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = audited.home / "old.json", audited.home / "new.json"
    await audited.thirdkey("audit", "export", audited.escrow_id, "--out", str(old))
    assert (await audited.world.ask("POST", f"/api/escrows/{audited.escrow_id}/ship", user=VENDOR))[0] == 200
    await audited.world.create()
    await sign(audited.store)
    await audited.thirdkey("audit", "export", audited.escrow_id, "--out", str(new), "--heads", str(old))
    assert check(new, keys=[KEY_ID], heads=old) == 0
    assert "compared with 1 heads of old.json" in capsys.readouterr().out


async def test_the_newest_events_are_signed_before_an_export_when_the_key_is_there(audited: Audited) -> None:
    assert (await audited.world.ask("POST", f"/api/escrows/{audited.escrow_id}/ship", user=VENDOR))[0] == 200
    code, out, err = await audited.thirdkey("audit", "export", audited.escrow_id)
    uncovered = check_bundle(out.encode()).uncovered
    assert (code, uncovered > 0) == (0, True)
    assert f"the newest {uncovered} events are not covered by a signed head yet" in err
    code, out, err = await audited.thirdkey("audit", "export", audited.escrow_id, HEAD_SIGNING_KEY=KEY_HEX)
    assert (code, err) == (0, "")
    found = check_bundle(out.encode(), trusted=frozenset({KEY_ID}))
    assert (found.findings, found.uncovered) == ((), 0)


async def test_what_an_auditor_gets_wrong_is_said_in_a_line(
    audited: Audited, capsys: pytest.CaptureFixture[str]
) -> None:
    here, nothing = Path(__file__), audited.home / "nothing.json"
    assert [check(nothing), check(here, keys=["nothing"])] == [1, 1]
    assert capsys.readouterr().err.count("FileNotFoundError") == 2
    assert check(here, keys=[__file__]) == 1
    assert "KeyUnreadable" in capsys.readouterr().err
    assert check(here, heads=here) == 1
    assert "HeadsUnreadable" in capsys.readouterr().err
    code, _, err = await audited.thirdkey("audit", "export", "esc_unknown")
    assert (code, "nothing of esc_unknown" in err) == (1, True)


# -- over HTTP -----------------------------------------------------------------------------------------------


async def test_the_published_heads_need_no_token_may_be_kept_and_can_be_verified_against(audited: Audited) -> None:
    async with audited.world.client.get("/.well-known/thirdkey-heads.json") as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=10"
        content = await answer.read()
    shown = json.loads(content)
    assert (shown["format"], shown["keys"]) == ("thirdkey heads 1", [KEY_ID])
    (audited.home / "published.json").write_bytes(content)
    assert read_heads(audited.home / "published.json") == await audited.heads()
    code, out, _ = await audited.thirdkey("audit", "verify", "--heads", str(audited.home / "published.json"))
    assert code == 0, out


async def test_a_bundle_is_for_the_three_and_administrators(audited: Audited) -> None:
    path = f"/api/escrows/{audited.escrow_id}/bundle"
    for user, rights in ((BUYER, ()), (VENDOR, ()), (ARBITER, ()), ("admin", (Right.ADMIN,))):
        status, answer = await audited.world.ask("GET", path, user=user, rights=rights)
        assert status == 200
        found = check_bundle(msgspec.json.encode(answer), trusted=frozenset({KEY_ID}))
        assert (found.findings, found.uncovered) == ((), 0)
    assert (await audited.world.ask("GET", path, user="mallory"))[0] == 404
    assert (await audited.world.ask("GET", path, user=None))[0] == 401
    assert (await audited.world.ask("GET", "/api/escrows/esc_unknown/bundle"))[0] == 404


async def test_a_bundle_shows_how_the_log_grew_since_a_position(audited: Audited) -> None:
    path = f"/api/escrows/{audited.escrow_id}/bundle"
    status, answer = await audited.world.ask("GET", f"{path}?since=3")
    assert status == 200
    bundle = msgspec.convert(answer, Bundle)
    assert [each.old for each in bundle.growths] == [3]
    for query in ("since=0", "since=x", "since=-1", "since=3&since=4", "until=3", "since=" + "9" * 30):
        assert (await audited.world.ask("GET", f"{path}?{query}"))[0] == 422, query
    assert (await audited.world.ask("GET", f"{path}?since=999999"))[0] == 200
