"""Wrapped keys: what is kept of them, where, and the `ENCRYPTION_KEY`s that open them."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from eventstore.api import SealBroken, Shredded

KEY_BYTES = 32
NONCE_BYTES = 12
SHREDDING_EVENT = "key_shredded"
"""Type of the event by which a stream's key is shredded."""


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's key as it is stored; `wrapped` is None once the key was shredded."""

    wrapping_key_id: str
    wrapped: bytes | None


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A wrapped key with its place."""

    partition: int
    stream_id: str
    key: WrappedKey


class Rewrapped(msgspec.Struct, frozen=True, kw_only=True):
    """A key wrapped anew, with what it was read as: whatever else happened to it meanwhile goes before."""

    read: StoredKey
    key: WrappedKey


class KeyStore(Protocol):
    """Where wrapped keys lie."""

    partitions: int

    async def create(self, stream_id: str, key: WrappedKey) -> None:
        """Stores a key unless the stream has one: whoever comes second reads the first one's."""

    async def read(self, stream_id: str) -> WrappedKey | None: ...

    async def wrapped_by(self) -> Mapping[str, int]:
        """Counts the keys that are not shredded by the `ENCRYPTION_KEY` that wraps them."""

    async def wrapped_otherwise(
        self, wrapping_key_id: str, *, partition: int, after: str, limit: int
    ) -> Sequence[StoredKey]:
        """Reads the next keys of a partition, by stream, that another `ENCRYPTION_KEY` wraps."""

    async def rewrap(self, changes: Sequence[Rewrapped]) -> int:
        """Replaces keys of one partition that are still as they were read; returns how many."""

    async def shred(self) -> Sequence[str]:
        """Blanks every key whose stream has a `key_shredded` event; returns the streams that had one left."""


class KeyRing:
    """The `ENCRYPTION_KEY` that wraps, and the others that still open."""

    def __init__(self, encryption_key: bytes, *, others: Sequence[bytes] = ()) -> None:
        if any(len(key) != KEY_BYTES for key in (encryption_key, *others)):
            raise ValueError(f"an encryption key must be {KEY_BYTES} bytes")
        self.current_id = wrapping_key_id(encryption_key)
        self._keys = (encryption_key, *others)
        self._wrapping = {wrapping_key_id(key): AESGCM(key) for key in (*others, encryption_key)}

    def knows(self, key_id: str) -> bool:
        """Says whether keys wrapped under this fingerprint open here."""
        return key_id in self._wrapping

    def derived(self, *, purpose: bytes) -> tuple[bytes, ...]:
        """Derives a key for one purpose from each `ENCRYPTION_KEY`, the current one's first."""
        return tuple(derived(key, purpose=purpose) for key in self._keys)

    def wrap(self, stream_id: str, key: bytes) -> WrappedKey:
        """Wraps a stream's key under the current `ENCRYPTION_KEY`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = nonce + self._wrapping[self.current_id].encrypt(nonce, key, joined("key", stream_id))
        return WrappedKey(wrapping_key_id=self.current_id, wrapped=wrapped)

    def unwrap(self, stream_id: str, stored: WrappedKey) -> bytes:
        """Opens a stream's key; raises `Shredded`, or `SealBroken` when no key of this ring wraps it."""
        if stored.wrapped is None:
            raise Shredded(f"{stream_id}: its key was shredded")
        try:
            nonce, sealed = stored.wrapped[:NONCE_BYTES], stored.wrapped[NONCE_BYTES:]
            return self._wrapping[stored.wrapping_key_id].decrypt(nonce, sealed, joined("key", stream_id))
        except (InvalidTag, KeyError):
            raise SealBroken(f"{stream_id}: its key is wrapped by another ENCRYPTION_KEY") from None


def wrapping_key_id(encryption_key: bytes) -> str:
    """Fingerprints an `ENCRYPTION_KEY`; 16 hex digits, from which nothing of the key can be told."""
    return derived(encryption_key, purpose=b"thirdkey wrapping key id").hex()[:16]


def derived(key: bytes, *, purpose: bytes) -> bytes:
    """Derives a key for one purpose (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def joined(*parts: str) -> bytes:
    """Writes a place, each part with its length before it, so that no two different places read alike."""
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
