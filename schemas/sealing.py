"""Which fields are sealed, and under which names: the place a sealed field was made for is part of its seal."""

from enum import StrEnum


class SealedKind(StrEnum):
    """What a sealed field holds; it is authenticated with the escrow and a qualifier such as the seat."""

    PAYOUT_ADDRESS = "payout_address"
    WALLET = "wallet"
    """A hosted seat's wallet: name, password, identity seed."""
    SETUP_MESSAGE = "setup_message"
    VIEW_KEY = "view_key"
    EXPORT = "export"
    TX_SET = "tx_set"
    SIGNED_TX = "signed_tx"
    CLAIM = "claim"
    DECISION_REASON = "decision_reason"
    ADMIN_NOTES = "admin_notes"
