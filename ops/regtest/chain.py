"""A private chain at hand: blocks on demand, reorganisations, and an ordinary wallet that pays.

Only for demonstrations and tests; these calls exist on an unrestricted `monerod --regtest` alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from actors.jsonrpc import ErrorAnswer, JsonRpc
from domain.ids import Address, TxHash

_T = TypeVar("_T")

MINING_LIMIT_S = 300.0
"""A block takes 0.1 to 0.2 s."""
CALL_LIMIT_S = 120.0
FIRST_BLOCKS = 140
"""Blocks to mine before anybody pays: 60 until a reward may be spent, and many more outputs than the 76 decoys that a
wallet draws. With hardly more it draws almost for ever: one ran for seven minutes at height 86; from 130 blocks on a
transfer took 0.3 s (0.18.0.0).
"""
SPENDABLE_AFTER = 60
"""Blocks until a mined reward may be spent."""


class RegtestChain:
    """The calls of `monerod --regtest` that make and unmake blocks."""

    def __init__(self, url: str) -> None:
        self._rpc = JsonRpc(url)

    async def mine(self, blocks: int, *, to: Address) -> int:
        """Mines blocks that pay an address and returns the height of the last one."""
        params = {"amount_of_blocks": blocks, "wallet_address": to, "starting_nonce": 0}
        answer = await self._rpc.call("generateblocks", params, answer=_Height, limit_s=MINING_LIMIT_S)
        return answer.height

    async def pop(self, blocks: int) -> int:
        """Takes the last blocks back, their transactions returning to the pool, and returns the height left."""
        return (await self._rpc.post("/pop_blocks", {"nblocks": blocks}, answer=_Height, limit_s=CALL_LIMIT_S)).height

    async def flush_pool(self, tx_hashes: Sequence[TxHash] = ()) -> None:
        """Forgets waiting transactions: the named ones, or all."""
        await self._rpc.call("flush_txpool", {"txids": list(tx_hashes)}, answer=_Status, limit_s=CALL_LIMIT_S)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._rpc.aclose()


class FunderWallet:
    """An ordinary wallet in a wallet process of its own: receives rewards and pays deposits."""

    def __init__(self, url: str, *, user: str | None = None, password: str | None = None) -> None:
        self._rpc = JsonRpc(url, user=user, password=password)

    async def open(self, name: str, *, password: str) -> Address:
        """Opens the wallet, or creates it where there is none, and returns its address."""
        params = {"filename": name, "password": password}
        try:
            await self._call("create_wallet", {**params, "language": "English"}, _Nothing)
        except ErrorAnswer:
            await self._call("open_wallet", params, _Nothing)
        await self._call("auto_refresh", {"enable": False}, _Nothing)
        return (await self._call("get_address", {"account_index": 0}, _Address)).address

    async def new_address(self) -> Address:
        """Returns a fresh subaddress."""
        return (await self._call("create_address", {"account_index": 0}, _Address)).address

    async def refresh(self) -> None:
        """Reads new blocks."""
        await self._call("refresh", {}, _Nothing)

    async def balance(self) -> "Balance":
        """Returns what the wallet holds, after a refresh."""
        return await self._call("get_balance", {"account_index": 0}, Balance)

    async def pay(self, address: Address, amount: int, *, unlock_time: int = 0) -> TxHash:
        """Pays an address in a transaction of its own and returns its hash; it waits in the pool."""
        return await self.pay_many([(address, amount)], unlock_time=unlock_time)

    async def pay_many(self, payments: Sequence[tuple[Address, int]], *, unlock_time: int = 0) -> TxHash:
        """Pays several addresses in one transaction."""
        destinations = [{"address": address, "amount": amount} for address, amount in payments]
        params = {"destinations": destinations, "priority": 1, "unlock_time": unlock_time}
        return (await self._call("transfer", params, _Paid)).tx_hash

    async def received(self, tx_hash: TxHash) -> "tuple[Received, ...]":
        """Returns what one transaction paid to this wallet; raises `ErrorAnswer` if it is unknown here."""
        return (await self._call("get_transfer_by_txid", {"txid": tx_hash}, _Transfers)).transfers

    async def close(self) -> None:
        """Saves and closes the wallet."""
        await self._call("close_wallet", {"autosave_current": True}, _Nothing)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._rpc.aclose()

    async def _call(self, method: str, params: Mapping[str, Any], answer: type[_T]) -> _T:
        return await self._rpc.call(method, params, answer=answer, limit_s=CALL_LIMIT_S)


class Balance(msgspec.Struct, frozen=True):
    """What an ordinary wallet holds, in atomic units."""

    balance: int
    unlocked_balance: int
    per_subaddress: "tuple[Held, ...]" = ()


class Held(msgspec.Struct, frozen=True):
    """What one address of an ordinary wallet holds, in atomic units."""

    address: Address
    balance: int


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One payment an ordinary wallet knows; `confirmations` is 0 in the pool."""

    address: Address
    amount: int
    type: str
    confirmations: int = 0


class _Nothing(msgspec.Struct):
    pass


class _Height(msgspec.Struct):
    height: int


class _Status(msgspec.Struct):
    status: str


class _Address(msgspec.Struct):
    address: Address


class _Paid(msgspec.Struct):
    tx_hash: TxHash


class _Transfers(msgspec.Struct):
    transfers: tuple[Received, ...]
