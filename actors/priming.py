"""Primed slots: in each free one a fresh wallet is made and open, so that a set-up need not wait for its making.

Making a wallet is most of a set-up's processor time (RSA keys, 1 to 3.5 s), and needs no knowledge of the escrow.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from actors.ports import DaemonDown, DaemonRpc, WalletFault, WalletRefused, WalletRpc
from actors.processes import ProgramFailed
from actors.slots import HeldFiles, Hold, PrimedWallet, Slot, SlotState, SlotWanted
from domain.ids import Address
from eventstore.api import LeaseRow, SealBroken, Vault
from eventstore.primed import PrimedRow, PrimedRows

log = structlog.get_logger(__name__)


def new_wallet_name() -> str:
    """Makes a file name that no other wallet has."""
    return f"w_{secrets.token_hex(16)}"


def new_wallet_password() -> str:
    """Makes a wallet's password."""
    return secrets.token_urlsafe(32)


class Primer:
    """Primes the slots of one node, a few at once: each keeps a core busy for seconds."""

    def __init__(self, rows: PrimedRows, *, vault: Vault, daemon: DaemonRpc, at_once: int, pause_s: float) -> None:
        self._rows, self._vault, self._daemon, self._at_once = rows, vault, daemon, at_once
        self._pause_s, self._not_before, self._busy = pause_s, 0.0, 0
        self._lines: list[Callable[[], int]] = []
        self._racks: list[Iterable[Slot]] = []

    def heed(self, waiting: Callable[[], int], slots: Iterable[Slot]) -> None:
        """Primes nothing from now on while this counts anybody who waits; sees who works in these slots."""
        self._lines.append(waiting)
        self._racks.append(slots)

    def at_work(self) -> bool:
        """Says whether a seat of this node uses a slot: a core that primes is missed there."""
        return any(slot.state is SlotState.LEASED for slots in self._racks for slot in slots)

    def begin(self) -> bool:
        """Counts one more slot as being primed, until `end`.

        False while somebody waits for any slot of a role, when there are as many as may be at once, and for a while
        after one came to nothing.
        """
        in_time = asyncio.get_running_loop().time() >= self._not_before
        has_room = self._busy < self._at_once and in_time and not any(waiting() for waiting in self._lines)
        self._busy += has_room
        return has_room

    def end(self) -> None:
        """Ends a `begin` that said True."""
        self._busy -= 1

    async def noted(self) -> Mapping[str, PrimedRow]:
        """Reads what the rows say of every slot; raises `LogUnavailable`."""
        return await self._rows.free()

    async def known(self, slot: Slot, address: Address) -> PrimedWallet | None:
        """Recognises a slot's primed wallet by its address; raises `LogUnavailable`."""
        row = await self._rows.free_of(slot.name)
        try:
            return await self._opened(row) if row is not None and row.address == address else None
        except SealBroken:  # whose password is lost is as strange as any other
            return None

    async def prime(self, slot: Slot, hold: Hold, rpc: WalletRpc, *, wanted: asyncio.Event) -> PrimedWallet | None:
        """Opens a slot's primed wallet, or makes a new one, where none is open; None when it has to stay so.

        After anything it raises one may be open: `WalletRefused`, `WalletUnknown`, `LostLease`, `LogUnavailable`.
        """
        try:
            wallet = await self._reopened(slot, hold, rpc) or await self._made(slot, hold, rpc, wanted)
            if wallet is not None:
                row = msgspec.structs.replace(wallet.row, address=await rpc.get_address())
                return PrimedWallet(row=row, password=wallet.password, rows=self._rows)
        except (DaemonDown, SlotWanted):
            pass
        except BaseException:
            self._pause()
            raise
        self._pause()
        return None

    async def leave_open(self, slot: Slot, hold: Hold, wallet: PrimedWallet) -> bool:
        """Notes under which lease of its slot a primed wallet is left open; False when that is not known to be noted.

        A wallet that no row accounts for must not be left open: a process that is not ours shows somebody else's then.
        """
        try:
            noted, error = await self._rows.opened(msgspec.structs.replace(wallet.row, fence=hold.lease.fence)), ""
        except Exception as away:  # whatever it is, the slot is only cleaned for it
            noted, error = False, type(away).__name__
        if not noted:
            log.warning("primed_wallet_not_noted", slot=slot.name, error=error)
        return noted

    def _pause(self) -> None:
        self._not_before = asyncio.get_running_loop().time() + self._pause_s

    async def _reopened(self, slot: Slot, hold: Hold, rpc: WalletRpc) -> PrimedWallet | None:
        row = await self._rows.free_of(slot.name)
        if row is None:
            return None
        files = HeldFiles(slot.files, hold)
        if row.address is None:  # its maker was not heard to the end: it may have been made without a daemon
            await self._sweep(row, files)
            return None
        try:
            wallet = await self._opened(row)
        except SealBroken:  # its password is lost: nobody had it, and nobody ever will
            await self._rows.drop(row)
            return None
        try:
            await rpc.open_wallet(row.name, password=wallet.password)
        except WalletRefused as refused:
            if refused.fault is not WalletFault.OPEN_FAILED:
                raise
            await self._sweep(row, files)
            return None
        return wallet

    async def _sweep(self, row: PrimedRow, files: HeldFiles) -> None:
        """Forgets a wallet that does not open; the row goes first, and only while nobody claimed it.

        Its files go only if it was never seen open: in a database restored from a backup a wallet may be free again
        that an escrow had.
        """
        if await self._rows.drop(row):
            if row.address is None:
                files.remove(row.name)
            log.info("primed_wallet_swept", slot=row.slot, wallet=row.name, kept=row.address is not None)

    async def _made(self, slot: Slot, hold: Hold, rpc: WalletRpc, wanted: asyncio.Event) -> PrimedWallet | None:
        # Made without a daemon a wallet takes its first height from the date: on a young chain it never sees money.
        await self._daemon.info()
        name, password = new_wallet_name(), new_wallet_password()
        sealed = await self._vault.seal(_key_of(slot.name), event="primed_wallet", field=name, plain=password.encode())
        row = PrimedRow(slot=slot.name, name=name, sealed=sealed)
        if not await self._rows.note(row):
            return None  # another has had the slot meanwhile
        hold.check()  # a maker knows no fences, and ends the one that it finds
        try:
            await slot.host.make_wallet(rpc, name, password=password, wanted=wanted)
        except SlotWanted:
            await self._sweep(row, HeldFiles(slot.files, hold))
            raise
        except (WalletRefused, ProgramFailed, OSError) as failed:
            # What is refused opens nothing, and a maker works beside the process: the slot is as good as before.
            log.warning("wallet_not_made", slot=slot.name, error=type(failed).__name__)
            return None
        try:
            await self._daemon.info()
        except DaemonDown:  # it may have gone before the wallet was made: nobody uses this one
            await rpc.close_wallet()
            raise
        return PrimedWallet(row=row, password=password, rows=self._rows)

    async def _opened(self, row: PrimedRow) -> PrimedWallet:
        plain = await self._vault.open(_key_of(row.slot), event="primed_wallet", field=row.name, sealed=row.sealed)
        return PrimedWallet(row=row, password=plain.decode(), rows=self._rows)


def _key_of(slot: str) -> str:
    return f"slot-{slot}"


def primed_slots(slots: Iterable[Slot], rows: Mapping[str, LeaseRow], noted: Mapping[str, PrimedRow]) -> frozenset[str]:
    """Names the slots in which nobody was since their wallet was opened there."""
    known = (slot.name for slot in slots if slot.name in rows and slot.name in noted)
    return frozenset(name for name in known if rows[name].fence == noted[name].fence)
