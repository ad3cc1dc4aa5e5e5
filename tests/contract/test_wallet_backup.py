"""A wallet that comes back from its keys file alone, simulated and real: whole again, and without any nonce it had."""

from itertools import count

import pytest

from actors.ports import KeysFileUnreadable, WalletFault
from actors.wallet_backup import is_whole
from tests.contract.test_wallet import XMR, caught_up, mined, paid, synced, to
from tests.wallet_fixtures import PASSWORD, fault_of_call, set_up

ARBITER = 2
_NUMBERS = count(1)


async def test_keys_alone_bring_a_wallet_back_which_signs_nothing_made_with_what_it_gave_before(world):
    name, (buyer, _, arbiter), files = world.name(), world.seats, world.files[ARBITER]
    address = await set_up(world, name)
    kept = files.keys(name)
    assert is_whole(kept)
    await paid(world, (address, XMR))
    await synced(world, proposer=buyer, cosigner=arbiter)
    outside = await world.outside()
    before = await buyer.transfer([to(outside, XMR // 2)])
    await arbiter.store()
    assert files.keys(name) == kept, "nothing but the last exchange writes it"

    await _lost_and_put_back(world, name, kept)
    assert await arbiter.get_address() == address and (await arbiter.is_multisig()).ready
    await caught_up(world, arbiter)
    assert await fault_of_call(arbiter.sign_multisig(before.tx_set)) is WalletFault.STALE

    await synced(world, proposer=buyer, cosigner=arbiter)
    signed = await arbiter.sign_multisig((await buyer.transfer([to(outside, XMR // 2)])).tx_set)
    await arbiter.store()
    await _lost_and_put_back(world, name, kept)
    assert await fault_of_call(arbiter.submit_multisig(signed.tx_hex)) is WalletFault.UNREADABLE_SET
    await caught_up(world, arbiter)
    (sent,) = await arbiter.submit_multisig(signed.tx_hex)
    assert await mined(world, sent)
    await world.mine(10)


async def _lost_and_put_back(world, name, kept):
    """Ends the arbiter's process, loses its wallet, and puts back what was read of it."""
    files = world.files[ARBITER]
    await world.crash(ARBITER)
    files.remove(name)
    assert files.lost(name) and not files.exists(name)
    files.put_back(name, kept)
    assert files.keys(name) == kept
    with pytest.raises(FileExistsError):
        files.put_back(name, kept)
    await world.seats[ARBITER].open_wallet(name, password=PASSWORD)


async def test_a_wallet_that_is_not_there_has_no_keys_file_to_read(world):
    with pytest.raises(KeysFileUnreadable, match="keys_file_missing"):
        world.files[ARBITER].keys(f"nobody-{next(_NUMBERS)}")
