"""Sealed evidence in IPFS, over the RPC that Kubo and its kin speak; a node is believed only what hashes right."""

import contextlib
import io
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from domain.ids import Cid, EscrowId
from eventstore.cid import CID_CHARACTERS
from eventstore.evidence import EvidenceStore, EvidenceUnavailable, EvidenceWrong, checked, named

ADDING: Final[Mapping[str, str]] = {
    # Each of these changes the name of the bytes, and nodes differ in what they take for granted.
    "chunker": "size-262144",
    "raw-leaves": "true",
    "cid-version": "1",
    "cid-base": "base32",
    "hash": "sha2-256",
    "trickle": "false",
    "wrap-with-directory": "false",
    "progress": "false",
    # Pinned only once its name is right.
    "pin": "false",
}
ANSWER_BYTES_MAX: Final = 65_536
"""Of what a node says about a file or a pin."""


class IpfsLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the conversation with a node."""

    connect_s: float = 5.0
    call_s: float = 30.0
    """One call, from its beginning to the last byte of its answer."""
    silent_s: float = 10.0
    """An answer of which nothing came for so long is given up."""
    file_bytes_max: int = 32 << 20
    """A file that is longer than whatever was added is somebody else's."""


class _Added(msgspec.Struct, frozen=True):
    """What a node answers to a file; the rest of it is left alone."""

    hash: str = msgspec.field(name="Hash")


class IpfsEvidence:
    """An `EvidenceStore` on one node; every byte it hands out is checked by recomputing its name."""

    def __init__(self, api_url: str, *, limits: IpfsLimits | None = None) -> None:
        self._url, self._limits = api_url.rstrip("/"), limits or IpfsLimits()
        self._session: aiohttp.ClientSession | None = None

    async def add(self, escrow_id: EscrowId, sealed: bytes) -> Cid:
        """Adds a file, compares its name with ours, and pins it: until then the node is free to forget it."""
        cid = await named(sealed)
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(sealed), filename="evidence", content_type="application/octet-stream")
        answer = await self._call("add", dict(ADDING), most=ANSWER_BYTES_MAX, form=form)
        if _named_by(answer) != cid:
            raise EvidenceWrong("the node names the bytes otherwise")
        await self._call("pin/add", {"arg": cid, "recursive": "true"}, most=ANSWER_BYTES_MAX)
        return cid

    async def get(self, escrow_id: EscrowId, cid: Cid) -> bytes:
        """Reads a file and checks it by its name."""
        if len(cid) != CID_CHARACTERS or not cid.isalnum():
            raise EvidenceWrong("this names nothing")
        return await checked(await self._call("cat", {"arg": cid}, most=self._limits.file_bytes_max), cid)

    async def aclose(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _call(
        self, method: str, query: Mapping[str, str], *, most: int, form: aiohttp.FormData | None = None
    ) -> bytes:
        """Returns a method's answer; raises `EvidenceUnavailable`, and `EvidenceWrong` above `most` bytes."""
        try:
            async with self._opened().post(
                f"{self._url}/api/v0/{method}", params=query, data=form, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise EvidenceUnavailable(f"{method} was answered with {answer.status}")
                return await _read(answer, most=most)
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            raise EvidenceUnavailable(f"{method}: {type(failure).__name__}") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self._limits
            timeout = aiohttp.ClientTimeout(total=limits.call_s, connect=limits.connect_s, sock_read=limits.silent_s)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self._session


async def _read(answer: aiohttp.ClientResponse, *, most: int) -> bytes:
    read = bytearray()
    async for chunk in answer.content.iter_any():
        read += chunk
        if len(read) > most:
            raise EvidenceWrong("an answer longer than what was asked for")
    return bytes(read)


def _named_by(answer: bytes) -> str:
    """Reads the name of a file from the last line that is not empty; nothing where there is none."""
    lines = answer.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1], type=_Added).hash if lines else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


class EvidenceMoved:
    """Adds evidence to one store and finds it in another as well: what was kept before the change stays to be seen."""

    def __init__(self, store: EvidenceStore, *, before: EvidenceStore) -> None:
        self._store, self._before = store, before

    async def add(self, escrow_id: EscrowId, sealed: bytes) -> Cid:
        """Keeps bytes in the new store."""
        return await self._store.add(escrow_id, sealed)

    async def get(self, escrow_id: EscrowId, cid: Cid) -> bytes:
        """Returns bytes from the old store if it has them, which is next door, else from the new one."""
        with contextlib.suppress(EvidenceUnavailable):
            return await self._before.get(escrow_id, cid)
        return await self._store.get(escrow_id, cid)
