"""The door that sets how many wallet processes there are: bounds, mistakes, several nodes at once, and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cyclopts import CoercionError

from actors.clock import SystemClock
from actors.slot_messages import SupervisorLimits
from actors.slots import Slot
from eventstore.opening import memory_store
from service.__main__ import app
from service.auth import Right
from service.commands import pool as commands
from service.commands.serve import RUN_FILE, Running
from service.given_slots import GivenSlot
from service.pool_scaler import ScalingMetrics
from service.pool_size import POOL_FILE, NoPool, PoolFile
from service.scaling import ScalingLimits
from service.settings import Settings
from service.slot_pool import SlotPool
from tests.given import AMOUNT, BUYER, VENDOR
from tests.patience import PATIENCE_S
from tests.scaled_world import ScaledNode, SimFleet
from tests.sim_world import until_true
from tests.worlds import World, house_world

ADMIN = (Right.ADMIN,)
LIMITS = ScalingLimits(look_s=0.05)
QUICK = SupervisorLimits(recheck_s=0.05, renew_s=0.05, wait_s=0.02)
ORDER = {"order_id": "o-9", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}
WRONG = (0, -3, 1, 4, 12, 10**30)
SPOILT = (
    *(b"", b"\0" * 40, b"[]", b'{"slots_per_role": 1, "least": 1, "most": 1, "drained": ["\xff"]}'),
    *(b'{"slots_per_role": -1, "least": 1, "most": 1}', b'{"slots_per_role": 1000000000, "least": 1, "most": 1}'),
)
"""Cut by a full disk or a power cut, of another program, or edited by hand."""
MALFORMED: tuple[object, ...] = ("6", 6.0, 6.5, True, [6], {})


@asynccontextmanager
async def scaled(
    home: Path, *, nodes: int = 1, supervisor: SupervisorLimits = QUICK
) -> AsyncIterator[tuple[list[ScaledNode], list[World]]]:
    """Nodes on one pool of three to nine processes, each with doors of its own."""
    fleet, leases = SimFleet(), memory_store(partitions=1).slot_leases
    PoolFile(home).begin(least=1, most=3, keep=False)
    async with AsyncExitStack() as stack:
        made, worlds = [], []
        for number in range(nodes):
            node = ScaledNode(
                home,
                fleet=fleet,
                leases=leases,
                clock=SystemClock(),
                limits=LIMITS,
                node_id=f"n{number}",
                supervisor=supervisor,
            )
            made.append(await stack.enter_async_context(node.running()))
            pool = SlotPool(node.supervisors, make=_makes_none, scaler=node.scaler)
            worlds.append(await stack.enter_async_context(house_world(pool=pool)))
        yield made, worlds


def _makes_none(_: GivenSlot) -> Slot:
    raise AssertionError("nobody gives processes here")


async def told(world: World, path: str, body: dict[str, object]) -> tuple[int, dict[str, object]]:
    """Asks as an administrator, and again when the answer is to come back later."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status, answer = await world.ask("POST", path, body, rights=ADMIN)
            if status != HTTPStatus.SERVICE_UNAVAILABLE:
                return status, answer


async def scale(world: World, slots: object) -> tuple[int, dict[str, object]]:
    return await told(world, "/admin/pool/scale", {"slots": slots})


async def test_three_more_are_started_and_ended_as_asked(tmp_path: Path) -> None:
    async with scaled(tmp_path) as ([node], [world]):
        status, answer = await scale(world, 6)
        assert (status, answer["status"], answer["before"], answer["after"]) == (200, "scaled", 3, 6)
        await until_true(lambda: len(node.fleet.running) == 6)
        _, shown = await world.ask("GET", "/admin/pool", rights=ADMIN)
        assert len(shown["slots"]) == 6
        _, answer = await scale(world, 3)
        assert (answer["before"], answer["after"]) == (6, 3)
        await until_true(lambda: len(node.fleet.running) == 3)
        status, answer = await scale(world, None)
        assert (status, answer["status"], answer["after"]) == (200, "unchanged", 3)


@pytest.mark.parametrize("slots", WRONG)
async def test_a_number_that_cannot_be_is_refused_and_changes_nothing(tmp_path: Path, slots: int) -> None:
    async with scaled(tmp_path) as (_, [world]):
        before = PoolFile(tmp_path).read()
        status, answer = await scale(world, slots)
        assert (status, answer["code"]) == (422, "pool_size_invalid")
        assert answer["detail"] == "expected a multiple of three from 3 to 9"
        assert PoolFile(tmp_path).read() == before


async def test_what_is_no_number_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with scaled(tmp_path) as (_, [world]):
        before = PoolFile(tmp_path).read()
        for slots in MALFORMED:
            status, answer = await scale(world, slots)
            assert (status, answer["code"]) == (422, "validation")
        status, answer = await told(world, "/admin/pool/scale", {"slot": 6})
        assert (status, answer["code"]) == (422, "validation")
        assert PoolFile(tmp_path).read() == before


async def test_nodes_that_are_asked_at_once_never_start_more_than_the_largest_size_asked_for(tmp_path: Path) -> None:
    async with scaled(tmp_path, nodes=3) as (nodes, worlds):
        for _ in range(5):
            answers = await asyncio.gather(*(scale(world, size) for world in worlds for size in (6, 9, 6)))
            assert {status for status, _ in answers} == {200}
            last = PoolFile(tmp_path).read().slots_per_role * 3
            assert last in (6, 9)
            fleet = nodes[0].fleet
            async with asyncio.timeout(PATIENCE_S):
                while not all(node.names() == set(fleet.running) for node in nodes) or len(fleet.running) != last:
                    assert len(fleet.running) <= 9
                    await asyncio.sleep(0.02)


async def test_a_drained_slot_leaves_every_node_and_stays_away_until_a_size_is_asked_for(tmp_path: Path) -> None:
    async with scaled(tmp_path, nodes=2) as (nodes, worlds):
        status, answer = await told(worlds[0], "/admin/pool/drain", {"slot": "buyer-0"})
        assert (status, answer) == (200, {"slot": "buyer-0"})
        fleet = nodes[0].fleet
        await until_true(lambda: set(fleet.running) == {"vendor-0", "arbiter-0"})
        await until_true(lambda: all(node.names() == {"vendor-0", "arbiter-0"} for node in nodes))
        status, answer = await told(worlds[1], "/admin/pool/drain", {"slot": "buyer-0"})
        assert (status, answer["code"]) == (404, "no_such_slot")
        await scale(worlds[1], 3)
        await until_true(lambda: len(fleet.running) == 3)


async def test_metrics_show_how_many_there_should_be_and_each_change(tmp_path: Path) -> None:
    async with scaled(tmp_path) as ([node], [world]):
        for slots in (9, 3, 6):
            await scale(world, slots)
        shown = {
            (sample.name, sample.labels.get("direction")): sample.value
            for metric in ScalingMetrics(node.scaler).collect()
            for sample in metric.samples
        }
        assert shown == {
            ("rpc_pool_wanted_slots", None): 6,
            ("rpc_pool_scalings_total", "up"): 2,
            ("rpc_pool_scalings_total", "down"): 1,
        }


async def test_while_as_many_seats_wait_for_a_slot_as_may_no_escrow_is_created_and_the_same_key_may_try_again(
    tmp_path: Path,
) -> None:
    async with scaled(tmp_path, supervisor=msgspec.structs.replace(QUICK, queue_max=1)) as ([node], [world]):
        leased = await (await node.wish("esc_1/buyer"))
        waiting = await node.wish("esc_2/buyer")
        status, answer = await world.ask("POST", "/api/escrows", ORDER, key="k")
        assert (status, answer["code"]) == (503, "slots_busy")
        async with world.client.post(
            "/api/escrows", json=ORDER, headers={"Authorization": f"Bearer {world.token(BUYER)}"}
        ) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        node.give_back(leased)
        node.give_back(await waiting)
        status, _ = await world.ask("POST", "/api/escrows", ORDER, key="k")
        assert status == HTTPStatus.CREATED


def test_a_world_begins_with_the_least_unless_nodes_live_on(tmp_path: Path) -> None:
    file = PoolFile(tmp_path)
    with pytest.raises(NoPool):
        file.read()
    first = file.begin(least=1, most=3, keep=True)
    assert (first.slots_per_role, first.drained) == (1, ())
    grown = file.change(first, slots_per_role=3, drained=("buyer-0",))
    assert grown is not None and file.change(first, slots_per_role=2, drained=()) is None
    kept = file.begin(least=1, most=2, keep=True)
    assert (kept.slots_per_role, kept.drained) == (2, ("buyer-0",))
    anew = file.begin(least=1, most=3, keep=False)
    assert (anew.slots_per_role, anew.drained) == (1, ())
    assert len({each.change for each in (first, grown, kept, anew)}) == 4


@pytest.mark.parametrize("content", SPOILT)
def test_a_world_begins_anew_where_the_file_does_not_say_how_many_slots_there_are(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / POOL_FILE).write_bytes(content)
    file = PoolFile(tmp_path)
    with pytest.raises(NoPool):
        file.read()
    assert file.begin(least=1, most=3, keep=True).slots_per_role == 1


async def test_where_the_file_is_gone_a_change_is_refused_and_slots_stay_as_they_are(tmp_path: Path) -> None:
    async with scaled(tmp_path) as ([node], [world]):
        await until_true(lambda: len(node.fleet.running) == 3)
        (tmp_path / POOL_FILE).unlink()
        asked: tuple[tuple[str, dict[str, object]], ...] = (
            ("scale", {"slots": 6}),
            ("scale", {}),
            ("drain", {"slot": "buyer-0"}),
        )
        for path, body in asked:
            status, answer = await world.ask("POST", f"/admin/pool/{path}", body, rights=ADMIN)
            assert (status, answer["code"]) == (503, "pool_unknown")
        assert len(node.fleet.running) == len(node.names()) == 3
        PoolFile(tmp_path).begin(least=1, most=3, keep=False)
        status, _ = await scale(world, 6)
        assert status == HTTPStatus.OK


@pytest.mark.parametrize(
    ("code", "answer"), [(200, b"<html>"), (404, b"<html>"), (200, b'{"status": "ok"}'), (502, b'"\xff"'), (200, b"")]
)
async def test_where_another_program_has_the_port_of_a_service_that_was_killed_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, answer: bytes
) -> None:
    async def says(_: web.Request) -> web.Response:
        return web.Response(status=code, body=answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", says)
    async with TestServer(app) as other:
        where = Running(api=f"http://127.0.0.1:{other.port}", metrics="", daemon="")
        (tmp_path / RUN_FILE).write_bytes(msgspec.json.encode(where))
        command = commands.scale(Settings(thirdkey_home=tmp_path), slots=6, node=None, as_json=False)
        assert await command == 1
    assert capsys.readouterr().err == f"another program answers at {where.api}\n"


@pytest.mark.parametrize("slots", ["6.5", "6.0", "6e0", "0x6", "1_0", "six", "", " 6", "9" * 10])
def test_a_number_on_the_command_line_that_is_not_whole_is_refused(slots: str) -> None:
    arguments = ["pool", "scale", "--slots", slots]
    with pytest.raises(CoercionError, match="expected a whole number"):
        app.parse_args(arguments, exit_on_error=False, print_error=False)
