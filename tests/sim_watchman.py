"""Judges a simulated pool from outside: by lease rows, wallet register, log, folders and open wallets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from domain.events import WalletClaimed
from eventstore.api import Lease, LeaseRow, Leases
from eventstore.memory import LeaseEntry, MemoryTables
from eventstore.primed import PrimedRow, PrimedRows
from schemas.codec import decode
from tests.machines import Machine

if TYPE_CHECKING:
    from tests.sim_pool import PoolSlot

LEASE_S = 60
"""A slot lease at most (the supervisors' bound)."""
WAY_S = 0.005
"""To the database, and back."""
HELD_MAX_S = 1_500
"""One seat has a slot at most so long: its longest calls (300 s) hung, one after another."""


class _Assigned(msgspec.Struct):
    escrow_id: str
    role: str


class Watchman:
    """Collects broken promises, since what raises inside a node is handled there."""

    def __init__(self, tables: MemoryTables, slots: "Mapping[str, PoolSlot]") -> None:
        self._tables, self._slots = tables, slots
        self.broken: list[str] = []
        self.stumbles: list[float] = []
        """Seconds for which the machine of whoever makes the next calls stands still between its look and the call."""
        self.claims: dict[str, str] = {}
        """Who was told that a primed wallet is theirs."""
        self.wallets: dict[str, str] = {}
        """Whose a wallet is by its register."""
        self._seats: dict[str, str] = {}
        self._read = [0] * tables.partitions
        self._held: dict[str, tuple[int, float]] = {}

    # -- told by slots and rows --------------------------------------------------------------------------------------

    def looked(self, slot: str, fence: int) -> None:
        """A holder under this fence looked at its lease and goes on to make a call."""
        row = self._tables.slot_leases[slot]
        if row.fence != fence or not self._runs(row):
            self._break(f"call to {slot} under fence {fence}, which is over: {row}")

    def changes_files(self, slot: str, node_id: str) -> None:
        """A node changes wallet files as the holder of a slot."""
        row = self._tables.slot_leases[slot]
        if row.holder != node_id or not self._runs(row):
            self._break(f"{node_id} changes files of {slot}, which it does not hold: {row}")

    def claimed(self, name: str, seat: str) -> None:
        """A seat is told that a primed wallet is its own."""
        if self.claims.setdefault(name, seat) != seat:
            self._break(f"{name} claimed by {self.claims[name]} and {seat}")

    def stumble(self, machine: Machine) -> None:
        """Lets a machine stand still here, if that is ordered."""
        if self.stumbles and machine.at_work:
            machine.stop(self.stumbles.pop())

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Looks at everything; raises `AssertionError` when a promise is broken."""
        self._read_log()
        opened = [(wallet.opened, slot) for slot in self._slots.values() for wallet in slot.running() if wallet.opened]
        names = [(name, slot.role) for name, slot in opened]
        if len(names) != len(set(names)):
            self._break(f"a wallet is open in two processes: {sorted(names)}")
        for name, slot in opened:
            self._accounted(name, slot.name)
        for leased, row in self._tables.slot_leases.items():
            self._aged(leased, row)
        assert not self.broken, self.broken

    def _read_log(self) -> None:
        for partition, after in enumerate(self._read):
            events = self._tables.events[partition][after:]
            self._read[partition] += len(events)
            for event in events:
                if event.type == WalletClaimed.__struct_config__.tag:
                    claimed = decode(type=event.type, schema_version=event.schema_version, body=event.body)
                    assert isinstance(claimed, WalletClaimed)
                    self._seated(claimed.wallet_id, f"{event.stream_id}/{claimed.role}")
                elif event.stream_id.startswith("wallet-"):
                    body = msgspec.json.decode(event.body, type=_Assigned)
                    self._assigned(event.stream_id.removeprefix("wallet-"), f"{body.escrow_id}/{body.role}")

    def _assigned(self, wallet: str, seat: str) -> None:
        if self.wallets.setdefault(wallet, seat) != seat:
            self._break(f"{wallet} is {self.wallets[wallet]}'s and {seat}'s")

    def _seated(self, wallet: str, seat: str) -> None:
        if self._seats.setdefault(seat, wallet) != wallet:
            self._break(f"{seat} has {self._seats[seat]} and {wallet}")
        self._assigned(wallet, seat)

    def _accounted(self, name: str, slot: str) -> None:
        """Whoever's wallet is open in a slot, its row says so."""
        row, seat = self._tables.slot_leases.get(slot), self.wallets.get(name) or self.claims.get(name)
        if seat is not None and (row is None or row.expires_at is None or row.detail != seat):
            self._break(f"{seat}'s wallet is open in {slot}: {row}")
        if seat is None and row is not None and row.expires_at is None and not self._is_free(name, slot):
            self._break(f"{name} is open in {slot}, given back: {row}")

    def _is_free(self, name: str, slot: str) -> bool:
        free: Mapping[str, PrimedRow] = self._tables.beside["primed_wallets"]
        return slot in free and free[slot].name == name

    def _aged(self, slot: str, row: LeaseEntry) -> None:
        now = self._tables.clock()
        if row.expires_at is None:
            self._held.pop(slot, None)
            return
        if row.expires_at > now + LEASE_S * 1_000_000:
            self._break(f"{slot} is leased for longer than {LEASE_S} s: {row}")
        fence, since = self._held.get(slot, (0, 0.0))
        if fence != row.fence:
            self._held[slot] = row.fence, now
        elif self._runs(row) and now - since > HELD_MAX_S * 1_000_000:
            self._break(f"{slot} is held for longer than {HELD_MAX_S} s: {row}")

    def _runs(self, row: LeaseEntry) -> bool:
        return row.expires_at is not None and row.expires_at > self._tables.clock()

    def _break(self, promise: str) -> None:
        self.broken.append(promise)


class WatchedPrimed:
    """Primed wallets whose claims a watchman hears of; implements `PrimedRows`."""

    def __init__(self, rows: PrimedRows, watchman: Watchman) -> None:
        self._rows, self._watchman = rows, watchman
        self.note, self.opened, self.free = rows.note, rows.opened, rows.free
        self.free_of, self.drop = rows.free_of, rows.drop

    async def claim(self, row: PrimedRow, *, seat: str) -> bool:
        """Gives a free wallet to a seat."""
        given = await self._rows.claim(row, seat=seat)
        if given:
            self._watchman.claimed(row.name, seat)
        return given


class DistantLeases:
    """Leases a few milliseconds away, as those of a database are; implements `Leases`."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    async def acquire(self, name: str, *, holder: str, seconds: float, detail: str = "") -> Lease | None:
        async with _way():
            return await self._leases.acquire(name, holder=holder, seconds=seconds, detail=detail)

    async def renew(self, lease: Lease) -> bool:
        async with _way():
            return await self._leases.renew(lease)

    async def release(self, lease: Lease) -> None:
        async with _way():
            await self._leases.release(lease)

    async def held(self) -> Mapping[str, LeaseRow]:
        async with _way():
            return await self._leases.held()


@asynccontextmanager
async def _way() -> AsyncIterator[None]:
    await asyncio.sleep(WAY_S)
    yield
    await asyncio.sleep(WAY_S)
