"""Sealed fields: AES-256-GCM under a key per stream, each key wrapped by `ENCRYPTION_KEY`."""

import asyncio
import base64
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.api import SealBroken
from eventstore.keys import KEY_BYTES, NONCE_BYTES, KeyRing, KeyStore, derived, joined

ASIDE_BYTES = 65_536
"""What is longer is sealed and opened beside the event loop: ten megabytes take it tens of milliseconds."""


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
        return base64.b64encode(await self.seal_bytes(stream_id, event=event, field=field, plain=plain)).decode()

    async def seal_bytes(self, stream_id: str, *, event: str, field: str, plain: bytes) -> bytes:
        """Returns nonce and ciphertext; what is large is sealed on a thread."""
        cipher, nonce = AESGCM(await self._key(stream_id, create=True)), secrets.token_bytes(NONCE_BYTES)
        place = joined(stream_id, event, field)
        if len(plain) <= ASIDE_BYTES:
            return nonce + cipher.encrypt(nonce, plain, place)
        return await asyncio.to_thread(lambda: nonce + cipher.encrypt(nonce, plain, place))

    async def open(self, stream_id: str, *, event: str, field: str, sealed: str) -> bytes:
        """Returns the plain bytes; raises `SealBroken` when key, place or bytes are not those sealed, or `Shredded`."""
        try:
            data = base64.b64decode(sealed, validate=True)
        except ValueError:
            data = b""  # no seal at all, and told as a broken one, once it is known that there is a key
        return await self.open_bytes(stream_id, event=event, field=field, sealed=data)

    async def open_bytes(self, stream_id: str, *, event: str, field: str, sealed: bytes) -> bytes:
        """Returns the plain bytes, as `open` does; what is large is opened on a thread."""
        place, remembered = joined(stream_id, event, field), stream_id in self._cache
        try:
            return await _opened(await self._key(stream_id, create=False), sealed, place)
        except (InvalidTag, ValueError):
            pass
        # A key in memory may be wrong for what the database holds by now (a restored backup): read, and tried once.
        self._cache.pop(stream_id, None)
        try:
            if remembered:
                return await _opened(await self._key(stream_id, create=False), sealed, place)
        except (InvalidTag, ValueError):
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


async def _opened(key: bytes, data: bytes, place: bytes) -> bytes:
    nonce, sealed = data[:NONCE_BYTES], data[NONCE_BYTES:]
    if len(sealed) <= ASIDE_BYTES:
        return AESGCM(key).decrypt(nonce, sealed, place)
    return await asyncio.to_thread(AESGCM(key).decrypt, nonce, sealed, place)
