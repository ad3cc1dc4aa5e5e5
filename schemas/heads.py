"""Signed heads as they look outside the process: one JSON object each, hashes in hex."""

import msgspec

from domain.ids import Micros

HEADS_FORMAT = "thirdkey heads 1"


class HeadRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signed head: a line of the heads file, an entry of the published heads and of bundles."""

    partition: int
    position: int
    """How many events of the partition it covers."""
    chain: str
    """64 hex digits."""
    merkle_root: str
    """64 hex digits."""
    signed_at: Micros
    """Microseconds since the Unix epoch, by the signer's clock."""
    key_id: str
    """The signer's Ed25519 public key, 64 hex digits."""
    signature: str
    """128 hex digits."""


class PublishedHeads(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `/.well-known/thirdkey-heads.json` answers."""

    format: str
    keys: tuple[str, ...]
    """Every key that ever signed a head of this log."""
    heads: tuple[HeadRecord, ...]
    """The newest of each partition that has one."""
