"""A service on wallet processes that are not its own: one is killed in mid-set-up, and no wallet is ever open twice."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from actors.monero_programs import WalletProgram, launch_regtest, launch_wallet, reserved_port
from actors.ports import WalletFault, WalletUnknown
from actors.processes import Process, ProcessKeeper
from actors.wallet_files import COPIES, FolderFiles
from actors.wallet_rpc import HttpWallet
from domain.ids import UserId
from domain.roles import THREE, Role
from ops.regtest.chain import RegtestChain
from service.auth import Right, issue_token
from service.commands.stage import Person
from service.keys import issuer_key
from service.settings import Settings
from tests.real.test_serve import Service, home, programs_of, started
from tests.sim_world import payout_address
from tests.wallet_fixtures import fault_of_call

pytestmark = [pytest.mark.timeout(600)]
LIMIT_S = 120
SET_UP_S = 300
"""A quiet machine takes ten seconds."""
__all__ = ["home"]


class Machines:
    """Somebody else's chain and wallet processes: the first and the fourth are buyers', in one folder."""

    def __init__(self, home: Path) -> None:
        self.home, self.keeper = home, ProcessKeeper(home / "theirs")
        self._ports = ExitStack()
        self.daemon_port = self._port()
        self.programs = [self._program(number, role) for number, role in enumerate((*THREE, Role.BUYER))]
        self.processes: list[Process] = []

    async def start(self) -> None:
        await launch_regtest(self.keeper, folder=self.home / "their-chain", port=self.daemon_port)
        self.processes = list(await asyncio.gather(*(self._launched(program) for program in self.programs)))

    async def restart(self, number: int) -> None:
        self.processes[number] = await self._launched(self.programs[number])

    async def stop(self) -> None:
        await self.keeper.end_orphans()
        self._ports.close()

    def number_at(self, slot: str) -> int:
        """Finds a process by the slot's name, which has its port in it."""
        return next(n for n, program in enumerate(self.programs) if f"-{program.port}-" in slot)

    def write_file(self) -> Path:
        entries = [
            {"url": program.url, "user": login[0], "password": login[1], "wallet_dir": str(program.wallet_folder)}
            for program in self.programs
            if (login := program.login)
        ]
        path = self.home / "wallets.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(entries))
        return path

    def _port(self) -> int:
        return self._ports.enter_context(reserved_port())

    async def _launched(self, program: WalletProgram) -> Process:
        process, client = await launch_wallet(self.keeper, program)
        await client.aclose()
        return process

    def _program(self, number: int, role: Role) -> WalletProgram:
        return WalletProgram(
            name=f"theirs-{number}",
            folder=self.home / f"theirs-{number}",
            port=self._port(),
            daemon_address=f"127.0.0.1:{self.daemon_port}",
            login=("them", f"secret-{number}"),
            wallets=self.home / "their-wallets" / role.value,
        )


@pytest.fixture
async def machines(home: Path) -> AsyncIterator[Machines]:  # the fixture of the same name
    made = Machines(home)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def people(service: Service) -> AsyncIterator[Mapping[str, Person]]:
    """Alice, Bob and an administrator."""
    issuer = issuer_key(Settings(thirdkey_home=service.home))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        def person(name: str, *rights: Right) -> Person:
            token = issue_token(issuer, sub=UserId(name), rights=frozenset(rights), ttl_s=600)
            return Person(name, token=token, api=service.where.api, session=session)

        yield {"alice": person("alice"), "bob": person("bob"), "admin": person("admin", Right.ADMIN)}


async def slots(admin: Person) -> list[dict[str, object]]:
    shown = (await admin.get("/admin/pool"))["slots"]
    assert isinstance(shown, list)
    return shown


async def buyers_slot(admin: Person, *, state: str) -> str:
    """Waits until a slot of the buyers is in some state and names it."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for slot in await slots(admin):
                if (slot["role"], slot["state"]) == ("buyer", state):
                    return str(slot["name"])
            await asyncio.sleep(0.02)


async def ready(admin: Person) -> None:
    """Waits until every slot was found to be usable."""
    async with asyncio.timeout(LIMIT_S):
        while [slot["state"] for slot in await slots(admin)] != ["free"] * 4:
            await asyncio.sleep(0.1)


async def metrics(service: Service) -> str:
    async with aiohttp.ClientSession() as session, session.get(service.where.metrics) as answer:
        return await answer.text()


async def thirdkey(home: Path, *arguments: str) -> tuple[int, str]:
    """Runs a command beside the running service."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *arguments),
        env={**os.environ, "THIRDKEY_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(LIMIT_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_set_up_goes_on_from_another_slot_when_a_given_process_is_killed_in_the_middle_of_a_round(
    home: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One test for several claims: bringing the processes and a service up is what costs.
    monkeypatch.setenv("MONERO_RPC_FILE", str(machines.write_file()))
    monkeypatch.setenv("MONERO_DAEMON_URLS", f"http://127.0.0.1:{machines.daemon_port}")
    chain = RegtestChain(f"http://127.0.0.1:{machines.daemon_port}")
    await chain.mine(1, to=payout_address(Role.BUYER))
    await chain.aclose()
    service = await started(home, 1)
    async with people(service) as who:
        await ready(who["admin"])
        order = {"order_id": "order-1", "buyer_id": "alice", "vendor_id": "bob", "amount": 10**12}
        path = f"/api/escrows/{(await who['alice'].post('/api/escrows', order))['escrow_id']}"

        killed = await killed_in_make(machines, who["admin"])
        await set_up(who["alice"], path)

        code, said = await thirdkey(home, "pool", "status", "--json")
        reasons = {slot["name"]: slot["reason"] for slot in json.loads(said)["slots"]}
        assert (code, reasons[killed]) == (1, "refused")
        assert 'rpc_slots_unusable{reason="refused",role="buyer"} 1.0' in await metrics(service)
        await machines.restart(machines.number_at(killed))
        await ready(who["admin"])

        await drained_and_back(home, machines, who["admin"])
    assert await service.ends_with(signal.SIGTERM) == 0
    assert not any(f"secret-{number}" in service.said for number in range(4))
    await machines.stop()
    assert programs_of(home) == []


async def set_up(buyer: Person, path: str) -> None:
    """Waits until the three wallets agree on an address."""
    async with asyncio.timeout(SET_UP_S):
        while (facts := await buyer.get(path))["state"] != "awaiting_funding":
            assert facts["state"] in ("pending", "setting_up"), facts
            await asyncio.sleep(0.2)


async def killed_in_make(machines: Machines, admin: Person) -> str:
    """Kills the buyer's process once the way back of its second round lies there, which is when that round begins.

    Returns the name of its slot.
    """
    copies = machines.home / "their-wallets" / "buyer" / COPIES
    async with asyncio.timeout(LIMIT_S):
        while not list(copies.glob("*/make/*.keys")):
            await asyncio.sleep(0.005)
    name = await buyers_slot(admin, state="leased")
    await machines.processes[machines.number_at(name)].kill()
    return name


async def drained_and_back(home: Path, machines: Machines, admin: Person) -> None:
    """Takes a process out of the file and puts it back, while the service runs."""
    path = machines.write_file()
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries[:3]))
    code, said = await thirdkey(home, "pool", "reload")
    assert (code, said.split(",")[0]) == (0, "0 added"), said
    async with asyncio.timeout(LIMIT_S):
        while len(await slots(admin)) != 3:
            await asyncio.sleep(0.1)
    path.write_text(json.dumps([*entries, {"url": "http://127.0.0.1:1"}]))
    code, said = await thirdkey(home, "pool", "reload")
    assert code == 1 and "entry 5: wallet_dir" in said
    assert len(await slots(admin)) == 3
    path.write_text(json.dumps(entries))
    assert (await thirdkey(home, "pool", "reload"))[1].startswith("1 added")
    await ready(admin)


async def test_two_processes_never_have_one_wallet_open(home: Path) -> None:
    machines = Machines(home)
    pair = [machines.programs[0], machines.programs[3]]
    machines.processes = list(await asyncio.gather(*(machines._launched(program) for program in pair)))
    files = FolderFiles(pair[0].wallet_folder)
    one, two = (HttpWallet(program.url, user="them", password=(program.login or ("", ""))[1]) for program in pair)
    try:
        await one.create_wallet("w", password="pw")
        assert urlsplit(pair[0].url).port != urlsplit(pair[1].url).port
        files.save("w", label="make")
        for number in (None, signal.SIGSTOP):
            if number is not None:
                os.kill(machines.processes[0].pid, number)
            assert files.in_use("w")
            assert await fault_of_call(two.open_wallet("w", password="pw")) is WalletFault.OPEN_FAILED
            for change in (lambda: files.restore("w", label="make"), lambda: files.drop_cache("w")):
                with pytest.raises(WalletUnknown, match="locked"):
                    change()
        await machines.processes[0].kill()
        assert not files.in_use("w")
        files.restore("w", label="make")
        await two.open_wallet("w", password="pw")
        assert files.in_use("w")
    finally:
        await one.aclose()
        await two.aclose()
        await machines.stop()
