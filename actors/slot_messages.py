"""What a supervisor is asked and told, and its bounds."""

from typing import Any

import msgspec


class SupervisorLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a supervisor; seconds unless the name says otherwise."""

    queue_max: int = 100
    slot_lease_s: float = 60
    renew_s: float = 15
    check_s: float = 1
    """How long a slot may take to answer before it is leased."""
    patience_s: float = 5
    """How long an answer is waited for while nobody wants the slot: a late one tells it from a silent one."""
    prime_rest_s: float = 1
    """How long a slot that was given back is left free before it is primed: of many escrows the next asks at once."""
    prime_rest_busy_s: float = 60
    """How long, while seats of this node work in other slots: they need the cores now."""
    recheck_s: float = 5
    """How soon a slot that cannot be used is looked at again."""
    quarantine_s: float = 300
    """How long a process that is not ours and showed another's wallet is left alone: at least the longest call."""
    look_s: float = 30
    """How often a free slot is."""
    wait_s: float = 0.5
    """How soon somebody who waits here learns that another node has given a slot back."""


class TakeSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a slot, which becomes the result of `granted`; `NoSlot` is raised when the queue is full.

    The future is the asker's own, so that it can be called off even when the ask itself got no answer in time.
    `seat` is what the lease says the slot is used for. `came` is when what it wants the slot for began, in microseconds
    since the Unix epoch, which gives it its place in the line; None is now.
    """

    seat: str
    granted: Any
    came: int | None = None


class GiveBack(msgspec.Struct, frozen=True, kw_only=True):
    """Gives a slot back. `clean` means that its wallet was closed; otherwise the process is cleaned first."""

    leased: Any
    clean: bool
    other_wallet: bool = False
    """Another wallet than the seat's was open there."""


class AddSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Takes a slot in. One that is to leave stays instead, with the host it has."""

    slot: Any


class DrainSlot(msgspec.Struct, frozen=True, kw_only=True):
    """Lets a slot finish its lease and leave; answers whether there is one of that name."""

    name: str


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """What became of preparing a slot for somebody who waits, or for nobody."""

    slot: Any
    hold: Any
    waiter: Any
    rpc: Any = None
    """A client of its process; None where it cannot be used."""
    primed: Any = None
    """The primed wallet that is open there."""
    ailment: Any = None
    ended: bool = False
    """Nothing is open there that its last holder opened."""


class Look(msgspec.Struct, frozen=True):
    """Time to look at the queue again."""


class Tick(msgspec.Struct, frozen=True):
    """Time to renew leases and to look at slots again."""
