"""Who takes part in an escrow, and where each one's wallet lives."""

from enum import StrEnum


class Role(StrEnum):
    """One of the three seats of an escrow."""

    BUYER = "buyer"
    VENDOR = "vendor"
    ARBITER = "arbiter"


PARTIES = (Role.BUYER, Role.VENDOR)
THREE = (Role.BUYER, Role.VENDOR, Role.ARBITER)
"""All seats, in the one order in which leases are taken."""


class SeatKind(StrEnum):
    """Where a seat's wallet lives, which decides who takes its turns."""

    RELAY = "relay"
    REGISTERED = "registered"
    POOL = "pool"


def other_party(role: Role) -> Role:
    """Names the party opposite to a party."""
    return Role.VENDOR if role is Role.BUYER else Role.BUYER


def others(role: Role) -> tuple[Role, ...]:
    """Names the other two seats, in seat order."""
    return tuple(each for each in THREE if each is not role)
