"""Keys kept in memory: never for ever, and never more trusted than what is stored."""

import asyncio

import pytest

from eventstore.api import Append, NewEvent, SealBroken, Shredded
from eventstore.keys import SHREDDING_EVENT, KeyRing
from eventstore.keys_memory import MemoryKeys
from eventstore.memory import MemoryLog, MemoryTables
from eventstore.vault import KeyVault


class Reads(MemoryKeys):
    """Counts how often a key is read."""

    count = 0

    async def read(self, stream_id):
        self.count += 1
        return await super().read(stream_id)


class Late(MemoryKeys):
    """Reads a key, and answers only when it is let."""

    def __init__(self, tables):
        super().__init__(tables)
        self.read_it, self.answer = asyncio.Event(), asyncio.Event()
        self.answer.set()

    async def read(self, stream_id):
        found = await super().read(stream_id)
        self.read_it.set()
        await self.answer.wait()
        return found


def _vault(keys: MemoryKeys, *, now: list[float], cache_s: float = 60.0) -> KeyVault:
    return KeyVault(keys, ring=KeyRing(bytes(32)), cache_max=10, cache_s=cache_s, monotonic=lambda: now[0])


async def _sealed(vault: KeyVault, plain: bytes = b"secret") -> str:
    return await vault.seal("e1", event="claim", field="buyer", plain=plain)


async def _opened(vault: KeyVault, sealed: str) -> bytes:
    return await vault.open("e1", event="claim", field="buyer", sealed=sealed)


async def test_a_key_is_read_again_when_its_time_in_memory_is_over() -> None:
    keys, now = Reads(MemoryTables(partitions=1)), [0.0]
    vault = _vault(keys, now=now)
    sealed = await _sealed(vault)
    keys.count = 0
    for now[0], reads in ((59.9, 0), (60.0, 1), (119.9, 1), (120.0, 2)):
        assert await _opened(vault, sealed) == b"secret"
        assert keys.count == reads


async def test_a_key_that_a_restored_database_replaced_is_read_before_anything_is_called_broken() -> None:
    tables = MemoryTables(partitions=1)
    keys = Reads(tables)
    vault, other = _vault(keys, now=[0.0]), _vault(MemoryKeys(tables), now=[0.0])
    await _sealed(vault)
    tables.keys.clear()
    assert await _opened(vault, await _sealed(other, b"after the restore")) == b"after the restore"


async def test_changed_bytes_cost_one_more_look_and_no_key() -> None:
    keys = Reads(MemoryTables(partitions=1))
    vault = _vault(keys, now=[0.0])
    sealed = await _sealed(vault)
    keys.count = 0
    try:
        await _opened(vault, sealed[:-8] + "AAAAAAA=")
    except SealBroken as broken:
        assert str(broken) == "e1: claim.buyer"
    assert keys.count == 1
    assert await _opened(vault, sealed) == b"secret"


async def test_a_key_that_was_read_while_it_was_shredded_is_not_kept() -> None:
    tables, now = MemoryTables(partitions=1), [0.0]
    keys = Late(tables)
    vault = _vault(keys, now=now)
    sealed = await _sealed(vault)
    now[0] = 60.0
    keys.answer.clear()
    keys.read_it.clear()
    reading = asyncio.create_task(_opened(vault, sealed))
    await keys.read_it.wait()
    event = NewEvent(type=SHREDDING_EVENT, schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
    await MemoryLog(tables).append(Append(stream_id="e1", expected_version=0, events=(event,), command_id="0" * 64))
    assert list(await vault.shred()) == ["e1"]
    keys.answer.set()
    assert await reading == b"secret"
    with pytest.raises(Shredded):
        await _opened(vault, sealed)
