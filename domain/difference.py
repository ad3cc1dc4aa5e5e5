"""One way in which what an escrow holds for true is not what the chain shows: a stable code and what it is about."""

from enum import StrEnum

import msgspec

CHAIN_DIFFERS = "chain_differs"
"""The reason of the recovery item that an escrow has while it differs from the chain."""


class DifferenceCode(StrEnum):
    """What differs between an escrow's log and the chain."""

    DEPOSIT_NOT_LOGGED = "deposit_not_logged"
    """The chain holds an output of the escrow that the log lacks, or holds for lost."""
    DEPOSIT_NOT_ON_CHAIN = "deposit_not_on_chain"
    DEPOSIT_AMOUNT = "deposit_amount"
    DEPOSIT_TRANSACTION = "deposit_transaction"
    DEPOSIT_HEIGHT = "deposit_height"
    DEPOSIT_LOCK = "deposit_lock"
    SPEND_NOT_LOGGED = "spend_not_logged"
    SPEND_NOT_ON_CHAIN = "spend_not_on_chain"
    SPEND_HEIGHT = "spend_height"
    SPEND_INPUTS = "spend_inputs"
    """The transaction spends other outputs of the escrow than the log says."""
    SPEND_FINAL = "spend_final"
    """The chain has long buried it, and the log does not call it final."""
    SPEND_NOT_FOUND = "spend_not_found"
    """The daemon says that an output is spent, and neither the log nor the scan knows by what."""
    PAYOUT_INPUTS = "payout_inputs"
    """A signed payout is in a block, and spends other inputs than its epoch named."""
    PAYOUT_FEE = "payout_fee"
    """A signed payout is in a block, with another network fee than was proposed."""
    PAYOUT_NOT_FINAL = "payout_not_final"
    """The escrow counts as paid by a transaction that is not, or not deep enough, in the chain."""
    PAYOUT_NOT_SENT = "payout_not_sent"
    """The log counts a payout as sent, and nobody has it: neither the pool nor a block."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. Names no address, so that an amount in it leads to nobody's."""

    code: str
    """A `DifferenceCode`; a plain word, so that a log stays readable when there are more of them."""
    about: str
    """The one-time key of the output, or the hash of the transaction."""
    logged: int | None = None
    """What the log says, where that is a number: a height, or atomic units."""
    shown: int | None = None
    """What the chain shows; None also where it shows nothing."""
