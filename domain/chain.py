"""What the chain shows of one escrow: the facts a watcher reports, never a judgement."""

import msgspec

from domain.ids import OneTimeKey, TxHash
from domain.money import Atomic

UNLOCKED_AT = 10
"""Confirmations at which an output unlocks, where it has no lock of its own."""


class SeenOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output at the escrow's address, as the chain or the pool holds it now."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    amount: Atomic
    height: int | None
    """Height of its block; None while in the pool."""
    unlocked: bool
    """At least 10 confirmations and no lock of its own left (monerod's rule for spending)."""


class TxFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody can read of a transaction without its keys."""

    network_fee: Atomic
    unlock_time: int
    outputs: int


class SeenSpend(msgspec.Struct, frozen=True, kw_only=True):
    """One of the escrow's outputs used as an input, found by its key image."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    height: int | None
    facts: TxFacts | None = None
    """None where whoever looked could not tell."""


class ChainView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the chain shows of one escrow at one height; an absent output is not there (any more)."""

    height: int
    """Number of blocks. A block at height h has `height - h` confirmations."""
    outputs: tuple[SeenOutput, ...] = ()
    spends: tuple[SeenSpend, ...] = ()
