"""`thirdkey backup`: real processes on a log in Postgres, from the key pair to the keys file that is back."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from actors.seat import seat_name
from actors.simulation import SimFiles
from domain.events import WalletRestored
from domain.roles import Role
from eventstore.opening import open_store
from service.backups import make_key
from service.keys import key_in
from tests.backups import BACKED_UP, OFFLINE, at_rest, backup_in, events_of
from tests.patience import PATIENT
from tests.sim_world import SimWorld, create, set_addresses, until


@dataclass(frozen=True)
class Lost:
    """An escrow with an address in a log, on a machine whose folders are empty, and the offline key."""

    escrow_id: str
    wallet: str
    keys_file: bytes
    dsn: str
    home: Path
    key_file: Path

    async def thirdkey(self, *arguments: str, offline: bool = False) -> tuple[int, str, str]:
        """Runs the command line; `offline` without any setting."""
        settings = {"DATABASE_URL": self.dsn, "ENCRYPTION_KEY": "00" * 32, "THIRDKEY_HOME": str(self.home)}
        settings["LOG_PARTITIONS"] = "1"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", *arguments),
            env={**os.environ, **({} if offline else settings)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def backup(self, *arguments: str, offline: bool = False) -> tuple[int, str]:
        """Runs a command of `backup` with the offline key, and looks that it prints nothing secret."""
        key = ("--key-file", str(self.key_file))
        code, out, err = await self.thirdkey("backup", *arguments, *key, offline=offline)
        said = out + err
        assert bytes(OFFLINE).hex() not in said and self.keys_file.hex() not in said
        return code, said


@pytest.fixture
async def lost(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Lost]:
    store = await open_store(dsn=postgres_dsn, encryption_key=bytes(32), partitions=1, node_id="n", limits=PATIENT)
    chain, key_file = SimWorld(store=lambda: store), tmp_path / "offline.key"
    async with chain.running() as node:
        escrow_id = await create(node, policy=BACKED_UP)
        await set_addresses(node, escrow_id)
        await until(node, escrow_id, "awaiting_funding")
        wallet = backup_in(await events_of(store, escrow_id)).wallet_id
        await at_rest(store, seat_name(escrow_id, Role.ARBITER))
    key_file.write_text(bytes(OFFLINE).hex())
    key_file.chmod(0o600)
    yield Lost(
        escrow_id=escrow_id,
        wallet=wallet,
        keys_file=SimFiles(chain.folders[Role.ARBITER]).keys(wallet),
        dsn=postgres_dsn,
        home=tmp_path / "home",
        key_file=key_file,
    )
    await store.aclose()


async def test_a_box_is_opened_from_the_log_and_from_a_bundle_without_any_service(lost: Lost, tmp_path: Path) -> None:
    code, said = await lost.backup("open", lost.escrow_id, "--out", str(tmp_path / "one"))
    assert code == 0, said
    bundle = tmp_path / "bundle.json"
    code, _, err = await lost.thirdkey("audit", "export", lost.escrow_id, "--out", str(bundle))
    assert code == 0, err
    code, bundled = await lost.backup("open", "--bundle", str(bundle), "--out", str(tmp_path / "two"), offline=True)
    assert code == 0, bundled
    for folder, told in ((tmp_path / "one", said), (tmp_path / "two", bundled)):
        assert {path.name for path in folder.iterdir()} == {f"{lost.wallet}.keys", f"{lost.wallet}.password"}
        assert (folder / f"{lost.wallet}.keys").read_bytes() == lost.keys_file
        assert (folder / f"{lost.wallet}.password").read_text().strip() not in told
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


async def test_opening_overwrites_nothing_and_needs_the_right_key(lost: Lost, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{lost.wallet}.keys").write_bytes(b"mine")
    code, said = await lost.backup("open", lost.escrow_id, "--out", str(out))
    assert code == 1 and "nothing is overwritten" in said
    assert [path.read_bytes() for path in out.iterdir()] == [b"mine"]
    lost.key_file.write_text(bytes(PrivateKey.generate()).hex())
    code, said = await lost.backup("open", lost.escrow_id, "--out", str(tmp_path / "other"))
    assert code == 1 and "the box does not open with this key" in said
    assert not (tmp_path / "other").exists()


async def test_a_lost_wallet_is_put_back_where_slots_look_for_it_once(lost: Lost) -> None:
    code, said = await lost.backup("restore", lost.escrow_id)
    assert code == 0, said
    folder = lost.home / "wallets" / "arbiter"
    keys = folder / f"{lost.wallet}.keys"
    assert keys.read_bytes() == lost.keys_file and keys.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir() if path.is_file()] == [keys.name]
    code, said = await lost.backup("restore", lost.escrow_id)
    assert code == 1 and "has files in the folder" in said
    store = await open_store(dsn=lost.dsn, encryption_key=bytes(32), partitions=1, node_id="n2", limits=PATIENT)
    events = await events_of(store, lost.escrow_id)
    await store.aclose()
    assert [event.by for event in events if isinstance(event, WalletRestored)] == ["operator"]


def test_a_private_key_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "offline.key"
    public = make_key(path)
    assert bytes(PrivateKey(key_in(path)).public_key).hex() == public
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_key(path)
    assert bytes(PrivateKey(key_in(path)).public_key).hex() == public
