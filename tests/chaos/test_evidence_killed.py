"""kill -9 anywhere on a picture's way: the same request goes through afterwards, once, and nothing is left over."""

from pathlib import Path

import pytest

from eventstore.cid import cid_of
from tests.chaos.evidence_child import KEY, Point, lay_and_die, opened
from tests.evidence_world import disputed, fetch, lay
from tests.service_process import run_process
from tests.worlds import World, house_world


async def _names(world: World) -> list[str]:
    async with world.house.store.pools[-1].acquire() as connection:
        return [row["cid"] for row in await connection.fetch("select distinct cid from evidence_blocks")]


@pytest.mark.parametrize("point", Point)
async def test_a_picture_is_in_the_case_once_whenever_its_node_was_killed(
    postgres_dsn: str, tmp_path: Path, point: Point
) -> None:
    async with house_world(store=await opened(postgres_dsn)) as world:
        escrow_id, case_id = await disputed(world)
        version = await world.version(escrow_id)
    assert await run_process(lay_and_die, postgres_dsn, case_id, point, out=tmp_path / "out") == -9
    async with house_world(store=await opened(postgres_dsn)) as world:
        happened = await world.version(escrow_id) - version
        assert happened == (1 if point is Point.AFTER_THE_EVENT else 0)
        assert len(await _names(world)) == (0 if point is Point.BEFORE_STORING else 1)
        status, added = await lay(world, case_id, key=KEY)
        assert status == 200, added
        assert await lay(world, case_id, key=KEY) == (200, added)
        assert await world.version(escrow_id) == version + 1
        answer, content = await fetch(world, case_id, added["photo_id"])
        assert answer.status == 200 and len(content) == added["size"]
        swept = await world.house.store.evidence.sweep(older_than_s=0)
        assert len(swept) == (1 if point in (Point.AFTER_STORING, Point.AFTER_READING_BACK) else 0)
        assert await _names(world) == [added["ipfs_hash"]]
        assert added["ipfs_hash"] not in swept and cid_of(content) != added["ipfs_hash"]
