"""Opens a whole store: log, leases and vault, on Postgres or in memory."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from eventstore.api import Leases, Vault
from eventstore.evidence import EvidenceBlocks, PostgresEvidence
from eventstore.evidence_memory import MemoryEvidence
from eventstore.grouped import LogLimits
from eventstore.heads import HeadStore
from eventstore.heads_memory import MemoryHeads
from eventstore.heads_postgres import PostgresHeads
from eventstore.keys import KeyRing, KeyStore
from eventstore.keys_memory import MemoryKeys
from eventstore.keys_postgres import PostgresKeys
from eventstore.leases import LeaseTable, PostgresLeases
from eventstore.memory import MemoryLeases, MemoryLog, MemoryTables
from eventstore.migrations import SQL_FOLDER, create_log, migrate
from eventstore.notices import Notices
from eventstore.postgres import Pool, PostgresLog, fetch, open_pool, without_answer
from eventstore.primed import PostgresPrimed, PrimedRows
from eventstore.primed_memory import MemoryPrimed
from eventstore.vault import KeyVault


class StoreUnsafe(Exception):
    """The database is set up so that the log's promises would not hold."""


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has of the event store."""

    log: PostgresLog | MemoryLog
    seat_leases: Leases
    slot_leases: Leases
    duty_leases: Leases
    """Of what one node at a time does for all."""
    primed: PrimedRows
    heads: HeadStore
    vault: Vault
    keys: KeyStore
    evidence: EvidenceBlocks
    """Sealed pictures, kept beside the log."""
    ring: KeyRing
    node_id: str
    """The holder its leases are taken for."""
    pools: tuple[Pool, ...] = ()
    notices: Notices | None = None

    async def aclose(self) -> None:
        """Lets appends under way finish, refuses what waits, closes every connection."""
        await self.log.aclose()
        if self.notices is not None:
            await self.notices.aclose()
        for pool in self.pools:
            await pool.close()


async def open_store(
    *,
    dsn: str,
    encryption_key: bytes,
    other_keys: Sequence[bytes] = (),
    partitions: int,
    node_id: str,
    limits: LogLimits | None = None,
    folders: Sequence[Path] = (SQL_FOLDER,),
    notice_dsn: str | None = None,
) -> Store:
    """Migrates what is missing, checks the database's promises and opens everything on it.

    `encryption_key` wraps (32 bytes), `other_keys` open as well: the ones before it, or the next. `notice_dsn` is
    where nodes tell each other of commits: the database itself by default, another way to it where `dsn` leads through
    a pooler, nowhere when it is empty (polling alone is right).
    Raises `MigrationChanged`, `DatabaseNewer`, `RolesMissing`, `PartitionsFixed`,
    `StoreUnsafe`, `LogUnavailable`, and `OSError` when nothing listens at the address.
    """
    limits, ring = limits or LogLimits(), KeyRing(encryption_key, others=other_keys)
    try:
        await migrate(dsn, folders=folders)
        await create_log(dsn, partitions=partitions)
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError) as lost:
        raise without_answer(lost) from None
    append_pool = await open_pool(dsn, size=partitions, limits=limits)
    pool = await open_pool(dsn, size=limits.pool_max, limits=limits)
    try:
        await _check_promises(append_pool, limits)
        keys = PostgresKeys(pool, partitions=partitions, limits=limits)
        log = PostgresLog(append_pool=append_pool, pool=pool, partitions=partitions, limits=limits)
        return Store(
            log=log,
            seat_leases=PostgresLeases(pool, table=LeaseTable.SEATS, partitions=partitions, limits=limits),
            slot_leases=PostgresLeases(pool, table=LeaseTable.SLOTS, partitions=partitions, limits=limits),
            duty_leases=PostgresLeases(pool, table=LeaseTable.DUTIES, partitions=partitions, limits=limits),
            primed=PostgresPrimed(pool, partitions=partitions, limits=limits),
            heads=PostgresHeads(pool, limits=limits),
            vault=_vault(keys, ring, limits),
            keys=keys,
            evidence=PostgresEvidence(pool, partitions=partitions, limits=limits),
            ring=ring,
            node_id=node_id,
            pools=(append_pool, pool),
            notices=await _notices(log, dsn=dsn if notice_dsn is None else notice_dsn, limits=limits),
        )
    except BaseException:
        await append_pool.close()
        await pool.close()
        raise


def memory_store(
    *,
    partitions: int,
    encryption_key: bytes = bytes(32),
    other_keys: Sequence[bytes] = (),
    node_id: str = "memory",
    limits: LogLimits | None = None,
    tables: MemoryTables | None = None,
) -> Store:
    """Opens the memory twin; stores over the same tables behave like nodes on one database.

    Raises `ValueError` when the tables have another number of partitions.
    """
    tables = tables or MemoryTables(partitions=partitions)
    if tables.partitions != partitions:
        raise ValueError(f"the tables were made with {tables.partitions} partitions")
    limits, ring, keys = limits or LogLimits(), KeyRing(encryption_key, others=other_keys), MemoryKeys(tables)
    return Store(
        log=MemoryLog(tables, limits=limits),
        seat_leases=MemoryLeases(tables.seat_leases, clock=tables.clock),
        slot_leases=MemoryLeases(tables.slot_leases, clock=tables.clock),
        duty_leases=MemoryLeases(tables.duty_leases, clock=tables.clock),
        primed=MemoryPrimed(tables),
        heads=MemoryHeads(tables),
        vault=_vault(keys, ring, limits),
        keys=keys,
        evidence=MemoryEvidence(tables),
        ring=ring,
        node_id=node_id,
    )


def _vault(keys: KeyStore, ring: KeyRing, limits: LogLimits) -> KeyVault:
    return KeyVault(keys, ring=ring, cache_max=limits.key_cache_max, cache_s=limits.key_cache_s)


async def _notices(log: PostgresLog, *, dsn: str, limits: LogLimits) -> Notices | None:
    if not dsn:
        return None
    notices = Notices(dsn, on_heard=log.wake, limits=limits)
    log.tell_others = notices.tell
    await notices.start()
    return notices


async def _check_promises(pool: Pool, limits: LogLimits) -> None:
    (promises,) = await fetch(pool, "promises", limits=limits)
    if promises["synchronous_commit"] == "off":
        raise StoreUnsafe("synchronous_commit is off: appends answered as durable could be lost")
    if promises["may_change_events"]:
        raise StoreUnsafe(f"role {promises['role']} may change or remove events")
