"""Puts a lost wallet back from its backup, so that nothing is ever signed with what the lost one had handed out."""

import asyncio
import secrets as randomness
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from actors.desk import Desk, derived_id
from actors.escrow import Rejected
from actors.ports import Clock, WalletFolder
from actors.sealed import EscrowSecrets
from actors.seat import seat_name
from actors.slot_line import bound_to
from actors.slots import HeldFiles, Hold
from actors.wallet_backup import WalletBackup
from domain import commands as c
from domain.ids import Micros, UserId, WalletId
from domain.states import Escrow
from eventstore.api import Fence, Leases, Vault


class NotRestored(Exception):
    """A wallet was not put back; nothing was changed but that the escrow may say so. The text is for the operator."""


class RestoreLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a restore, in seconds."""

    lease_s: float = 120
    """For how long nobody else may take the seat's turns."""
    wait_s: float = 75
    """How long an agent at work is waited for, and then its slot to be cleaned; agents of dead nodes need 30."""
    look_s: float = 0.5


LIMITS = RestoreLimits()


@dataclass(frozen=True, kw_only=True)
class Restorer:
    """What a restore works with: the log, who may use the seat, and the folder of its wallets."""

    desk: Desk
    seat_leases: Leases
    slot_leases: Leases
    vault: Vault
    files: WalletFolder
    clock: Clock
    limits: RestoreLimits = LIMITS

    async def put_back(self, backup: WalletBackup, *, by: UserId, gone: Collection[str] = ()) -> None:
        """Puts `NAME.keys` back under the seat's lease: first the log says so, then the file appears.

        `gone` names slots that will never run again, whose leases still say that the wallet may be open there.
        Raises `NotRestored`, `LostLease` and whatever `Desk.handle` and the folder raise; to be begun again then.
        """
        state = await self.desk.state(backup.escrow_id)
        if state is None:
            raise NotRestored("there is no such escrow in this log")
        await self._check(state, backup)
        seat = seat_name(backup.escrow_id, backup.role)
        async with self._seat_alone(seat) as hold:
            await self._closed_everywhere(seat, gone)
            if not self.files.lost(backup.file):
                raise NotRestored(
                    f"the wallet {backup.file} has files in the folder: two copies of one wallet would sign apart from"
                    " each other; a cache without its keys file is to be removed first"
                )
            await self._announce(backup, by=by, hold=hold)
            with HeldFiles(self.files, hold).alone(backup.file):
                self.files.put_back(backup.file, backup.keys_file)

    async def _check(self, state: Escrow, backup: WalletBackup) -> None:
        """Compares the box with the log and its sealed fields: anybody can seal something to a public key."""
        seated = state.core.seats.get(backup.role)
        if seated is None or seated.secrets is None or seated.wallet_id != backup.file:
            raise NotRestored("this is not the wallet of the seat")
        own = await EscrowSecrets(self.vault, backup.escrow_id).wallet(state, backup.role)
        if (own.file, own.password, own.identity_seed) != (backup.file, backup.password, backup.identity_seed):
            raise NotRestored("the box says otherwise than the seat's own sealed secrets")

    @asynccontextmanager
    async def _seat_alone(self, seat: str) -> AsyncIterator[Hold]:
        """Keeps every agent from the seat: one at work is waited for, what a lost one still appends is refused."""
        holder = f"restore-{randomness.token_hex(8)}"
        for _ in range(self._looks()):
            since = asyncio.get_running_loop().time()
            lease = await self.seat_leases.acquire(seat, holder=holder, seconds=self.limits.lease_s)
            if lease is not None:
                break
            await self.clock.sleep(self.limits.look_s)
        else:
            raise NotRestored("an agent is at work on this seat: try again, or stop the service first")
        hold = Hold(lease, since=since, seat=seat)
        try:
            yield hold
        finally:
            hold.end()
            await self.seat_leases.release(lease)

    async def _closed_everywhere(self, seat: str, gone: Collection[str]) -> None:
        """Waits until no slot can have the wallet open: a process that has could save an old cache beside the keys."""
        for _ in range(self._looks()):
            open_in = bound_to(seat, await self.slot_leases.held())
            for slot in open_in & set(gone):
                await self._release(slot)
            if not open_in - set(gone):
                return
            await self.clock.sleep(self.limits.look_s)
        raise NotRestored(
            f"the wallet may be open in {', '.join(sorted(open_in))}: let the service clean it, or say with --gone that"
            " this process is no more"
        )

    async def _release(self, slot: str) -> None:
        lease = await self.slot_leases.acquire(
            slot, holder=f"restore-{randomness.token_hex(8)}", seconds=self.limits.lease_s
        )
        if lease is None:
            raise NotRestored(f"{slot} is in use: it is not gone")
        await self.slot_leases.release(lease)

    async def _announce(self, backup: WalletBackup, *, by: UserId, hold: Hold) -> None:
        at = Micros(self.clock.now())
        command = c.RestoreWallet(at=at, role=backup.role, wallet_id=WalletId(backup.file), by=by)
        fence = Fence(seat=hold.lease.name, fence=hold.lease.fence)
        command_id = derived_id(backup.escrow_id, "restore", backup.role, fence.fence)
        answer = await self.desk.handle(backup.escrow_id, command, command_id=command_id, actor=by, fence=fence)
        if isinstance(answer, Rejected):
            raise NotRestored(answer.code)

    def _looks(self) -> int:
        return max(1, int(self.limits.wait_s / self.limits.look_s))
