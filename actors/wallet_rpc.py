"""The real wallet: `monero-wallet-rpc` over JSON-RPC, as recorded with 0.18.0.0."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from actors.jsonrpc import Access, ErrorAnswer, JsonRpc, NoAnswer
from actors.ports import (
    Destination,
    KexResult,
    MultisigStatus,
    SignedTx,
    TxDescription,
    TxProposal,
    WalletFault,
    WalletOutput,
    WalletRefused,
    WalletUnknown,
)
from actors.wallet_faults import fault_of, safe_message
from domain.ids import Address, KeyImage, OneTimeKey, TxHash
from domain.money import Atomic

_T = TypeVar("_T")

Observer = Callable[[str, float, bool], None]
"""Told of each call: method, seconds, whether it succeeded. Never parameters or answers."""

PRIORITY = 1
THRESHOLD = 2

OTHERS_LIMIT_S = 30.0
LIMITS_S: Mapping[str, float] = {
    # Creating and opening generate RSA keys: 1 to 5 s alone, 109 s with thirty processes on two cores.
    "create_wallet": 300.0,
    "open_wallet": 300.0,
    "make_multisig": 120.0,
    "exchange_multisig_keys": 120.0,
    "refresh": 300.0,
    "import_multisig_info": 120.0,
    "export_multisig_info": 60.0,
    "transfer": 120.0,
    "sign_multisig": 120.0,
    "submit_multisig": 120.0,
    "store": 60.0,
    "close_wallet": 60.0,
}
"""How long each call may take, in seconds; a time-out leaves the call running in the wallet process."""


class HttpWallet:
    """One `monero-wallet-rpc` process, reached over one connection; implements `WalletRpc`.

    A process answers one call after another, so a call's limit includes waiting for the one before it. What
    `before_call` raises keeps a call from being made.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        limits_s: Mapping[str, float] = LIMITS_S,
        access: Callable[[], Access] | None = None,
        observer: Observer | None = None,
        before_call: Callable[[], None] | None = None,
    ) -> None:
        self._rpc = JsonRpc(url, user=user, password=password, access=access)
        self._limits_s, self._observer, self._before_call = limits_s, observer, before_call
        self.called_s = 0.0

    async def get_version(self) -> int:
        return (await self._call("get_version", {}, _Version)).version

    async def auto_refresh(self, *, enable: bool) -> None:
        await self._call("auto_refresh", {"enable": enable}, _Nothing)

    async def create_wallet(self, name: str, *, password: str) -> None:
        await self._call("create_wallet", {"filename": name, "password": password, "language": "English"}, _Nothing)

    async def open_wallet(self, name: str, *, password: str) -> None:
        await self._call("open_wallet", {"filename": name, "password": password}, _Nothing)

    async def close_wallet(self) -> None:
        # Closed without `params` the wallet is not saved, and spent nonces come back (signed twice in a trial).
        await self._call("close_wallet", {"autosave_current": True}, _Nothing)

    async def store(self) -> None:
        await self._call("store", {}, _Nothing)

    async def prepare_multisig(self) -> str:
        # Without the flag prepare and make succeed, and the exchange then fails for good (-48).
        answer = await self._call("prepare_multisig", {"enable_multisig_experimental": True}, _Prepared)
        return answer.multisig_info

    async def make_multisig(self, infos: Sequence[str], *, password: str) -> str:
        params = {"multisig_info": infos, "threshold": THRESHOLD, "password": password}
        return (await self._call("make_multisig", params, _Prepared)).multisig_info

    async def exchange_multisig_keys(self, infos: Sequence[str], *, password: str) -> KexResult:
        params = {"multisig_info": infos, "password": password}
        answer = await self._call("exchange_multisig_keys", params, _Exchanged)
        return KexResult(answer.multisig_info, Address(answer.address) if answer.address else None)

    async def is_multisig(self) -> MultisigStatus:
        return await self._call("is_multisig", {}, MultisigStatus)

    async def get_address(self) -> Address:
        return Address((await self._call("get_address", {"account_index": 0}, _AddressAnswer)).address)

    async def view_key(self) -> str:
        return (await self._call("query_key", {"key_type": "view_key"}, _Key)).key

    async def refresh(self) -> int:
        return (await self._call("refresh", {}, _Refreshed)).blocks_fetched

    async def get_height(self) -> int:
        return (await self._call("get_height", {}, _Height)).height

    async def incoming_transfers(self) -> tuple[WalletOutput, ...]:
        params = {"transfer_type": "all", "account_index": 0, "verbose": True}
        # A wallet without outputs leaves the list out.
        return tuple(_output(each) for each in (await self._call("incoming_transfers", params, _Incoming)).transfers)

    async def export_multisig_info(self) -> str:
        return (await self._call("export_multisig_info", {}, _Exported)).info

    async def import_multisig_info(self, infos: Sequence[str]) -> int:
        return (await self._call("import_multisig_info", {"info": infos}, _Imported)).n_outputs

    async def freeze(self, image: KeyImage) -> None:
        await self._call("freeze", {"key_image": image}, _Nothing)

    async def thaw(self, image: KeyImage) -> None:
        await self._call("thaw", {"key_image": image}, _Nothing)

    async def transfer(self, destinations: Sequence[Destination]) -> TxProposal:
        """Makes a transaction set that nobody relays; refuses the answer of a wallet that is not multisig."""
        params = {
            "destinations": [{"amount": each.amount, "address": each.address} for each in destinations],
            "account_index": 0,
            "priority": PRIORITY,
            # A multisig wallet never relays here; an ordinary one, opened by mistake, would.
            "do_not_relay": True,
        }
        answer = await self._call("transfer", params, _Transferred)
        if not answer.multisig_txset:
            raise WalletRefused(
                method="transfer", fault=WalletFault.NOT_MULTISIG, code=-31, message="no multisig_txset"
            )
        images = answer.spent_key_images.key_images
        return TxProposal(
            tx_set=answer.multisig_txset, fee=Atomic(answer.fee), amount=Atomic(answer.amount), key_images=images
        )

    async def describe_transfer(self, tx_set: str) -> tuple[TxDescription, ...]:
        answer = await self._call("describe_transfer", {"multisig_txset": tx_set}, _Described)
        return tuple(answer.desc)

    async def sign_multisig(self, tx_set: str) -> SignedTx:
        answer = await self._call("sign_multisig", {"tx_data_hex": tx_set}, _Signed)
        return SignedTx(answer.tx_data_hex, tuple(answer.tx_hash_list))

    async def submit_multisig(self, tx_hex: str) -> tuple[TxHash, ...]:
        return tuple((await self._call("submit_multisig", {"tx_data_hex": tx_hex}, _Submitted)).tx_hash_list)

    async def aclose(self) -> None:
        await self._rpc.aclose()

    async def _call(self, method: str, params: Mapping[str, Any], answer: type[_T]) -> _T:
        if self._before_call is not None:
            self._before_call()
        started, done = time.monotonic(), False
        try:
            limit_s = self._limits_s.get(method, OTHERS_LIMIT_S)
            result = await self._rpc.call(method, params, answer=answer, limit_s=limit_s)
            done = True
            return result
        except ErrorAnswer as error:
            raise _refusal(method, error) from None
        except NoAnswer as silence:
            raise WalletUnknown(method=method, reason=silence.reason) from None
        finally:
            took_s = time.monotonic() - started
            self.called_s += took_s
            if self._observer is not None:
                self._observer(method, took_s, done)


def _refusal(method: str, error: ErrorAnswer) -> WalletRefused:
    return WalletRefused(
        method=method,
        fault=fault_of(method, code=error.code, message=error.message),
        code=error.code,
        message=safe_message(code=error.code, message=error.message),
    )


def _output(entry: "_Transfer") -> WalletOutput:
    return WalletOutput(
        one_time_key=entry.pubkey,
        tx_hash=entry.tx_hash,
        amount=Atomic(entry.amount),
        key_image=entry.key_image or None,
        unlocked=entry.unlocked,
        spent=entry.spent,
        height=entry.block_height,
    )


class _Nothing(msgspec.Struct):
    pass


class _Version(msgspec.Struct):
    version: int


class _Prepared(msgspec.Struct):
    multisig_info: str


class _Exchanged(msgspec.Struct):
    multisig_info: str
    address: str


class _AddressAnswer(msgspec.Struct):
    address: str


class _Key(msgspec.Struct):
    key: str


class _Refreshed(msgspec.Struct):
    blocks_fetched: int


class _Height(msgspec.Struct):
    height: int


class _Transfer(msgspec.Struct):
    amount: int
    block_height: int
    key_image: KeyImage
    pubkey: OneTimeKey
    spent: bool
    tx_hash: TxHash
    unlocked: bool


class _Incoming(msgspec.Struct):
    transfers: list[_Transfer] = []


class _Exported(msgspec.Struct):
    info: str


class _Imported(msgspec.Struct):
    n_outputs: int


class _KeyImages(msgspec.Struct, frozen=True):
    key_images: tuple[KeyImage, ...] = ()


class _Transferred(msgspec.Struct):
    amount: int
    fee: int
    multisig_txset: str = ""
    spent_key_images: _KeyImages = _KeyImages()


class _Described(msgspec.Struct):
    desc: list[TxDescription]


class _Signed(msgspec.Struct):
    tx_data_hex: str
    tx_hash_list: list[TxHash] = []


class _Submitted(msgspec.Struct):
    tx_hash_list: list[TxHash] = []
