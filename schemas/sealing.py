"""Which fields are sealed, under which key and names: the place a sealed field was made for is part of its seal."""

from enum import StrEnum

from domain.ids import EscrowId


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
    MESSAGE = "message"
    """Of the conversation in a case."""
    DECISION_REASON = "decision_reason"
    REASON_SALT = "reason_salt"
    """Of the digest that a signed decision names its reason by."""
    PICTURE = "picture"
    PICTURE_DESCRIPTION = "picture_description"
    DRAFT = "draft"
    """What an arbiter or an assistant wrote down, for the arbiter's eyes."""
    DRAW_SEED = "draw_seed"
    """Of a chain of secrets, sealed under a key of its own stream."""
    ADMIN_NOTES = "admin_notes"


def key_of(escrow_id: EscrowId, kind: SealedKind) -> str:
    """Names the key a field is sealed under: wallets have one of their own in each escrow, which is never shredded.

    An address can be paid for ever, and only the wallets' passwords open what moves that money again.
    """
    return f"{escrow_id}/wallets" if kind is SealedKind.WALLET else escrow_id
