"""The daemon's port: the same cases on the simulated chain and on monerod; and what only a hostile answer shows."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from actors.daemon_rpc import TXS_PER_CALL, HttpDaemon
from actors.monero_programs import reserved_port
from actors.ports import DaemonDown, KeyImageStatus
from actors.simulation.fees import FEE_PER_WEIGHT
from domain.ids import KeyImage, TxHash
from tests.serving import stop_serving

UNKNOWN = TxHash("11" * 32)


async def emptied(world):
    """Mines until nothing waits: the real chain is shared with other tests, and a payment may miss a block."""
    while await world.daemon.pool_hashes():
        await world.mine(1)


async def test_the_newest_block_is_the_one_the_daemon_names(world):
    await emptied(world)
    await world.mine(1)
    info = await world.daemon.info()
    block, before = await world.daemon.block(info.height - 1), await world.daemon.block(info.height - 2)
    assert (block.hash, block.prev_hash, block.height) == (info.top_hash, before.hash, info.height - 1)
    assert block.timestamp >= before.timestamp and len(block.tx_hashes) == 1
    assert info.synchronized and info.nettype == "fakechain"


async def test_a_block_beyond_the_top_is_no_answer(world):
    with pytest.raises(DaemonDown):
        await world.daemon.block((await world.daemon.info()).height + 5)


async def test_a_payment_waits_in_the_pool_and_is_found_again_in_its_block(world):
    await emptied(world)
    assert await world.daemon.pool_hashes() == ()
    tx_hash = await world.pay((await world.outside(), 10**12))
    assert await world.daemon.pool_hashes() == (tx_hash,)
    (waiting,) = await world.daemon.transactions([UNKNOWN, tx_hash])
    assert (waiting.tx_hash, waiting.height) == (tx_hash, None)
    await emptied(world)
    (mined,) = await world.daemon.transactions([tx_hash])
    top = (await world.daemon.info()).height - 1
    assert mined.height == top and tx_hash in (await world.daemon.block(top)).tx_hashes
    assert mined.body["vout"] and {"key", "view_tag"} <= mined.body["vout"][0]["target"]["tagged_key"].keys()


async def test_a_key_image_nobody_used_is_unspent(world):
    assert await world.daemon.key_images([KeyImage("22" * 32)]) == (KeyImageStatus.UNSPENT,)
    assert await world.daemon.key_images([]) == ()


async def test_a_byte_costs_what_it_cost_in_the_recordings(world):
    assert abs(await world.daemon.fee_per_byte() - FEE_PER_WEIGHT) < FEE_PER_WEIGHT // 5


async def test_a_reorganisation_changes_the_hash_of_a_height(world):
    await world.mine(2)
    height = (await world.daemon.info()).height - 1
    before = (await world.daemon.block(height)).hash
    await world.reorganise(2)
    assert (await world.daemon.block(height)).hash != before


class FakeNode:
    """A server that answers any call with one body and counts the calls."""

    def __init__(self) -> None:
        self.body: dict[str, object] = {}
        self.asked: list[dict[str, object]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        return web.json_response(self.body)


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    node = FakeNode()
    app = web.Application()
    app.router.add_post("/{path:.*}", node.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    node.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield node
    await stop_serving(runner)


@pytest.fixture
async def daemon(node: FakeNode) -> AsyncIterator[HttpDaemon]:
    daemon = HttpDaemon(node.url)
    yield daemon
    await daemon.aclose()


INFO = {"height": 1, "top_block_hash": "0" * 64, "synchronized": True, "nettype": "fakechain", "status": "OK"}


async def test_an_untrusted_answer_is_a_daemon_that_is_down(node, daemon):
    node.body = {"result": INFO}
    assert (await daemon.info()).height == 1
    for bad in ({"untrusted": True}, {"status": "BUSY"}):
        node.body = {"result": INFO | bad}
        with pytest.raises(DaemonDown):
            await daemon.info()
    node.body = {"status": "OK", "untrusted": True}
    with pytest.raises(DaemonDown):
        await daemon.pool_hashes()


async def test_transactions_are_asked_for_a_hundred_at_a_time(node, daemon):
    node.body = {"status": "OK"}
    assert await daemon.transactions([UNKNOWN] * (2 * TXS_PER_CALL + 1)) == ()
    assert [len(each["txs_hashes"]) for each in node.asked] == [100, 100, 1]
    assert all(each["decode_as_json"] and each["prune"] for each in node.asked)


async def test_answers_that_cannot_be_right_are_refused(node, daemon):
    node.body = {"status": "OK", "spent_status": [0, 0]}
    with pytest.raises(DaemonDown, match="number of answers"):
        await daemon.key_images([KeyImage("22" * 32)])
    node.body = {"status": "OK", "spent_status": [7]}
    with pytest.raises(DaemonDown, match="unknown status"):
        await daemon.key_images([KeyImage("22" * 32)])
    node.body = {"status": "OK", "txs": [{"tx_hash": UNKNOWN, "as_json": "{", "in_pool": True}]}
    with pytest.raises(DaemonDown, match="unreadable"):
        await daemon.transactions([UNKNOWN])


async def test_nobody_listening_is_a_daemon_that_is_down():
    with reserved_port() as port:
        daemon = HttpDaemon(f"http://127.0.0.1:{port}")
        for call in (daemon.info(), daemon.pool_hashes(), daemon.transactions([UNKNOWN]), daemon.block(1)):
            with pytest.raises(DaemonDown):
                await call
        await daemon.aclose()
