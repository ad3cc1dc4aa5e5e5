"""Administrators see, drain and re-read the slots of a running node; nobody else does, and mistakes change nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from actors.clock import SystemClock
from actors.given_slot import GivenHost
from actors.simulation import SimChain, SimFolder, SimWallet
from actors.slot_messages import SupervisorLimits, TakeSlot
from actors.slots import LeasedSlot, Slot
from actors.supervisor import RoleSupervisor
from domain.roles import THREE, Role
from eventstore.opening import memory_store
from service.auth import Right
from service.given_slots import GivenSlot, given_slots, slot_of
from service.pool_scaler import GivenAdviser, PoolUse
from service.scaling import ScalingLimits
from service.settings import Settings
from service.slot_pool import SlotPool
from tests.patience import PATIENCE_S
from tests.sim_world import until_true
from tests.wallet_server import WalletServer, served
from tests.worlds import World, house_world

ADMIN = (Right.ADMIN,)
QUICK = SupervisorLimits(recheck_s=0.05, renew_s=0.05, wait_s=0.02)
LOGIN = ("u", "old-secret")


class Pool:
    """Six processes, a file that names some of them, and a node that leases them."""

    def __init__(self, folder: Path, servers: list[WalletServer]) -> None:
        self.file, self.folder, self.servers = folder / "slots.json", folder, servers
        self.file.touch(mode=0o600)
        self.write(range(3))
        self.settings = Settings(monero_rpc_file=self.file)
        given = [(each, self.slot(each)) for each in given_slots(self.settings)]
        leases = memory_store(partitions=1).slot_leases
        self.slots = {slot.name: slot for _, slot in given}
        self.supervisors = {
            role: RoleSupervisor(
                role,
                [slot for _, slot in given if slot.role is role],
                leases=leases,
                node_id="node",
                clock=SystemClock(),
                limits=QUICK,
            )
            for role in THREE
        }
        self.use = PoolUse(self.supervisors, leases=leases, limits=ScalingLimits(up_s=1, look_s=1))
        self.pool = SlotPool(
            self.supervisors,
            given,
            read=lambda: given_slots(self.settings),
            make=self.slot,
            scaler=GivenAdviser(self.use, least=1, most=2),
        )

    def slot(self, given: GivenSlot) -> Slot:
        return slot_of(given, call_max_s=60)

    def write(self, numbers: "range | list[int]", *, password: str = LOGIN[1], **more: object) -> None:
        entries = [
            {"url": self.servers[n].url, "user": "u", "password": password, "wallet_dir": str(self.folder)} | more
            for n in numbers
        ]
        self.file.write_text(json.dumps(entries))

    async def states(self, world: World) -> list[str]:
        _, shown = await world.ask("GET", "/admin/pool", rights=ADMIN)
        return [slot["state"] for slot in shown["slots"]]


@asynccontextmanager
async def pooled(folder: Path) -> AsyncIterator[tuple[Pool, World]]:
    chain = SimChain()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(served(SimWallet(chain=chain, folder=SimFolder()), login=LOGIN))
            for _ in range(6)
        ]
        made = Pool(folder, servers)
        world = await stack.enter_async_context(house_world(pool=made.pool))
        try:
            await until_true(lambda: [each.state for each in made.pool.status()] == ["free"] * 3)
            yield made, world
        finally:
            for supervisor in made.supervisors.values():
                await supervisor.actor_ref.stop(timeout_s=1)


async def test_only_administrators_see_or_change_slots(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (_, world):
        doors = (("GET", "/admin/pool"), ("POST", "/admin/pool/drain"))
        more = (("POST", "/admin/pool/scale"), ("POST", "/admin/reload-rpc-config"))
        for method, path in (*doors, *more):
            for rights in ((), (Right.ARBITER,), (Right.MARKETPLACE,)):
                status, answer = await world.ask(method, path, rights=rights)
                assert (status, answer["code"]) == (403, "right_missing")
            assert (await world.ask(method, path, user=None))[0] == 401


async def test_what_an_administrator_sees_holds_no_secret_and_no_address(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        status, shown = await world.ask("GET", "/admin/pool", rights=ADMIN)
        assert status == 200
        assert [slot["role"] for slot in shown["slots"]] == ["buyer", "vendor", "arbiter"]
        assert set(shown["slots"][0]) == {"name", "role", "state", "reason", "seconds"}
        assert LOGIN[1] not in json.dumps(shown) and str(made.folder) not in json.dumps(shown)


async def test_new_processes_come_and_missing_ones_leave(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        made.write(range(6))
        status, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert (status, answer["status"], answer["added"], answer["removed"]) == (200, "reloaded", 3, 0)
        await until_true(lambda: [each.state for each in made.pool.status()] == ["free"] * 6)
        made.write(range(3))
        _, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert (answer["added"], answer["removed"]) == (0, 3)
        await until_true(lambda: len(made.pool.status()) == 3)
        _, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert (answer["added"], answer["removed"]) == (0, 0)


async def test_a_process_that_is_given_to_another_role_leaves_first(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        made.write([1, 0, 2])
        _, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert (answer["added"], answer["removed"]) == (0, 0) and "2 to change their role" in answer["message"]
        await until_true(lambda: len(made.pool.status()) == 1)
        _, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert answer["added"] == 2
        await until_true(lambda: [each.state for each in made.pool.status()] == ["free"] * 3)


async def test_a_process_that_changes_to_https_leaves_first(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        entries = json.loads(made.file.read_text())
        entries[0] |= {"url": entries[0]["url"].replace("http://", "https://"), "fingerprint": "ab" * 32}
        made.file.write_text(json.dumps(entries))
        _, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert "1 to change their role, folder or scheme" in answer["message"]
        await until_true(lambda: len(made.pool.status()) == 2)
        await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        hosts = [slot.host for slot in made.supervisors[Role.BUYER]._slots]
        assert [isinstance(host, GivenHost) and host.url.startswith("https://") for host in hosts] == [True]


async def test_two_reloads_at_once_make_one_slot_of_a_new_process(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, _):
        made.write(range(6))
        await asyncio.gather(made.pool.reload(), made.pool.reload())
        made.write(range(6), password="new-secret")
        await made.pool.reload()
        hosts = [slot.host for supervisor in made.supervisors.values() for slot in supervisor._slots]
        assert len(hosts) == 6
        assert all(isinstance(host, GivenHost) and host.access.password == "new-secret" for host in hosts)


async def test_a_broken_file_changes_nothing_and_is_said_to_be_broken(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        before = [each.name for each in made.pool.status()]
        made.write(range(6), wallet_dir="")
        status, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert (status, answer["code"]) == (422, "rpc_config_wrong")
        assert "entry 1: wallet_dir" in answer["detail"] and LOGIN[1] not in json.dumps(answer)
        made.file.write_text("{")
        assert (await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN))[0] == 422
        assert [each.name for each in made.pool.status()] == before
        assert await made.states(world) == ["free"] * 3


async def test_a_changed_login_is_taken_over_without_a_restart(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        for server in made.servers:
            server.login = ("u", "new-secret")
        for slot in made.slots.values():
            slot.looked_at = -1e9  # as if it were time for a look
        await until_true(lambda: {each.reason for each in made.pool.status()} == {"unauthorised"})
        made.write(range(3), password="new-secret")
        _, answer = await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        assert (answer["added"], answer["removed"]) == (0, 0)
        await until_true(lambda: [each.state for each in made.pool.status()] == ["free"] * 3)
        hosts = [slot.host for slot in made.slots.values()]
        assert all(isinstance(host, GivenHost) and host.access.password == "new-secret" for host in hosts)


async def test_a_slot_is_drained_by_its_name(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        name = made.pool.status()[0].name
        status, answer = await world.ask("POST", "/admin/pool/drain", {"slot": name}, rights=ADMIN)
        assert (status, answer) == (200, {"slot": name})
        await until_true(lambda: len(made.pool.status()) == 2)
        status, answer = await world.ask("POST", "/admin/pool/drain", {"slot": name}, rights=ADMIN)
        assert (status, answer["code"]) == (404, "no_such_slot")


async def test_of_processes_that_are_not_ours_the_number_is_advised_and_none_is_started(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        status, answer = await world.ask("POST", "/admin/pool/scale", {}, rights=ADMIN)
        assert (status, answer["status"], answer["before"], answer["after"]) == (200, "advised", 3, 3)
        wishes: list[asyncio.Future[LeasedSlot]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
        buyers = made.supervisors[Role.BUYER].actor_ref
        for number, granted in enumerate(wishes):
            await buyers.ask(TakeSlot(seat=f"esc_{number}/buyer", granted=granted), timeout_s=PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while answer["after"] == 3:
                await asyncio.sleep(0.05)
                _, answer = await world.ask("POST", "/admin/pool/scale", {}, rights=ADMIN)
        assert (answer["status"], answer["before"], answer["after"], answer["use_percent"]) == ("advised", 3, 6, 200)
        assert len(made.pool.status()) == 3
        status, answer = await world.ask("POST", "/admin/pool/scale", {"slots": 6}, rights=ADMIN)
        assert (status, answer["code"]) == (409, "slots_not_ours")
        await (await wishes[0]).rpc.aclose()


async def test_processes_that_the_advice_led_to_are_counted_after_a_reload(tmp_path: Path) -> None:
    async with pooled(tmp_path) as (made, world):
        made.write(range(6))
        await world.ask("POST", "/admin/reload-rpc-config", {}, rights=ADMIN)
        await until_true(lambda: [each.state for each in made.pool.status()] == ["free"] * 6)
        _, answer = await world.ask("POST", "/admin/pool/scale", {}, rights=ADMIN)
        assert (answer["before"], answer["after"], answer["use_percent"]) == (6, 6, 0)


async def test_a_service_without_slots_says_so() -> None:
    async with house_world() as world:
        status, answer = await world.ask("GET", "/admin/pool", rights=ADMIN)
        assert (status, answer["code"]) == (404, "no_slots")
