"""What a server says that is short of something, or read-only, means "later": no command is refused for good by it."""

import asyncpg
import pytest

from eventstore.api import LogBusy, LogUnavailable
from eventstore.grouped import LogLimits
from eventstore.postgres import _sorted_out, fetch
from projections.postgres_reading import PostgresReader

SHORT = [
    *(asyncpg.DiskFullError, asyncpg.OutOfMemoryError, asyncpg.TooManyConnectionsError, asyncpg.PostgresIOError),
    *(asyncpg.ReadOnlySQLTransactionError, asyncpg.QueryCanceledError, asyncpg.SerializationError),
]


class ShortPool:
    """A pool whose server lacks something."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def get_max_size(self) -> int:
        return 1

    def acquire(self, *, timeout: float) -> object:
        raise self._error("short")


@pytest.mark.parametrize("error", SHORT)
async def test_a_server_that_is_short_of_something_is_away_to_readers(error: type[Exception]) -> None:
    with pytest.raises(LogUnavailable):
        await fetch(ShortPool(error), "heads", limits=LogLimits())


@pytest.mark.parametrize("error", SHORT)
async def test_it_is_away_to_the_read_models_as_well(error: type[Exception]) -> None:
    with pytest.raises(LogUnavailable):
        await PostgresReader(ShortPool(error), partitions=1, limits=LogLimits()).recovery_count()


@pytest.mark.parametrize("error", SHORT)
def test_an_append_to_a_server_that_is_short_of_something_may_be_repeated(error: type[Exception]) -> None:
    assert isinstance(_sorted_out(error("short")), LogBusy)
