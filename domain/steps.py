"""The steps a seat's wallet is asked for, and which of them must never be repeated blind."""

from enum import StrEnum


class Round(StrEnum):
    """One round of the set-up; all three seats end it before any begins the next."""

    PREPARE = "prepare"
    MAKE = "make"
    EXCHANGE_1 = "exchange_1"
    EXCHANGE_2 = "exchange_2"


ROUNDS = tuple(Round)


class Step(StrEnum):
    """What one turn asks of a seat."""

    JOIN = "join"
    CLAIM_WALLET = "claim_wallet"
    PREPARE = "prepare"
    MAKE = "make"
    EXCHANGE_1 = "exchange_1"
    EXCHANGE_2 = "exchange_2"
    CONFIRM_ADDRESS = "confirm_address"
    EXPORT = "export"
    KEY_IMAGES = "key_images"
    PROPOSE = "propose"
    COSIGN = "cosign"
    BROADCAST = "broadcast"


ONCE = frozenset({Step.MAKE, Step.EXCHANGE_1, Step.EXCHANGE_2, Step.EXPORT, Step.COSIGN, Step.BROADCAST})
"""Steps whose wallet call has an effect that cannot be asked for again: an intent goes before, an outcome after.

Broadcast may be repeated (a daemon takes the same transaction twice), but from its intent on a payout must be
taken for published.
"""
