"""The program that makes wallets beside a slot: it leaves a wallet open, tells nothing, and gives way."""

import asyncio

import pytest

from actors.processes import ProcessKeeper, Program
from actors.slots import SlotWanted
from service.embedded import PROGRAMS, EmbeddedWorld
from service.slot_programs import MAKER

PASSWORD = "a-password-that-nothing-shows"
LIMIT_S = 120
SLOT = "buyer-0"


@pytest.fixture
async def world(tmp_path):
    world = EmbeddedWorld(home=tmp_path)
    await world.start_chain_and_slots()
    yield world
    await world.stop()


@pytest.fixture
async def slot(world):
    return next(each for each in world.slots if each.name == SLOT)


@pytest.fixture
async def rpc(slot):
    rpc = await slot.host.reach(fence=1, clean=True, before_call=lambda: None)
    yield rpc
    await rpc.aclose()


async def test_a_wallet_is_made_beside_a_slot_and_nothing_of_it_is_told(world, slot, rpc):
    async with asyncio.timeout(LIMIT_S):
        await slot.host.make_wallet(rpc, "w_made", password=PASSWORD, wanted=asyncio.Event())
    address, seed = await rpc.get_address(), await _seed(rpc)
    assert len(seed.split()) == 25
    told = b"".join(each.read_bytes() for each in (world.home / PROGRAMS).rglob("*") if each.is_file())
    assert b"wallet-rpc" in told, "the slots' own logs are there"
    assert not [word for word in (PASSWORD, seed, " ".join(seed.split()[:4])) if word.encode() in told]
    await rpc.close_wallet()
    await rpc.open_wallet("w_made", password=PASSWORD)
    assert await rpc.get_address() == address


async def test_the_making_of_a_wallet_gives_way_at_once_and_leaves_the_slot_as_it_was(world, slot, rpc):
    wanted = asyncio.Event()
    making = asyncio.create_task(slot.host.make_wallet(rpc, "w_given_up", password=PASSWORD, wanted=wanted))
    async with asyncio.timeout(LIMIT_S):
        while not _makers(world):
            await asyncio.sleep(0.001)
        wanted.set()
        with pytest.raises(SlotWanted):
            await making
    assert not _makers(world)
    assert not slot.host.silent()
    assert await rpc.get_version()


async def test_of_a_node_that_died_while_it_made_a_wallet_neither_program_nor_password_stays(world, slot, rpc):
    secret = world.home / PROGRAMS / SLOT / MAKER / "password"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text(PASSWORD)
    program = Program(name=f"make-{SLOT}", argv=("sleep", "600"), heard=False)
    left = await ProcessKeeper(world.home / PROGRAMS).start(program)
    async with asyncio.timeout(LIMIT_S):
        again = await slot.host.reach(fence=2, clean=False, before_call=lambda: None)
    await again.aclose()
    assert not left.alive and not secret.exists()


def _makers(world):
    return list((world.home / PROGRAMS).glob(f"make-{SLOT}.pid"))


async def _seed(rpc):
    answer = await rpc._rpc.call("query_key", {"key_type": "mnemonic"}, answer=dict[str, str], limit_s=LIMIT_S)
    return answer["key"]
