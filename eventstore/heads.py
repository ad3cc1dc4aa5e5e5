"""Signed heads: what is signed of a partition's end, how it is checked, and where heads are kept."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eventstore.api import Head, Lease
from eventstore.merkle import Frontier

DUTY = "head-signer"
"""The duty of signing: its lease for a partition is named `head-signer/<partition>`."""
_CONTEXT = b"thirdkey signed head 1"


class SignedHead(msgspec.Struct, frozen=True, kw_only=True):
    """A signature over the end of one partition at one moment."""

    partition: int
    position: int
    chain: bytes
    merkle_root: bytes
    """Over the leaves of positions 1 to `position`, as in RFC 6962."""
    signed_at: int
    """Microseconds since the Unix epoch, by the signer's clock; never before the head before."""
    key_id: str
    """The signer's Ed25519 public key in hex."""
    signature: bytes


class GrowingHead(msgspec.Struct, frozen=True, kw_only=True):
    """A signed head with what the next one grows from."""

    head: SignedHead
    frontier: Frontier


class HeadStore(Protocol):
    """Where signed heads lie, beside the leaves they cover. Heads are added, never changed or removed.

    Every method raises `LogUnavailable` without an answer.
    """

    async def add(self, new: GrowingHead, *, follows: int, lease: Lease) -> bool:
        """Adds a head; False when the lease is another's by now or the last head's position is not `follows` (or 0)."""

    async def newest(self) -> Mapping[int, GrowingHead]:
        """Reads the newest head of each partition that has one; a stored frontier that is none is read as empty."""

    async def after(self, partition: int, *, position: int, limit: int) -> Sequence[SignedHead]:
        """Reads heads of one partition in order of position."""

    async def covering(self, partition: int, positions: Sequence[int]) -> Sequence[SignedHead]:
        """Reads, for each position that is covered, the first head that covers it; each head once, in order."""

    async def keys(self) -> Sequence[str]:
        """Names every key that ever signed."""

    async def leaves(self, partition: int, *, after_position: int, limit: int) -> Sequence[bytes]:
        """Reads the leaves of one partition in order of position."""


def sign_head(key: Ed25519PrivateKey, end: Head, *, merkle_root: bytes, signed_at: int) -> SignedHead:
    """Signs the end of a partition."""
    unsigned = SignedHead(
        partition=end.partition,
        position=end.position,
        chain=end.chain,
        merkle_root=merkle_root,
        signed_at=signed_at,
        key_id=key_id_of(key.public_key()),
        signature=b"",
    )
    return msgspec.structs.replace(unsigned, signature=key.sign(signed_bytes(unsigned)))


def signed_bytes(head: SignedHead) -> bytes:
    """Writes what is signed.

    The words `thirdkey signed head 1`, then partition, position, chain, Merkle root and `signed_at`: each as its length
    in 4 bytes (big-endian) and its bytes; numbers in decimal ASCII.
    """
    fields = (
        _CONTEXT,
        b"%d" % head.partition,
        b"%d" % head.position,
        head.chain,
        head.merkle_root,
        b"%d" % head.signed_at,
    )
    return b"".join(len(field).to_bytes(4) + field for field in fields)


def signature_holds(head: SignedHead) -> bool:
    """Says whether the key that a head names signed it; whether that key is to be trusted is another question."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(head.key_id))
        key.verify(head.signature, signed_bytes(head))
    except (ValueError, InvalidSignature):
        return False
    return True


def key_id_of(key: Ed25519PublicKey) -> str:
    """Names a key: its 32 bytes in hex."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def duty_lease_name(partition: int) -> str:
    """Names the lease of the one who signs a partition's heads."""
    return f"{DUTY}/{partition}"
