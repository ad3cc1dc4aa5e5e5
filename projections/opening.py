"""Opens the read models that lie beside an open store, on Postgres or in memory."""

from eventstore.grouped import LogLimits
from eventstore.memory import MemoryLog, MemoryTables
from eventstore.opening import Store
from eventstore.postgres import Pool
from projections.api import ModelReader, ModelTables
from projections.memory import MemoryModels, shelf_of
from projections.memory_reading import MemoryReader
from projections.postgres import PostgresModels
from projections.postgres_reading import PostgresReader


def open_models(store: Store, *, limits: LogLimits | None = None) -> tuple[ModelTables, ModelReader]:
    """Opens both sides of the read models in a store's own database, on its connections."""
    if store.pools:
        return on_pool(store.pools[-1], partitions=store.log.partitions, limits=limits or LogLimits())
    assert isinstance(store.log, MemoryLog)
    return in_memory(store.log.tables)


def on_pool(pool: Pool, *, partitions: int, limits: LogLimits) -> tuple[ModelTables, ModelReader]:
    """Opens both sides on connections that work as `thirdkey_app`."""
    return PostgresModels(pool, limits=limits), PostgresReader(pool, partitions=partitions, limits=limits)


def in_memory(tables: MemoryTables) -> tuple[ModelTables, ModelReader]:
    """Opens both sides beside a memory log; every node on it shares them."""
    shelf = shelf_of(tables)
    return MemoryModels(shelf, partitions=tables.partitions), MemoryReader(shelf)
