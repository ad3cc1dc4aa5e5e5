"""Whoever runs a slot's process: the same claims for processes of our own and for those that are not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.ailments import Ailment, SlotUnusable
from actors.escrow import LostLease
from actors.given_slot import GivenHost
from actors.jsonrpc import Access
from actors.ports import WalletFault
from actors.processes import ProcessKeeper, Program
from actors.simulation import SimChain, SimFiles, SimFolder, SimWallet
from actors.slots import SlotHost
from service.slot_programs import MAKER, SlotFolders, SlotPrograms
from tests.wallet_fixtures import REAL, fault_of_call
from tests.wallet_server import served


def nothing() -> None:
    pass


@asynccontextmanager
async def given_host() -> AsyncIterator[SlotHost]:
    folder = SimFolder()
    async with served(SimWallet(chain=SimChain(), folder=folder)) as server:
        yield GivenHost(server.url, access=Access(), files=SimFiles(folder))


def own_programs(tmp_path: Path) -> SlotPrograms:
    folders = SlotFolders(
        programs=tmp_path / "run",
        wallets=tmp_path / "wallets",
        name="buyer-0",
        network="regtest",
        daemon_address="127.0.0.1:1",
    )
    return SlotPrograms(folders)


@asynccontextmanager
async def own_host(tmp_path: Path) -> AsyncIterator[SlotHost]:
    host = own_programs(tmp_path)
    try:
        yield host
    finally:
        await host.stop()


@pytest.fixture(params=["given", REAL])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SlotHost]:
    made = own_host(tmp_path) if request.param == "real" else given_host()
    async with made as host:
        yield host


async def test_who_takes_over_finds_nothing_open_and_what_was_open_saved(host: SlotHost) -> None:
    first = await host.reach(fence=1, clean=True, before_call=nothing)
    await first.create_wallet("w", password="pw")
    second = await host.reach(fence=2, clean=False, before_call=nothing)
    assert await fault_of_call(second.get_address()) is WalletFault.NO_WALLET_OPEN
    await second.open_wallet("w", password="pw")
    await asyncio.gather(first.aclose(), second.aclose())


async def test_a_slot_given_back_closed_is_used_as_it_is(host: SlotHost) -> None:
    first = await host.reach(fence=1, clean=True, before_call=nothing)
    await first.create_wallet("w", password="pw")
    await first.close_wallet()
    second = await host.reach(fence=2, clean=True, before_call=nothing)
    assert await fault_of_call(second.get_address()) is WalletFault.NO_WALLET_OPEN
    await asyncio.gather(first.aclose(), second.aclose())


async def test_who_lost_the_lease_calls_nothing(host: SlotHost) -> None:
    def lost() -> None:
        raise LostLease

    client = await host.reach(fence=1, clean=True, before_call=lost)
    with pytest.raises(LostLease):
        await client.store()
    await client.aclose()


async def test_a_program_that_is_ended_and_cannot_start_again_says_that_nothing_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "monero-wallet-rpc").write_text("#!/bin/sh\nexit 1\n")
    (programs / "monero-wallet-rpc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(SlotUnusable, match="not_started") as caught:
        await own_programs(tmp_path).reach(fence=1, clean=False, before_call=nothing)
    assert caught.value.ended


async def test_a_slot_that_is_no_more_is_ended_up_to_its_lease_and_a_later_holders_process_runs_on(
    tmp_path: Path,
) -> None:
    async with own_host(tmp_path) as host:
        assert isinstance(host, SlotPrograms)
        client = await host.reach(fence=3, clean=True, before_call=nothing)
        await client.aclose()
        (found,) = (tmp_path / "run").glob("slot-*.pid")
        process = ProcessKeeper(tmp_path / "run").find(found.stem)
        assert process is not None
        with pytest.raises(LostLease):
            await own_programs(tmp_path).end(2)
        assert process.alive and not host.silent()
        await own_programs(tmp_path).end(3)
        assert not process.alive and host.silent()
        assert list((tmp_path / "run").iterdir()) == []
        await own_programs(tmp_path).end(4)  # what is gone already is no mistake


async def test_a_slot_that_is_stopped_leaves_no_maker_of_wallets_and_no_password_of_a_node_that_died(
    tmp_path: Path,
) -> None:
    host, secret = own_programs(tmp_path), tmp_path / "run" / "buyer-0" / MAKER / "password"
    secret.parent.mkdir(parents=True)
    secret.write_text("pw")
    left = await ProcessKeeper(tmp_path / "run").start(Program(name="make-buyer-0", argv=("sleep", "600"), heard=False))
    await host.stop()
    assert not left.alive and not secret.exists()


async def test_a_call_that_was_never_sent_because_the_lease_was_lost_makes_no_slot_rest() -> None:
    folder = SimFolder()
    async with served(SimWallet(chain=SimChain(), folder=folder)) as server:
        host = GivenHost(server.url, access=Access(), files=SimFiles(folder))
        lost = False

        def check() -> None:
            if lost:
                raise LostLease

        client = await host.reach(fence=1, clean=True, before_call=check)
        await client.create_wallet("w", password="pw")
        lost = True
        with pytest.raises(LostLease):
            await client.store()
        await client.aclose()
        again = await host.reach(fence=2, clean=False, before_call=nothing)
        assert server.wallet.opened is None
        await again.aclose()


async def test_a_process_is_known_to_be_gone_with_a_wallet_that_was_left_open_for_its_next_holder() -> None:
    folder = SimFolder()
    async with served(SimWallet(chain=SimChain(), folder=folder)) as server:
        host = GivenHost(server.url, access=Access(), files=SimFiles(folder))
        maker = await host.reach(fence=1, clean=True, before_call=nothing)
        await maker.create_wallet("primed", password="pw")
        await maker.aclose()
        anew = GivenHost(server.url, access=Access(), files=SimFiles(folder))
        for each in (host, anew):  # of the same service, and of one that was started meanwhile
            holder = await each.reach(fence=2, clean=True, before_call=nothing)
            await holder.aclose()
        anew.shows("primed")
        await server.die()
        for each in (host, anew):
            with pytest.raises(SlotUnusable) as gone:
                await each.reach(fence=2, clean=False, before_call=nothing)
            assert (gone.value.ailment, gone.value.ended) == (Ailment.REFUSED, True)
