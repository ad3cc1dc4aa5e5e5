"""The wallet's port: the same cases on the simulated wallet and on monero-wallet-rpc over a private chain."""

import contextlib

import pytest

from actors.ports import Destination, KeyImageStatus, WalletFault, WalletRefused
from domain.ids import Address
from domain.money import Atomic
from schemas.address import AddressKind, BadAddress, parse_address
from tests.wallet_fixtures import PASSWORD, exchange, fault_of_call, others, together

XMR = 10**12
FEE_ONE = 1_808_400_000
FEE_TWO = 2_632_800_000
"""One input to one and to two subaddresses (recorded, regtest, 0.18.0.0)."""


def to(address, amount):
    return Destination(address=Address(address), amount=Atomic(amount))


async def paid(world, *payments, confirmations=10):
    """Pays and mines until the payment has so many confirmations; the next block need not have it."""
    height = await mined(world, await world.pay(*payments))
    missing = height + confirmations - (await world.daemon.info()).height
    if missing > 0:
        await world.mine(missing)


async def mined(world, *tx_hashes):
    """Mines until these are in the chain, and returns the height; the next block need not have them."""
    while None in (heights := [each.height for each in await world.daemon.transactions(tx_hashes)]):
        await world.mine(1)
    return heights[0]


async def caught_up(world, *seats):
    """Refreshes until the wallet stands where the daemon stands."""
    height = (await world.daemon.info()).height
    for seat in seats:
        while await seat.get_height() != height:
            await seat.refresh()
        await seat.refresh()


async def synced(world, *, proposer, cosigner):
    await caught_up(world, proposer, cosigner)
    export = await cosigner.export_multisig_info()
    await cosigner.store()
    await proposer.import_multisig_info([export])


async def spendable(seat):
    outputs = [each for each in await seat.incoming_transfers() if each.unlocked and not each.spent and each.key_image]
    return sum(each.amount for each in outputs if each.amount > XMR // 1000)


async def test_without_an_open_wallet_every_call_says_so(world):
    seat = world.seats[0]
    with contextlib.suppress(WalletRefused):
        await seat.close_wallet()
    calls = [
        seat.close_wallet(),
        seat.store(),
        seat.prepare_multisig(),
        seat.make_multisig(["x", "y"], password=PASSWORD),
        seat.exchange_multisig_keys(["x", "y"], password=PASSWORD),
        seat.is_multisig(),
        seat.get_address(),
        seat.view_key(),
        seat.refresh(),
        seat.get_height(),
        seat.incoming_transfers(),
        seat.export_multisig_info(),
        seat.import_multisig_info(["00"]),
        seat.describe_transfer("00"),
        seat.sign_multisig("00"),
        seat.submit_multisig("00"),
    ]
    assert {await fault_of_call(call) for call in calls} == {WalletFault.NO_WALLET_OPEN}
    assert await seat.get_version() >= 65561


async def test_a_wallet_is_made_once_and_opens_with_its_password_alone(world):
    seat, name = world.seats[0], world.name()
    await seat.create_wallet(name, password=PASSWORD)
    address = await seat.get_address()
    assert await fault_of_call(seat.create_wallet(name, password=PASSWORD)) is WalletFault.EXISTS
    assert await fault_of_call(seat.create_wallet("a/b", password=PASSWORD)) is WalletFault.OTHER
    assert await fault_of_call(seat.open_wallet(name, password="wrong")) is WalletFault.OPEN_FAILED
    assert await fault_of_call(seat.open_wallet("missing", password=PASSWORD)) is WalletFault.OPEN_FAILED
    assert await seat.get_address() == address, "what was open stays open when another will not open"
    await seat.close_wallet()
    await seat.open_wallet(name, password=PASSWORD)
    assert await seat.get_address() == address


async def test_three_seats_reach_one_address_and_wrong_steps_change_nothing(world):
    seats, seat, name = world.seats, world.seats[0], world.name()
    await together(each.create_wallet(name, password=PASSWORD) for each in seats)
    assert await seat.incoming_transfers() == ()
    assert await fault_of_call(seat.exchange_multisig_keys(["x", "y"], password=PASSWORD)) is WalletFault.NOT_MULTISIG
    assert await fault_of_call(seat.export_multisig_info()) is WalletFault.NOT_MULTISIG
    ordinary = [to(await seat.get_address(), 1)]
    assert await fault_of_call(seat.transfer(ordinary)) is WalletFault.CANNOT_SPEND

    first = await together(each.prepare_multisig() for each in seats)
    again = await seat.prepare_multisig()
    assert again != first[0] and len(again) == len(first[0]) == 189
    for infos in ([], ["hello", first[1]], [first[1], first[1]], [first[1][:-1], first[2]]):
        assert await fault_of_call(seat.make_multisig(infos, password=PASSWORD)) is WalletFault.OTHER
    assert not (await seat.is_multisig()).multisig

    mixed = [again, first[1], first[2]]
    second = await together(
        each.make_multisig(others(first if index else mixed, index), password=PASSWORD)
        for index, each in enumerate(seats)
    )
    assert {len(info) for info in second} == {236}
    with pytest.raises(BadAddress, match="address_placeholder"):
        parse_address(await seat.get_address(), network="regtest")
    assert await fault_of_call(seat.make_multisig(first[1:], password=PASSWORD)) is WalletFault.ALREADY_MULTISIG
    assert await fault_of_call(seat.prepare_multisig()) is WalletFault.ALREADY_MULTISIG
    assert await fault_of_call(seat.export_multisig_info()) is WalletFault.NOT_MULTISIG
    assert await fault_of_call(seat.transfer(ordinary)) is WalletFault.CANNOT_SPEND
    await _wrong_exchanges(seat, right=second[1:], earlier=first[1:], own=second[0])

    third = await exchange(seats, second)
    assert {result.address for result in third} == {None}
    status = await seat.is_multisig()
    assert (status.multisig, status.ready, status.threshold, status.total) == (True, False, 2, 3)
    await together(each.store() for each in seats)
    infos = [result.info for result in third]
    await _wrong_exchanges(seat, right=infos[1:], earlier=second[1:], own=infos[0])

    last = await exchange(seats, infos)
    (address,) = {result.address for result in last}
    assert parse_address(address, network="regtest").kind is AddressKind.STANDARD
    assert {await each.get_address() for each in seats} == {address}
    assert len({await each.view_key() for each in seats}) == 1
    assert (await seat.is_multisig()).ready
    assert (
        await fault_of_call(seat.exchange_multisig_keys(infos[1:], password=PASSWORD)) is WalletFault.ALREADY_MULTISIG
    )
    for wrong, fault in (
        ([], WalletFault.NEEDS_MORE_INFOS),
        (["zz"], WalletFault.UNREADABLE_SET),
        (["00ff"], WalletFault.OTHER),
        ([await seat.export_multisig_info()], WalletFault.OTHER),
    ):
        assert await fault_of_call(seat.import_multisig_info(wrong)) is fault
    for call in (seat.sign_multisig, seat.submit_multisig):
        assert await fault_of_call(call("zz")) is WalletFault.UNREADABLE_SET
        assert await fault_of_call(call("00ff")) is WalletFault.UNREADABLE_SET
    assert await fault_of_call(seat.describe_transfer("00ff")) is WalletFault.UNREADABLE_SET
    world.keep_escrow(name, address)


async def _wrong_exchanges(seat, *, right, earlier, own):
    for infos, fault in (
        (right[:1], WalletFault.NEEDS_MORE_INFOS),
        ([right[0], right[0]], WalletFault.OTHER),
        ([own, right[0]], WalletFault.OTHER),
        (["hello", right[0]], WalletFault.OTHER),
        ([right[0], earlier[1]], WalletFault.OTHER if len(earlier[1]) == 189 else None),
        (earlier, WalletFault.ROUND_ALREADY_DONE),
    ):
        found = await fault_of_call(seat.exchange_multisig_keys(infos, password=PASSWORD))
        assert fault is None or found is fault


async def test_a_spoilt_round_is_redone_from_the_copy_and_a_torn_wallet_opens_without_its_cache(world):
    seats, files, name = world.seats, world.files, world.name()
    await together(each.create_wallet(name, password=PASSWORD) for each in seats)
    first = await together(each.prepare_multisig() for each in seats)
    files[0].save(name, label="before-make")
    lost = await seats[0].make_multisig(first[1:], password="other")
    await seats[0].close_wallet()
    for password in (PASSWORD, "other"):
        assert await fault_of_call(seats[0].open_wallet(name, password=password)) is WalletFault.OPEN_FAILED
    files[0].drop_cache(name)
    await seats[0].open_wallet(name, password="other")
    assert (await seats[0].is_multisig()).multisig, "made, under the password it was passed"
    await seats[0].close_wallet()
    files[0].restore(name, label="before-make")
    await seats[0].open_wallet(name, password=PASSWORD)
    await seats[0].prepare_multisig()
    redone = await seats[0].make_multisig(first[1:], password=PASSWORD)
    assert redone != lost
    second = [redone, *[await seats[k].make_multisig(others(first, k), password=PASSWORD) for k in (1, 2)]]

    third = await exchange(seats, second)
    repeated = seats[1].exchange_multisig_keys(others(second, 1), password=PASSWORD)
    assert await fault_of_call(repeated) is WalletFault.ROUND_ALREADY_DONE
    await world.crash(1)
    assert await fault_of_call(seats[1].open_wallet(name, password=PASSWORD)) is WalletFault.OPEN_FAILED
    files[1].drop_cache(name)
    await seats[1].open_wallet(name, password=PASSWORD)
    last = await exchange(seats, [result.info for result in third])
    (address,) = {result.address for result in last}
    assert address is not None

    files[0].drop_saved(name)
    assert not files[0].saved(name, label="before-make") and files[0].exists(name)


async def test_a_payout_goes_from_deposit_to_block_and_leaves_no_change(world):
    address = await world.escrow()
    buyer, vendor, arbiter = world.seats
    to_vendor, to_arbiter = await world.outside(), await world.outside()
    await caught_up(world, buyer, vendor, arbiter)
    await paid(world, (address, 2 * XMR), confirmations=1)
    await caught_up(world, vendor)
    (output,) = [each for each in await vendor.incoming_transfers() if not each.spent]
    assert (output.amount, output.unlocked, output.key_image) == (2 * XMR, False, None)
    await world.mine(9)
    await caught_up(world, vendor, buyer)
    one = [to(to_vendor, XMR)]
    assert await fault_of_call(vendor.transfer(one)) is WalletFault.CANNOT_SPEND, "nothing was imported"

    await synced(world, proposer=vendor, cosigner=buyer)
    (known,) = [each for each in await vendor.incoming_transfers() if not each.spent]
    assert known.unlocked and known.key_image is not None
    assert (await vendor.transfer(one)).fee == FEE_ONE
    amounts = {to_vendor: 19 * XMR // 10, to_arbiter: XMR // 20}
    trial = await vendor.transfer([to(each, amount) for each, amount in amounts.items()])
    assert trial.fee == FEE_TWO and trial.key_images == (known.key_image,)
    (change,) = await buyer.describe_transfer(trial.tx_set)
    assert change.change_amount == 2 * XMR - sum(amounts.values()) - FEE_TWO and change.change_address == address
    for wrong in (
        [to(to_vendor, 0)],
        [to(to_vendor, 2 * XMR)],
        [to(to_vendor, 2 * XMR - FEE_ONE + 1)],
        [to("nowhere", 1)],
    ):
        assert await fault_of_call(vendor.transfer(wrong)) is WalletFault.CANNOT_SPEND

    amounts[to_vendor] = 2 * XMR - FEE_TWO - amounts[to_arbiter]
    proposal = await vendor.transfer([to(each, amount) for each, amount in amounts.items()])
    assert proposal.fee == FEE_TWO and proposal.amount == 2 * XMR - FEE_TWO
    (description,) = await buyer.describe_transfer(proposal.tx_set)
    assert {each.address: each.amount for each in description.recipients} == amounts
    assert (description.amount_in, description.amount_out) == (2 * XMR, 2 * XMR - FEE_TWO)
    assert (description.change_amount, description.change_address, description.fee) == (0, "", FEE_TWO)
    assert (description.unlock_time, description.payment_id, description.ring_size) == (0, "", 16)
    await _sign_and_submit(world, proposal, proposer=vendor, cosigner=buyer, third=arbiter)
    await caught_up(world, buyer, vendor, arbiter)
    assert await spendable(vendor) == 0


async def _sign_and_submit(world, proposal, *, proposer, cosigner, third):
    assert await fault_of_call(third.describe_transfer(proposal.tx_set)) is WalletFault.UNREADABLE_SET, "not refreshed"
    assert await fault_of_call(third.sign_multisig(proposal.tx_set)) is WalletFault.UNREADABLE_SET
    await caught_up(world, third)
    assert await third.describe_transfer(proposal.tx_set)
    assert await fault_of_call(third.sign_multisig(proposal.tx_set)) is WalletFault.STALE, "its export was not in it"
    assert await fault_of_call(proposer.sign_multisig(proposal.tx_set)) is WalletFault.STALE
    assert await fault_of_call(proposer.submit_multisig(proposal.tx_set)) is WalletFault.NEEDS_MORE_INFOS
    signed = await cosigner.sign_multisig(proposal.tx_set)
    await cosigner.store()
    assert await fault_of_call(cosigner.sign_multisig(proposal.tx_set)) is WalletFault.STALE, (
        "one export, one signature"
    )
    assert await fault_of_call(third.sign_multisig(signed.tx_hex)) is WalletFault.STALE
    assert await world.daemon.transactions(signed.tx_hashes) == (), "its hash is known before it is broadcast"
    for seat in (cosigner, cosigner, proposer, third):
        assert await seat.submit_multisig(signed.tx_hex) == signed.tx_hashes
    assert await world.daemon.key_images(proposal.key_images) == (KeyImageStatus.IN_POOL,)
    await mined(world, *signed.tx_hashes)
    assert await world.daemon.key_images(proposal.key_images) == (KeyImageStatus.IN_CHAIN,)
    (found,) = await world.daemon.transactions(signed.tx_hashes)
    assert found.height == (await world.daemon.info()).height - 1
    assert [each["key"]["k_image"] for each in found.body["vin"]] == list(proposal.key_images)
    assert await cosigner.submit_multisig(signed.tx_hex) == signed.tx_hashes


async def test_of_two_signed_payouts_one_wins_and_dust_stays_behind(world):
    address = await world.escrow()
    buyer, vendor, arbiter = world.seats
    outside = await world.outside()
    dust = XMR // 2000
    await paid(world, (address, 2 * XMR), (address, dust))
    await synced(world, proposer=vendor, cosigner=buyer)
    stale = await vendor.transfer([to(outside, XMR)])
    await synced(world, proposer=vendor, cosigner=buyer)
    assert await fault_of_call(buyer.sign_multisig(stale.tx_set)) is WalletFault.STALE, "a newer export voids the set"

    await caught_up(world, arbiter)
    exports = [await seat.export_multisig_info() for seat in (buyer, arbiter)]
    await together(seat.store() for seat in (buyer, arbiter))
    assert await vendor.import_multisig_info(exports) == len(await vendor.incoming_transfers())
    full = 2 * XMR - FEE_ONE
    one, other = [await vendor.transfer([to(outside, amount)]) for amount in (full, full - XMR)]
    await vendor.export_multisig_info()
    too_much = [to(outside, full + dust // 2)]
    assert await fault_of_call(vendor.transfer(too_much)) is WalletFault.CANNOT_SPEND, "dust cannot be spent"
    first, second = await buyer.sign_multisig(one.tx_set), await arbiter.sign_multisig(other.tx_set)
    assert await fault_of_call(buyer.sign_multisig(other.tx_set)) is WalletFault.STALE
    assert await vendor.submit_multisig(first.tx_hex) == first.tx_hashes
    assert await fault_of_call(arbiter.submit_multisig(second.tx_hex)) is WalletFault.REJECTED
    await mined(world, *first.tx_hashes)
    assert await fault_of_call(vendor.submit_multisig(second.tx_hex)) is WalletFault.REJECTED
    await caught_up(world, buyer, vendor, arbiter)
    left = [each.amount for each in await vendor.incoming_transfers() if not each.spent]
    assert dust in left and max(left) == dust


async def test_a_frozen_deposit_is_left_out_until_it_is_thawed(world):
    address = await world.escrow()
    buyer, vendor, _ = world.seats
    outside = await world.outside()
    for amount in (2 * XMR, XMR // 100):  # ten blocks apart: nearer ones count as related and are not joined
        await paid(world, (address, amount))
    await synced(world, proposer=vendor, cosigner=buyer)
    unspent = [each for each in await vendor.incoming_transfers() if not each.spent and each.key_image]
    both = (await vendor.transfer([to(outside, XMR)])).key_images
    assert len(both) == 2, "left to itself the wallet adds an output it does not need"
    named = next(each.key_image for each in unspent if each.amount == 2 * XMR)
    for each in unspent:
        await vendor.freeze(each.key_image)
    assert await fault_of_call(vendor.transfer([to(outside, XMR)])) is WalletFault.CANNOT_SPEND
    await vendor.thaw(named)
    await vendor.thaw(named)
    await vendor.store()
    proposal = await vendor.transfer([to(outside, 2 * XMR - FEE_ONE)])
    assert proposal.key_images == (named,)
    assert proposal.fee == FEE_ONE
    await synced(world, proposer=vendor, cosigner=buyer)
    again = await vendor.transfer([to(outside, 2 * XMR - FEE_ONE)])
    assert again.key_images == (named,), "an import changes nothing about it"
    signed = await buyer.sign_multisig(again.tx_set)
    assert await buyer.submit_multisig(signed.tx_hex) == signed.tx_hashes
    await mined(world, *signed.tx_hashes)


async def test_an_unstored_signature_is_given_again_with_the_same_hash(world):
    address = await world.escrow()
    buyer, vendor, _ = world.seats
    outside = await world.outside()
    await paid(world, (address, XMR))
    await synced(world, proposer=vendor, cosigner=buyer)
    proposal = await vendor.transfer([to(outside, XMR - FEE_ONE)])
    signed = await buyer.sign_multisig(proposal.tx_set)
    await world.crash(0)
    await buyer.open_wallet(world.escrow_name, password=PASSWORD)
    await caught_up(world, buyer)
    assert (await buyer.sign_multisig(proposal.tx_set)).tx_hashes == signed.tx_hashes
    await vendor.submit_multisig(signed.tx_hex)
    await mined(world, *signed.tx_hashes)
    await caught_up(world, buyer, vendor)


async def test_a_reorganisation_below_a_deposit_takes_its_key_image_and_its_nonces(world):
    address = await world.escrow()
    buyer, vendor, _ = world.seats
    outside = await world.outside()
    await world.mine(10)
    await paid(world, (address, 3 * XMR))
    await synced(world, proposer=vendor, cosigner=buyer)
    await world.reorganise(10)
    await caught_up(world, buyer, vendor)
    (output,) = [each for each in await vendor.incoming_transfers() if each.amount == 3 * XMR]
    assert output.key_image is None and not output.spent
    assert await fault_of_call(vendor.transfer([to(outside, XMR // 2)])) is (WalletFault.CANNOT_SPEND)
    await synced(world, proposer=vendor, cosigner=buyer)
    proposal = await vendor.transfer([to(outside, 3 * XMR - FEE_ONE)])
    signed = await buyer.sign_multisig(proposal.tx_set)
    assert await buyer.submit_multisig(signed.tx_hex) == signed.tx_hashes
    await mined(world, *signed.tx_hashes)
