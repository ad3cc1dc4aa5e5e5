"""Wallet slots: what they are, and the right to use one."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from actors.ailments import Ailment
from actors.escrow import LostLease
from actors.ports import WalletFiles, WalletRpc
from domain.roles import Role
from eventstore.api import Lease, Leases, LogUnavailable
from eventstore.primed import PrimedRow, PrimedRows

HOLD_MARGIN = 0.1
"""Part of a lease that its holder does not use: clocks of two machines may run at different speeds."""


class SlotHost(Protocol):
    """Whoever runs a slot's process."""

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        """Returns a client of the process that calls `before_call` before each call; raises `SlotUnusable`.

        Unless `clean`, whoever used it under this fence or a lower one is made powerless first, and what they left
        open is saved and closed. A process of our own is ended for that and a new one started, with a login that only
        clients made from then on know; one that is not ours is closed once no call of theirs can be under way.
        """

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        """Makes a fresh wallet and has it open in the process; raises `WalletRefused`, `WalletUnknown`.

        Gives up with `SlotWanted` when the slot is wanted meanwhile, where that leaves the process as it was.
        """

    def shows(self, name: str) -> None:
        """Hears which wallet of ours was found open in the process."""

    def silent(self) -> bool:
        """Whether the process is stopped or gone: a call to it gets no answer."""


class SlotState(StrEnum):
    """Where a slot stands, as this node knows it."""

    UNCHECKED = "unchecked"
    FREE = "free"
    PREPARING = "preparing"
    """Leased by this node and being cleaned or looked at."""
    LEASED = "leased"
    UNHEALTHY = "unhealthy"


class Hold:
    """A slot lease by its holder's own monotonic clock: over a little before the database's.

    A node that was stopped and goes on finds it over before it does anything else with a wallet.
    """

    def __init__(self, lease: Lease, *, since: float, seat: str = "") -> None:
        self.lease, self.seat, self._ended = lease, seat, False
        self.renewed(since=since)

    def renewed(self, *, since: float) -> None:
        """Notes that the lease was renewed by a call begun at this moment of the loop's clock."""
        self._until = since + self.lease.seconds * (1 - HOLD_MARGIN)

    async def renew(self, leases: Leases) -> bool:
        """Prolongs the lease; False when it is another's. Where that is not known it is over when its time is."""
        since = asyncio.get_running_loop().time()
        try:
            renewed = await leases.renew(self.lease)
        except LogUnavailable:
            return True
        if renewed:
            self.renewed(since=since)
        return renewed

    def end(self) -> None:
        """Notes that the lease is over for good: what is heard of a renewal after this changes nothing."""
        self._ended = True

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self._ended

    def check(self) -> None:
        """Raises `LostLease` when the lease may be over."""
        if self._ended or asyncio.get_running_loop().time() >= self._until:
            raise LostLease


@dataclass(kw_only=True, eq=False)
class Slot:
    """One `monero-wallet-rpc` process, in the wallet folder of its role."""

    name: str
    role: Role
    files: WalletFiles
    host: SlotHost
    state: SlotState = SlotState.UNCHECKED
    hold: Hold | None = None
    """This node's lease on it."""
    wanted: asyncio.Event | None = None
    """While it is being primed: set, it tells that somebody waits for the slot."""
    ailment: Ailment | None = None
    """Why it could not be used when it was last looked at."""
    since: int = 0
    """Since when it has been as it is shown, in microseconds since the Unix epoch."""
    offered: bool = False
    """Whether the log says that it is free."""
    turn: int = 0
    """Its place in the round: the higher, the later it was leased."""
    used_until: float = -math.inf
    """When a seat gave it back last, by the event loop's clock."""
    looked_at: float = 0.0
    """When it last answered, by the event loop's clock."""
    rests_until: float = 0.0
    """Not looked at before, by the event loop's clock."""
    given: bool = False
    """Its process is not ours: somebody else may use it as well."""
    leaving: bool = False
    """To be forgotten as soon as it is given back."""

    @property
    def shown(self) -> str:
        """The state as operators see it: one that ails is unhealthy while it is looked at again."""
        ails = self.ailment is not None and self.state is not SlotState.LEASED
        return SlotState.UNHEALTHY if ails else self.state

    def become(self, state: SlotState, *, at: int, ailment: Ailment | None = None) -> None:
        """Changes state at a moment in microseconds since the Unix epoch."""
        before = self.shown, self.ailment
        self.state, self.ailment = state, ailment
        if (self.shown, self.ailment) != before or not self.since:
            self.since = at


@dataclass(frozen=True, kw_only=True, repr=False)
class PrimedWallet:
    """A fresh wallet, open in the slot it was made in; nobody's until it is claimed."""

    row: PrimedRow
    password: str
    rows: PrimedRows

    async def claim(self, seat: str) -> bool:
        """Makes the wallet a seat's for ever; False when it is another's."""
        return await self.rows.claim(self.row, seat=seat)


@dataclass(kw_only=True, eq=False)
class LeasedSlot:
    """A slot in the hands of one seat until it is given back."""

    slot: Slot
    hold: Hold
    rpc: WalletRpc
    waited_s: float
    primed: PrimedWallet | None = None
    """A fresh wallet that is open in it; whoever claims it or puts it away takes it from here."""

    @property
    def files(self) -> "HeldFiles":
        """The slot's folder, for as long as the lease lasts."""
        return HeldFiles(self.slot.files, self.hold)


class HeldFiles:
    """A slot's folder in the hands of a lease; implements `WalletFiles`.

    A change is made with the wallet's files locked, and the lease is looked at after that. So who is stopped before a
    change and goes on when the lease is another's changes nothing, and who is stopped in the middle of one keeps
    others from the wallet until it is whole.
    """

    def __init__(self, files: WalletFiles, hold: Hold) -> None:
        self._files, self._hold = files, hold

    def exists(self, name: str) -> bool:
        """Says whether the wallet has a keys file."""
        return self._files.exists(name)

    def save(self, name: str, *, label: str) -> None:
        """Copies the wallet's files."""
        with self.alone(name):
            self._files.save(name, label=label)

    def saved(self, name: str, *, label: str) -> bool:
        """Says whether a whole copy of that label exists."""
        return self._files.saved(name, label=label)

    def restore(self, name: str, *, label: str) -> None:
        """Puts a copy in place of the wallet's files."""
        with self.alone(name):
            self._files.restore(name, label=label)

    def drop_saved(self, name: str) -> None:
        """Deletes every copy of the wallet."""
        with self.alone(name):
            self._files.drop_saved(name)

    def remove(self, name: str) -> None:
        """Deletes a wallet that no escrow ever had, keys and all."""
        with self.alone(name):
            self._files.remove(name)

    def drop_cache(self, name: str) -> None:
        """Deletes the cache file."""
        with self.alone(name):
            self._files.drop_cache(name)

    def keys(self, name: str) -> bytes:
        """Returns the wallet's keys file; raises `KeysFileUnreadable`."""
        return self._files.keys(name)

    def in_use(self, name: str) -> bool:
        """Says whether a process has the wallet open."""
        return self._files.in_use(name)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Locks the wallet's files for the block; raises `WalletUnknown` while another changes them, `LostLease`."""
        with self._files.alone(name):
            self._hold.check()
            yield


@dataclass(kw_only=True, eq=False)
class Waiter:
    """Somebody in the queue for a slot."""

    seat: str
    came: int
    """When what it wants the slot for began: its place in the line. Microseconds, here and below."""
    since: int
    """When it asked."""
    granted: "asyncio.Future[LeasedSlot]"
    promised: bool = False
    """A slot is being prepared for it."""
    bound: bool = False
    """Its wallet may be open in a particular slot, and it waits for that one."""


class SlotWanted(Exception):
    """The making of a wallet was given up because somebody waits for the slot; the process is as it was."""


class NoSlot(Exception):
    """The queue for a slot is full: try again later."""
