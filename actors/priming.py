"""Primed slots: in each free one a fresh wallet is made and open, so that a set-up need not wait for its making.

Making a wallet is most of a set-up's processor time (RSA keys, 1 to 3.5 s), and needs no knowledge of the escrow.
"""

import asyncio
import secrets
from collections.abc import Mapping

import msgspec
import structlog

from actors.ports import DaemonRpc, WalletFault, WalletRefused, WalletRpc
from actors.slots import HeldFiles, Hold, PrimedWallet, Slot
from eventstore.api import Vault
from eventstore.primed import PrimedRow, PrimedRows

log = structlog.get_logger(__name__)


class ForeignWallet(Exception):
    """A slot that nobody uses has a wallet open that nobody left there knowingly."""


def new_wallet_name() -> str:
    """Makes a file name that no other wallet has."""
    return f"w_{secrets.token_hex(16)}"


def new_wallet_password() -> str:
    """Makes a wallet's password."""
    return secrets.token_urlsafe(32)


class Primer:
    """Primes the slots of one node, a few at once: each keeps a core busy for seconds."""

    def __init__(self, rows: PrimedRows, *, vault: Vault, daemon: DaemonRpc, at_once: int) -> None:
        self._rows, self._vault, self._daemon, self._at_once = rows, vault, daemon, at_once
        self._busy = 0

    def begin(self) -> bool:
        """Counts one more slot as being primed, until `end`; False when there are as many as may be at once."""
        has_room = self._busy < self._at_once
        self._busy += has_room
        return has_room

    def end(self) -> None:
        """Ends a `begin` that said True."""
        self._busy -= 1

    async def noted(self) -> Mapping[str, PrimedRow]:
        """Reads what the rows say of every slot; raises `LogUnavailable`."""
        return await self._rows.free()

    async def found(self, slot: Slot, rpc: WalletRpc) -> PrimedWallet | None:
        """Recognises the primed wallet that is open in a slot, by its address; None when none is open.

        Raises `ForeignWallet`, `WalletUnknown`, `LogUnavailable`.
        """
        try:
            address = await rpc.get_address()
        except WalletRefused:
            return None
        row = await self._rows.free_of(slot.name)
        if row is None or row.address != address:
            raise ForeignWallet(slot.name)
        return await self._opened(row)

    async def prime(self, slot: Slot, hold: Hold, rpc: WalletRpc, *, wanted: asyncio.Event) -> None:
        """Leaves a slot with a primed wallet open: the one that it had, or a new one.

        Raises `SlotWanted` and `DaemonDown`, with no wallet open, and `WalletRefused`, `WalletUnknown`,
        `ProgramFailed`, `LostLease`, `LogUnavailable`, after which one may be.
        """
        wallet = await self.found(slot, rpc) or await self._reopened(slot, hold, rpc)
        if wallet is None:
            wallet = await self._made(slot, rpc, wanted)
        address = await rpc.get_address()
        await self._rows.opened(msgspec.structs.replace(wallet.row, address=address, fence=hold.lease.fence))

    async def _reopened(self, slot: Slot, hold: Hold, rpc: WalletRpc) -> PrimedWallet | None:
        row = await self._rows.free_of(slot.name)
        if row is None:
            return None
        wallet = await self._opened(row)
        try:
            await rpc.open_wallet(row.name, password=wallet.password)
        except WalletRefused as refused:
            if refused.fault is not WalletFault.OPEN_FAILED:
                raise
            await self._sweep(row, HeldFiles(slot.files, hold))
            return None
        return wallet

    async def _sweep(self, row: PrimedRow, files: HeldFiles) -> None:
        """Forgets a wallet that was never made whole; the row goes first, and only while nobody claimed it."""
        if await self._rows.drop(row):
            files.remove(row.name)
            log.info("primed_wallet_swept", slot=row.slot, wallet=row.name)

    async def _made(self, slot: Slot, rpc: WalletRpc, wanted: asyncio.Event) -> PrimedWallet:
        # Made without a daemon a wallet takes its first height from the date: on a young chain it never sees money.
        await self._daemon.info()
        name, password = new_wallet_name(), new_wallet_password()
        sealed = await self._vault.seal(_key_of(slot.name), event="primed_wallet", field=name, plain=password.encode())
        row = PrimedRow(slot=slot.name, name=name, sealed=sealed)
        await self._rows.note(row)
        await slot.host.make_wallet(rpc, name, password=password, wanted=wanted)
        return PrimedWallet(row=row, password=password, rows=self._rows)

    async def _opened(self, row: PrimedRow) -> PrimedWallet:
        plain = await self._vault.open(_key_of(row.slot), event="primed_wallet", field=row.name, sealed=row.sealed)
        return PrimedWallet(row=row, password=plain.decode(), rows=self._rows)


def _key_of(slot: str) -> str:
    return f"slot-{slot}"
