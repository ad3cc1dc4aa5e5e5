"""Names of things, each of its own type so that one cannot stand for another."""

from typing import NewType

EscrowId = NewType("EscrowId", str)
OrderId = NewType("OrderId", str)
UserId = NewType("UserId", str)
"""The `sub` of a bearer token; there is no user registry."""
CaseId = NewType("CaseId", str)
PhotoId = NewType("PhotoId", str)
Cid = NewType("Cid", str)
"""A content identifier of version 1, in base32: it names some bytes by their hash, wherever they lie."""
WalletId = NewType("WalletId", str)
CommandId = NewType("CommandId", str)
"""64 hex digits: what makes a command happen once."""
TurnId = NewType("TurnId", str)
Address = NewType("Address", str)
"""A Monero address in base58."""
TxHash = NewType("TxHash", str)
OneTimeKey = NewType("OneTimeKey", str)
"""The public key of one output, 64 hex digits: what names a deposit on any branch of the chain."""
KeyImage = NewType("KeyImage", str)
"""64 hex digits that appear on chain when the output with the matching one-time key is spent."""
Sealed = NewType("Sealed", str)
"""Base64 of an encrypted field. The domain carries it and never looks inside."""
Micros = NewType("Micros", int)
"""A moment: microseconds since the Unix epoch, UTC."""
MICROS = 1_000_000
"""Of a second."""
