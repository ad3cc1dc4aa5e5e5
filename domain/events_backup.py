"""What can happen to a hosted wallet's files: they are backed up before there is an address, and put back when lost."""

from domain.event import Event
from domain.ids import Sealed, UserId, WalletId
from domain.roles import Role


class WalletBackedUp(Event, frozen=True, kw_only=True):
    """All that brings a hosted seat's wallet back was sealed to a key whose private half is kept offline."""

    role: Role
    wallet_id: WalletId
    key: str
    """The public key it is sealed to, 64 hex digits."""
    digest: str
    """sha256 of the box as it is in `box`, hex."""
    box: Sealed


class WalletRestored(Event, frozen=True, kw_only=True):
    """A lost wallet is about to be put back from its backup: what it had handed out to sign with is worth nothing."""

    role: Role
    wallet_id: WalletId
    by: UserId
