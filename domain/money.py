"""Amounts: always integers, always atomic units (1e-12 XMR)."""

from typing import NewType

Atomic = NewType("Atomic", int)
"""An amount of money in atomic units. Never a float; in records 0 <= amount < 2**63."""

ATOMIC_PER_XMR = 1_000_000_000_000
ATOMIC_MAX = Atomic(2**63 - 1)


def total(*amounts: int) -> Atomic:
    """Adds amounts."""
    return Atomic(sum(amounts))
