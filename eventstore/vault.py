"""Sealed fields: AES-256-GCM under a key per stream, each key wrapped by `ENCRYPTION_KEY`."""

import base64
import binascii
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.api import SealBroken
from eventstore.keys import KEY_BYTES, NONCE_BYTES, KeyRing, KeyStore, derived, joined


class KeyVault:
    """A `Vault` over a key store; the key of a stream is made at its first `seal` or `tag`.

    A key is used from memory for `cache_s` seconds and then read again: so long one that was shredded by another
    node still opens here. At most `cache_max` keys are kept.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        ring: KeyRing,
        cache_max: int,
        cache_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._ring = keys, ring
        self._cache: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # key, and until when; last used last
        self._cache_max, self._cache_s, self._monotonic = cache_max, cache_s, monotonic
        self._shreddings = 0

    async def seal(self, stream_id: str, *, event: str, field: str, plain: bytes) -> str:
        """Returns base64 of nonce and ciphertext (AES-256-GCM, associated data stream, event, field)."""
        key = await self._key(stream_id, create=True)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plain, joined(stream_id, event, field))
        return base64.b64encode(nonce + sealed).decode()

    async def open(self, stream_id: str, *, event: str, field: str, sealed: str) -> bytes:
        """Returns the plain bytes; raises `SealBroken` when key, place or bytes are not those sealed, or `Shredded`."""
        place, remembered = joined(stream_id, event, field), stream_id in self._cache
        try:
            return _opened(await self._key(stream_id, create=False), sealed, place)
        except (InvalidTag, ValueError, binascii.Error):
            pass
        # A key in memory may be wrong for what the database holds by now (a restored backup): read, and tried once.
        self._cache.pop(stream_id, None)
        try:
            if remembered:
                return _opened(await self._key(stream_id, create=False), sealed, place)
        except (InvalidTag, ValueError, binascii.Error):
            pass
        raise SealBroken(f"{stream_id}: {event}.{field}")

    async def tag(self, stream_id: str, *, field: str, plain: bytes) -> str:
        """Returns a keyed fingerprint (32 hex digits): equal fields of one stream have equal tags."""
        key = derived(await self._key(stream_id, create=True), purpose=b"thirdkey field tag")
        return hmac.digest(key, joined(field) + plain, "sha256").hex()[:32]

    async def check(self) -> None:
        """Raises `SealBroken` when a key is kept here that no given `ENCRYPTION_KEY` wraps."""
        kept = sorted((await self._keys.wrapped_by()).items())
        foreign = [f"{count} by the key with fingerprint {of}" for of, count in kept if not self._ring.knows(of)]
        if foreign:
            told = ", ".join(foreign)
            raise SealBroken(f"keys in this database are wrapped by another ENCRYPTION_KEY than those given: {told}")

    async def shred(self) -> Sequence[str]:
        """Blanks the key of every stream that has a `key_shredded` event; returns those that still had one."""
        gone = await self._keys.shred()
        self._shreddings += bool(gone)
        for stream_id in gone:
            self._cache.pop(stream_id, None)
        return gone

    async def _key(self, stream_id: str, *, create: bool) -> bytes:
        key, until = self._cache.get(stream_id, (b"", 0.0))
        if self._monotonic() >= until:
            before = self._shreddings
            key, until = await self._read(stream_id, create=create), self._monotonic() + self._cache_s
            if before != self._shreddings:
                return key  # it may have been read a moment before it was shredded: not kept
        self._cache[stream_id] = key, until
        self._cache.move_to_end(stream_id)
        while len(self._cache) > self._cache_max:
            self._cache.popitem(last=False)
        return key

    async def _read(self, stream_id: str, *, create: bool) -> bytes:
        self._cache.pop(stream_id, None)
        stored = await self._keys.read(stream_id)
        if stored is None and create:
            await self._keys.create(stream_id, self._ring.wrap(stream_id, secrets.token_bytes(KEY_BYTES)))
            stored = await self._keys.read(stream_id)
        if stored is None:
            raise SealBroken(f"{stream_id}: no key")
        return self._ring.unwrap(stream_id, stored)


def _opened(key: bytes, sealed: str, place: bytes) -> bytes:
    data = base64.b64decode(sealed, validate=True)
    return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], place)
