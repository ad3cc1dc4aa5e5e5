"""Sealed fields: AES-256-GCM under a key per escrow, each key wrapped by `ENCRYPTION_KEY`."""

import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from eventstore.api import SealBroken
from eventstore.grouped import LogLimits, partition_of
from eventstore.postgres import Pool, fetch

KEY_BYTES = 32
NONCE_BYTES = 12


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """An escrow's key as it is stored; `wrapped` is None once the key was shredded."""

    wrapping_key_id: str
    wrapped: bytes | None


class KeyStore(Protocol):
    """Where wrapped keys lie."""

    async def create(self, stream_id: str, key: WrappedKey) -> None:
        """Stores a key unless the stream has one: whoever comes second reads the first one's."""

    async def read(self, stream_id: str) -> WrappedKey | None: ...

    async def wrapping_key_id(self) -> str | None:
        """Tells which `ENCRYPTION_KEY` wraps the keys here, or None while there are none."""


class KeyVault:
    """A `Vault` over a key store; the key of an escrow is made at its first `seal` or `tag`."""

    def __init__(self, keys: KeyStore, *, encryption_key: bytes, cache_max: int) -> None:
        if len(encryption_key) != KEY_BYTES:
            raise ValueError(f"the encryption key must be {KEY_BYTES} bytes")
        self._keys, self._wrapping = keys, AESGCM(encryption_key)
        self._wrapping_key_id = _derive(encryption_key, purpose=b"thirdkey wrapping key id").hex()[:16]
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_max = cache_max

    async def seal(self, stream_id: str, *, event: str, field: str, plain: bytes) -> str:
        """Returns base64 of nonce and ciphertext (AES-256-GCM, associated data stream, event, field)."""
        key = await self._key(stream_id, create=True)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plain, _joined(stream_id, event, field))
        return base64.b64encode(nonce + sealed).decode()

    async def open(self, stream_id: str, *, event: str, field: str, sealed: str) -> bytes:
        """Returns the plain bytes; raises `SealBroken` when key, place or bytes are not those sealed."""
        key = await self._key(stream_id, create=False)
        try:
            data = base64.b64decode(sealed, validate=True)
            return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _joined(stream_id, event, field))
        except (InvalidTag, ValueError, binascii.Error):
            raise SealBroken(f"{stream_id}: {event}.{field}") from None

    async def tag(self, stream_id: str, *, field: str, plain: bytes) -> str:
        """Returns a keyed fingerprint (32 hex digits): equal fields of one stream have equal tags."""
        key = _derive(await self._key(stream_id, create=True), purpose=b"thirdkey field tag")
        return hmac.digest(key, _joined(field) + plain, "sha256").hex()[:32]

    async def check(self) -> None:
        """Raises `SealBroken` when what is kept here was sealed under another `ENCRYPTION_KEY`."""
        if await self._keys.wrapping_key_id() not in (None, self._wrapping_key_id):
            raise SealBroken("what is kept in this database was sealed under another ENCRYPTION_KEY")

    async def _key(self, stream_id: str, *, create: bool) -> bytes:
        if stream_id not in self._cache:
            stored = await self._keys.read(stream_id)
            if stored is None and create:
                await self._keys.create(stream_id, self._wrap(stream_id, secrets.token_bytes(KEY_BYTES)))
                stored = await self._keys.read(stream_id)
            self._cache[stream_id] = self._unwrap(stream_id, stored)
        self._cache.move_to_end(stream_id)
        key = self._cache[stream_id]
        while len(self._cache) > self._cache_max:
            self._cache.popitem(last=False)
        return key

    def _wrap(self, stream_id: str, key: bytes) -> WrappedKey:
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = nonce + self._wrapping.encrypt(nonce, key, _joined("key", stream_id))
        return WrappedKey(wrapping_key_id=self._wrapping_key_id, wrapped=wrapped)

    def _unwrap(self, stream_id: str, stored: WrappedKey | None) -> bytes:
        if stored is None or stored.wrapped is None:
            raise SealBroken(f"{stream_id}: no key")
        try:
            nonce, sealed = stored.wrapped[:NONCE_BYTES], stored.wrapped[NONCE_BYTES:]
            return self._wrapping.decrypt(nonce, sealed, _joined("key", stream_id))
        except InvalidTag:
            raise SealBroken(f"{stream_id}: its key is wrapped by another ENCRYPTION_KEY") from None


class PostgresKeys:
    """A `KeyStore` on the table `sealed_keys`."""

    def __init__(self, pool: Pool, *, partitions: int, limits: LogLimits) -> None:
        self._pool, self._partitions, self._limits = pool, partitions, limits

    async def create(self, stream_id: str, key: WrappedKey) -> None:
        """Stores a key unless the stream has one; raises `LogUnavailable`."""
        place = (partition_of(stream_id, partitions=self._partitions), stream_id)
        await fetch(self._pool, "key_create", *place, key.wrapping_key_id, key.wrapped, limits=self._limits)

    async def read(self, stream_id: str) -> WrappedKey | None:
        """Reads a stream's key; raises `LogUnavailable`."""
        place = (partition_of(stream_id, partitions=self._partitions), stream_id)
        rows = await fetch(self._pool, "key_read", *place, limits=self._limits)
        return WrappedKey(**rows[0]) if rows else None

    async def wrapping_key_id(self) -> str | None:
        """Tells which `ENCRYPTION_KEY` wraps the keys here, None while there are none; raises `LogUnavailable`."""
        rows = await fetch(self._pool, "key_any", limits=self._limits)
        return str(rows[0]["wrapping_key_id"]) if rows else None


def _derive(key: bytes, *, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def _joined(*parts: str) -> bytes:
    """Length-prefixed, so that no two different places read alike."""
    return b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts)
