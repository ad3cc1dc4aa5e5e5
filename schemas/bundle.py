"""A bundle: the events of one escrow with the proofs that they are in the log. Documented in docs/auditing.md."""

import msgspec

from domain.ids import Micros
from schemas.heads import HeadRecord

BUNDLE_FORMAT = "thirdkey bundle 1"
"""Its last word is the version of the format."""


class BundleEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event: all that its leaf is computed from (with the bundle's partition and escrow), and its proof."""

    position: int
    version: int
    type: str
    schema_version: int
    command_id: str
    occurred_at: Micros
    recorded_at: Micros
    """By the database's clock; no part of the leaf, so nothing proves it."""
    meta: str
    """Canonical JSON, exactly as hashed."""
    body: str
    """Canonical JSON, exactly as hashed."""
    salt: str
    """32 hex digits."""
    path: tuple[str, ...] | None
    """Inclusion in the tree of the bundle's newest head, from below upwards, hashes in hex; null when it is newer."""


class Growth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Proves that the log at one position only grew to what it was at a later one."""

    old: int
    new: int
    path: tuple[str, ...]


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One escrow's events and what proves them."""

    format: str
    escrow_id: str
    partition: int
    exported_at: Micros
    events: tuple[BundleEvent, ...]
    heads: tuple[HeadRecord, ...]
    """Of the partition, in order of position; all proofs of inclusion lead to the last of them."""
    growths: tuple[Growth, ...]
    """From each head to the next, and from the position that was asked for to the last head."""
    keys: tuple[str, ...]
    """Every key that ever signed a head of this log, as the service says."""
