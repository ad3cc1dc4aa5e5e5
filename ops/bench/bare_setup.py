"""The bare script a set-up is measured against: the same wallet calls, in parallel, with nothing in between."""

import asyncio
import secrets
from collections.abc import Sequence

from actors.wallet_rpc import HttpWallet

PASSWORD = "bare"


async def bare_setup(wallets: Sequence[HttpWallet]) -> str:
    """Sets three open slots up as one 2-of-3 wallet and returns the address; closes the wallets."""
    name = f"bare_{secrets.token_hex(8)}"
    await asyncio.gather(*(wallet.create_wallet(name, password=PASSWORD) for wallet in wallets))
    prepared = await asyncio.gather(*(wallet.prepare_multisig() for wallet in wallets))
    made = await asyncio.gather(
        *(wallet.make_multisig(_others(prepared, i), password=PASSWORD) for i, wallet in enumerate(wallets))
    )
    first = await asyncio.gather(*(_exchange(wallet, made, i) for i, wallet in enumerate(wallets)))
    await asyncio.gather(*(_exchange(wallet, first, i) for i, wallet in enumerate(wallets)))
    addresses = {await wallet.get_address() for wallet in wallets}
    assert len(addresses) == 1, "three wallets, three addresses"
    await asyncio.gather(*(wallet.close_wallet() for wallet in wallets))
    return addresses.pop()


def _others(messages: Sequence[str], mine: int) -> list[str]:
    return [message for index, message in enumerate(messages) if index != mine]


async def _exchange(wallet: HttpWallet, messages: Sequence[str], mine: int) -> str:
    return (await wallet.exchange_multisig_keys(_others(messages, mine), password=PASSWORD)).info
