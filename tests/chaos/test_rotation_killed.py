"""`thirdkey secrets rotate` after a rotation that kill -9 ended: it goes on, while a service seals and opens."""

import asyncio
import os
import sys
from pathlib import Path

from eventstore.keys import wrapping_key_id
from eventstore.opening import open_store
from tests.chaos.rotating import rotate_and_die
from tests.patience import PATIENT
from tests.service_process import run_process

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
KEYS, KILLED_AFTER = 60, 20
PLACE = {"event": "claim", "field": "buyer"}


async def _command(dsn: str, home: Path, *, new: bytes, old: bytes | None) -> tuple[int, str, str]:
    environment = {**os.environ, "DATABASE_URL": dsn, "ENCRYPTION_KEY": new.hex(), "THIRDKEY_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "secrets", "rotate"),
        env=environment | ({"ENCRYPTION_KEY_OLD": old.hex()} if old else {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_killed_rotation_is_gone_on_with_while_the_service_works(postgres_dsn: str, tmp_path: Path) -> None:
    service = await open_store(
        dsn=postgres_dsn, encryption_key=NEW, other_keys=(OLD,), partitions=4, node_id="n", limits=PATIENT
    )
    before = await open_store(dsn=postgres_dsn, encryption_key=OLD, partitions=4, node_id="before", limits=PATIENT)
    sealed = {f"esc_{n}": await before.vault.seal(f"esc_{n}", **PLACE, plain=b"%d" % n) for n in range(KEYS)}
    await before.aclose()
    try:
        code = await run_process(rotate_and_die, postgres_dsn, NEW, OLD, KILLED_AFTER, out=tmp_path / "out")
        assert code == -9
        left = (await service.keys.wrapped_by())[wrapping_key_id(OLD)]
        assert 0 < left <= KEYS - KILLED_AFTER
        (code, says, _), opened = await asyncio.gather(
            _command(postgres_dsn, tmp_path, new=NEW, old=OLD),
            asyncio.gather(*(service.vault.open(key, **PLACE, sealed=text) for key, text in sealed.items())),
        )
        assert (code, says.startswith(f"{left} keys were wrapped anew; none is left under another key")) == (0, True)
        assert opened == [b"%d" % n for n in range(KEYS)]
        code, says, _ = await _command(postgres_dsn, tmp_path, new=NEW, old=None)
        assert (code, says.startswith("0 keys were wrapped anew; none is left")) == (0, True)
        code, says, _ = await _command(postgres_dsn, tmp_path, new=OLD, old=None)
        assert (code, f"left are {KEYS} under the key with fingerprint {wrapping_key_id(NEW)}" in says) == (1, True)
    finally:
        await service.aclose()
