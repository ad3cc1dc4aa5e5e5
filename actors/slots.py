"""Wallet slots: what they are, and the right to use one."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from actors.ports import WalletFiles, WalletRpc
from domain.roles import Role
from eventstore.api import Lease


class SlotHost(Protocol):
    """Whoever runs a slot's process."""

    async def restart(self) -> None:
        """Ends the process (an open wallet is saved where that is possible) and starts it again."""


class SlotState(StrEnum):
    """Where a slot stands."""

    UNCHECKED = "unchecked"
    FREE = "free"
    LEASED = "leased"
    UNHEALTHY = "unhealthy"


@dataclass(kw_only=True, eq=False)
class Slot:
    """One `monero-wallet-rpc` process of the service's own, in the wallet folder of its role."""

    name: str
    role: Role
    rpc: WalletRpc
    files: WalletFiles
    host: SlotHost | None
    """None for a process somebody else runs: it can be closed but not restarted."""
    state: SlotState = SlotState.UNCHECKED
    lease: Lease | None = None
    closed: asyncio.Event | None = None
    """Set once no wallet of its last user is open here any more."""


@dataclass(kw_only=True, eq=False)
class LeasedSlot:
    """A slot in the hands of one seat until it is given back."""

    slot: Slot
    lease: Lease
    waited_s: float


@dataclass(kw_only=True, eq=False)
class Waiter:
    """Somebody in the queue for a slot."""

    since: int
    granted: "asyncio.Future[LeasedSlot]"


class NoSlot(Exception):
    """The queue for a slot is full: try again later."""
