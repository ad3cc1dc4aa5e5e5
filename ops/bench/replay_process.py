"""One of the other processes of a verified replay in `make bench-replay`: partitions come on standard input."""

from ops.bench.verified import verified_partition
from service.read_log import reading_at
from service.spread import answer, job, run_other, take_all, tell


async def main() -> None:
    """Replays partitions until there are none left; its job is the address of the database."""
    async with reading_at(job().decode().strip()) as read:

        async def take(partition: int) -> None:
            tell(await verified_partition(read.log, partition))

        await take_all(take)
        answer(None)


if __name__ == "__main__":
    run_other(main())
