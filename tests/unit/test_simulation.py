"""The simulated wallets where no real one is asked: faults, crashes, locks, double signatures, fees, the watch."""

import asyncio
import time

import pytest

from actors.ports import DaemonDown, Destination, WalletFault, WalletRefused, WalletUnknown, WatchTarget
from actors.simulation import Fault, SimChain, SimDaemon, SimFiles, SimFolder, SimWallet, SimWatch
from actors.simulation.fees import network_fee
from domain.ids import EscrowId
from domain.money import Atomic
from schemas.address import BadAddress, parse_address
from tests.wallet_fixtures import PASSWORD, SimulatedWorld, exchange, fault_of_call, others, set_up

XMR = 10**12


@pytest.fixture
def world():
    return SimulatedWorld()


async def funded(world, amount=2 * XMR):
    address = await set_up(world, "e")
    world.chain.pay(address, amount)
    world.chain.mine(10)
    for seat in world.seats:
        await seat.refresh()
    return address


async def proposed(world, amount=XMR):
    """The vendor's set for the buyer to sign."""
    buyer, vendor, _ = world.seats
    export = await buyer.export_multisig_info()
    await buyer.store()
    await vendor.import_multisig_info([export])
    receiver = Destination(address=await world.outside(), amount=Atomic(amount))
    return (await vendor.transfer([receiver])).tx_set


@pytest.mark.parametrize(
    ("inputs", "destinations", "fee"),
    [(1, 1, 1_808_400_000), (1, 2, 2_632_800_000), (1, 3, 2_761_200_000), (2, 1, 2_605_200_000), (3, 1, 3_420_000_000)],
)
def test_fees_are_the_recorded_ones(inputs, destinations, fee):
    assert network_fee(inputs=inputs, destinations=destinations, keys_per_output=destinations > 1) == fee


def test_two_standard_addresses_cost_less_than_two_subaddresses():
    assert network_fee(inputs=1, destinations=2, keys_per_output=False) == 2_514_000_000


async def test_the_same_seed_and_calls_give_the_same_addresses_and_hashes():
    first, second = SimulatedWorld(), SimulatedWorld()
    assert await set_up(first, "e") == await set_up(second, "e")
    assert first.chain.top_hash == second.chain.top_hash != SimChain(seed=8).top_hash


async def test_a_set_up_takes_milliseconds(world):
    started = time.process_time()
    for number in range(20):
        await set_up(world, f"e{number}")
    assert (time.process_time() - started) / 20 < 0.05, "of this process's own time, whatever else runs"


async def test_a_lost_call_has_no_effect_and_a_lost_answer_has_it(world):
    seat = world.processes[0]
    seat.faults.plan("create_wallet", Fault.LOST_BEFORE)
    seat.faults.plan("create_wallet", Fault.LOST_AFTER)
    for expected in (False, True):
        with pytest.raises(WalletUnknown):
            await seat.create_wallet("w", password=PASSWORD)
        assert world.files[0].exists("w") is expected
    assert await fault_of_call(seat.create_wallet("w", password=PASSWORD)) is WalletFault.EXISTS


async def test_a_refusal_on_order_comes_once_and_changes_nothing(world):
    seat = world.processes[0]
    seat.faults.plan("create_wallet", Fault.REFUSED, refusal=WalletFault.NO_DAEMON)
    assert await fault_of_call(seat.create_wallet("w", password=PASSWORD)) is WalletFault.NO_DAEMON
    await seat.create_wallet("w", password=PASSWORD)


async def test_a_late_answer_has_its_effect_first_and_holds_up_the_next_call():
    waits, go_on = [], asyncio.Event()

    async def sleep(seconds):
        waits.append(seconds)
        await go_on.wait()

    seat = SimWallet(chain=SimChain(), folder=SimFolder(), sleep=sleep)
    seat.faults.plan("create_wallet", Fault.LATE, seconds=30)
    late = asyncio.create_task(seat.create_wallet("w", password=PASSWORD))
    after = asyncio.create_task(seat.get_version())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waits == [30] and seat.opened == "w" and not after.done()
    go_on.set()
    await late
    assert await after


async def test_a_dead_process_answers_nothing_until_it_is_started_again(world):
    seat = world.processes[0]
    await seat.create_wallet("w", password=PASSWORD)
    seat.kill()
    with pytest.raises(WalletUnknown):
        await seat.get_version()
    seat.restart()
    assert await fault_of_call(seat.get_address()) is WalletFault.NO_WALLET_OPEN
    await seat.open_wallet("w", password=PASSWORD)


async def test_one_file_is_open_in_one_process_and_a_dead_one_lets_go():
    chain, folder = SimChain(), SimFolder()
    first, second = SimWallet(chain=chain, folder=folder), SimWallet(chain=chain, folder=folder)
    await first.create_wallet("w", password=PASSWORD)
    assert await fault_of_call(second.open_wallet("w", password=PASSWORD)) is WalletFault.OPEN_FAILED
    first.kill()
    await second.open_wallet("w", password=PASSWORD)


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_HALFWAY, Fault.KILLED_AFTER])
async def test_a_make_killed_halfway_tears_the_wallet(world, fault):
    for seat in world.seats:
        await seat.create_wallet("w", password=PASSWORD)
    first = [await seat.prepare_multisig() for seat in world.seats]
    victim = world.processes[0]
    victim.faults.plan("make_multisig", fault)
    with pytest.raises(WalletUnknown):
        await victim.make_multisig(first[1:], password=PASSWORD)
    victim.restart()
    if fault is Fault.KILLED_HALFWAY:
        assert await fault_of_call(victim.open_wallet("w", password=PASSWORD)) is WalletFault.OPEN_FAILED
        SimFiles(world.folders[0]).drop_cache("w")
    await victim.open_wallet("w", password=PASSWORD)
    assert (await victim.is_multisig()).multisig is (fault is not Fault.KILLED_BEFORE)


async def test_make_after_a_crash_needs_prepare_again_or_the_exchange_is_disabled(world):
    for seat in world.seats:
        await seat.create_wallet("w", password=PASSWORD)
    first = [await seat.prepare_multisig() for seat in world.seats]
    await world.crash(0)
    await world.seats[0].open_wallet("w", password=PASSWORD)
    second = [
        await seat.make_multisig(others(first, index), password=PASSWORD) for index, seat in enumerate(world.seats)
    ]
    with pytest.raises(WalletRefused) as refusal:
        await exchange(world.seats, second)
    assert refusal.value.fault is WalletFault.DISABLED


async def test_a_middleman_gets_every_seat_ready_with_an_address_of_its_own(world):
    addresses = set()
    for victim in world.processes:
        seats = [victim, *[SimWallet(chain=world.chain, folder=SimFolder()) for _ in range(2)]]
        for seat in seats:
            await seat.create_wallet("w", password=PASSWORD)
        first = [await seat.prepare_multisig() for seat in seats]
        second = [await seat.make_multisig(others(first, i), password=PASSWORD) for i, seat in enumerate(seats)]
        third = await exchange(seats, second)
        addresses |= {each.address for each in await exchange(seats, [each.info for each in third])}
        assert (await victim.is_multisig()).ready
    assert len(addresses) == 3


async def test_signing_twice_with_one_nonce_is_possible_after_a_crash_and_is_caught(world):
    await funded(world)
    buyer, vendor, _ = world.seats
    one = await proposed(world)
    receiver = Destination(address=await world.outside(), amount=Atomic(XMR // 2))
    other = (await vendor.transfer([receiver])).tx_set
    await buyer.sign_multisig(one)
    assert await fault_of_call(buyer.sign_multisig(other)) is WalletFault.STALE
    await world.crash(0)
    await buyer.open_wallet("e", password=PASSWORD)
    assert world.chain.nonce_reuses == []
    await buyer.sign_multisig(other)
    assert len(world.chain.nonce_reuses) == 1


async def test_a_stored_signature_cannot_be_followed_by_another(world):
    await funded(world)
    buyer, _, _ = world.seats
    one = await proposed(world)
    await buyer.sign_multisig(one)
    await buyer.store()
    await world.crash(0)
    await buyer.open_wallet("e", password=PASSWORD)
    assert await fault_of_call(buyer.sign_multisig(one)) is WalletFault.STALE


async def test_an_import_into_a_wallet_that_is_behind_wipes_it_and_answers_success(world):
    await funded(world)
    buyer, vendor, _ = world.seats
    export = await vendor.export_multisig_info()
    own = await buyer.export_multisig_info()
    await world.mine(1)
    assert await buyer.import_multisig_info([export]) == 0
    assert await buyer.incoming_transfers() == ()
    await buyer.refresh()
    assert len(await buyer.incoming_transfers()) == 1
    await vendor.refresh()
    await vendor.import_multisig_info([own])
    receiver = Destination(address=await world.outside(), amount=Atomic(XMR))
    dead = (await vendor.transfer([receiver])).tx_set
    assert await fault_of_call(buyer.sign_multisig(dead)) is WalletFault.STALE


async def test_an_older_export_beside_a_newer_one_hides_the_output_it_does_not_cover(world):
    address = await funded(world)
    buyer, vendor, arbiter = world.seats
    old = await arbiter.export_multisig_info()
    await world.pay((address, XMR))
    await world.mine(10)
    for seat in world.seats:
        await seat.refresh()
    new = await buyer.export_multisig_info()
    assert await vendor.import_multisig_info([old, new]) == 1
    assert [each.key_image is None for each in await vendor.incoming_transfers()] == [False, True]
    assert await vendor.import_multisig_info([new]) == 2


async def test_the_same_receiver_twice_is_one_receiver(world):
    await funded(world)
    await proposed(world)
    receiver = Destination(address=await world.outside(), amount=Atomic(XMR // 4))
    proposal = await world.seats[1].transfer([receiver, receiver])
    (description,) = await world.seats[0].describe_transfer(proposal.tx_set)
    assert [each.amount for each in description.recipients] == [XMR // 2]
    assert proposal.fee == 2_514_000_000


async def test_a_wallet_made_without_a_daemon_never_sees_money(world):
    world.chain.online = False
    address = await set_up(world, "e")
    world.chain.online = True
    await world.pay((address, XMR))
    await world.mine(10)
    await world.seats[0].refresh()
    assert await world.seats[0].incoming_transfers() == ()


async def test_without_a_daemon_only_what_needs_none_works(world):
    await funded(world)
    buyer, vendor, _ = world.seats
    one = await proposed(world)
    world.chain.online = False
    receiver = Destination(address=await world.outside(), amount=Atomic(XMR))
    export = await buyer.export_multisig_info()
    for call in (buyer.refresh(), vendor.transfer([receiver]), vendor.import_multisig_info([export])):
        assert await fault_of_call(call) is WalletFault.NO_DAEMON
    assert await vendor.describe_transfer(one)


async def test_the_watch_sees_deposits_payouts_and_reorganisations_with_the_view_key_alone(world):
    address = await funded(world)
    buyer, vendor, _ = world.seats
    watch = SimWatch(world.chain)
    signed = await buyer.sign_multisig(await proposed(world))
    (output,) = await vendor.incoming_transfers()
    target = WatchTarget(
        escrow_id=EscrowId("e"),
        address=address,
        view_key=await buyer.view_key(),
        since_height=0,
        key_images={output.one_time_key: output.key_image},
    )

    async def view():
        return (await watch.look([target]))[target.escrow_id]

    assert [(each.amount, each.unlocked) for each in (await view()).outputs] == [(2 * XMR, True)]
    await vendor.submit_multisig(signed.tx_hex)
    assert [(each.tx_hash, each.height) for each in (await view()).spends] == [(signed.tx_hashes[0], None)]
    await world.mine(1)
    assert (await view()).spends[0].height == world.chain.height - 1
    assert len((await view()).outputs) == 2, "the change came back"
    world.chain.pop(1)
    world.chain.flush()
    assert (await view()).spends == () and len((await view()).outputs) == 1
    world.chain.pop(10)
    assert [(each.height, each.unlocked) for each in (await view()).outputs] == [(None, False)]


async def test_a_foreign_view_key_sees_nothing(world):
    address = await funded(world)
    target = WatchTarget(escrow_id=EscrowId("e"), address=address, view_key="01" + "00" * 31, since_height=0)
    assert (await SimWatch(world.chain).look([target]))[target.escrow_id].outputs == ()


async def test_the_daemon_may_be_down_once(world):
    daemon = SimDaemon(world.chain)
    daemon.faults.plan("info", Fault.LOST_BEFORE)
    with pytest.raises(DaemonDown):
        await daemon.info()
    assert (await daemon.info()).height == world.chain.height


async def test_an_unfinished_wallet_shows_an_address_that_is_refused(world):
    for seat in world.seats:
        await seat.create_wallet("w", password=PASSWORD)
    first = [await seat.prepare_multisig() for seat in world.seats]
    await world.seats[0].make_multisig(first[1:], password=PASSWORD)
    with pytest.raises(BadAddress, match="address_placeholder"):
        parse_address(await world.seats[0].get_address(), network="regtest")


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("create_wallet", WalletFault.EXISTS),
        ("make_multisig", WalletFault.ALREADY_MULTISIG),
        ("close_wallet", WalletFault.NO_WALLET_OPEN),
    ],
)
async def test_a_call_sent_twice_is_answered_as_the_second_of_two(world, method, fault):
    seat, first = world.processes[0], list[str]()
    calls = {
        "create_wallet": lambda: seat.create_wallet("w", password=PASSWORD),
        "make_multisig": lambda: seat.make_multisig(first[1:], password=PASSWORD),
        "close_wallet": seat.close_wallet,
    }
    for each in world.processes[method == "create_wallet" :]:
        await each.create_wallet("w", password=PASSWORD)
    if method == "make_multisig":
        first += [await each.prepare_multisig() for each in world.processes]
    seat.faults.plan(method, Fault.DOUBLED)
    assert await fault_of_call(calls[method]()) is fault
    assert world.files[0].exists("w")


async def test_a_stopped_process_carries_calls_out_when_it_goes_on_whoever_gave_them_up(world):
    seat = world.processes[0]
    client = seat.client(lambda: None)
    seat.faults.plan("create_wallet", Fault.HUNG)
    given_up = asyncio.create_task(client.create_wallet("w", password=PASSWORD))
    behind = asyncio.create_task(client.get_version())
    for _ in range(5):
        await asyncio.sleep(0)
    assert seat.stopped and not given_up.done() and not behind.done()
    given_up.cancel()
    seat.go_on()
    assert await behind
    assert seat.opened == "w"


async def test_the_end_of_a_process_cuts_its_calls_and_the_next_run_does_not_know_the_login(world):
    seat = world.processes[0]
    old = seat.client(lambda: None)
    seat.faults.plan("get_version", Fault.HUNG)
    cut = asyncio.create_task(old.get_version())
    for _ in range(5):
        await asyncio.sleep(0)
    seat.restart(fence=2)
    with pytest.raises(WalletUnknown, match="connection lost"):
        await cut
    with pytest.raises(WalletUnknown, match="unreachable"):
        await old.get_version()
    assert await seat.client(lambda: None).get_version() and seat.fence == 2
