"""One wallet, one seat of one escrow: whoever asks first."""

import asyncio

from actors.wallet_register import WalletRegister
from domain.ids import EscrowId, Micros, WalletId
from domain.roles import THREE, Role
from eventstore.opening import memory_store


async def test_of_ten_seats_that_want_one_wallet_one_gets_it():
    register = WalletRegister(memory_store(partitions=4).log)
    asked = [
        register.assign(WalletId("w_1"), escrow_id=EscrowId(f"esc_{number}"), role=Role.BUYER, at=Micros(1))
        for number in range(10)
    ]
    assert sorted(await asyncio.gather(*asked)) == [False] * 9 + [True]


async def test_a_seat_that_asks_again_still_has_its_wallet():
    register = WalletRegister(memory_store(partitions=4).log)
    for _ in range(2):
        assert await register.assign(WalletId("w_1"), escrow_id=EscrowId("esc_1"), role=Role.BUYER, at=Micros(1))


async def test_three_seats_of_one_escrow_need_three_wallets():
    register = WalletRegister(memory_store(partitions=4).log)
    escrow_id = EscrowId("esc_1")
    taken = [await register.assign(WalletId("w_1"), escrow_id=escrow_id, role=role, at=Micros(1)) for role in THREE]
    assert taken == [True, False, False]
