"""The arithmetic by which Monero's outputs are recognised: all of this package's cryptography is in this module.

Notation: G is the base point, l its order, `a` the secret view key, B the public spend key, R a transaction's public
key, D = 8aR the secret that sender and receiver share, i the index of an output. Points and scalars are 32 bytes,
little endian. Formulae are monerod's at v0.18 (its crypto.cpp, rctOps.cpp), checked against real wallets in
`tests/real/test_scanner.py`.

libsodium is stricter than Monero: its multiplication refuses points with a torsion component, points of small order,
and results that are the identity. Each of these is legal on chain and must neither hide a deposit nor stop a scan,
hence `clear_cofactor` before any multiplication and the special cases below. A hard fork that changes addresses or
view tags changes this module only.
"""

from typing import Final

from Cryptodome.Hash import keccak as cryptodome_keccak
from nacl import bindings as sodium
from nacl.exceptions import CryptoError

POINT_BYTES: Final = 32
AMOUNT_BYTES: Final = 8
IDENTITY: Final = bytes([1]) + bytes(31)
ZERO_SCALAR: Final = bytes(32)
FIELD_PRIME: Final = 2**255 - 19
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493


def public_view_key(view_key: str) -> str:
    """Returns a*G as 64 hex digits, to be compared with the address that a seat reported.

    Raises `ValueError` when `view_key` is not 64 hex digits of a scalar between 1 and l - 1; the message never
    contains the key.
    """
    return sodium.crypto_scalarmult_ed25519_base_noclamp(read_scalar(view_key)).hex()


def read_scalar(text: str) -> bytes:
    """Decodes a secret scalar from 64 hex digits; raises `ValueError` (without the digits) unless 0 < scalar < l."""
    scalar = _unhex(text)
    if len(scalar) != POINT_BYTES or not 0 < int.from_bytes(scalar, "little") < GROUP_ORDER:
        raise ValueError("not a secret key: 64 hex digits of a scalar between 1 and l - 1 are expected")
    return scalar


def clear_cofactor(point: bytes) -> bytes | None:
    """Returns 8 times the point, or None where the bytes are no point.

    By three additions, which accept every point of the curve: the result has no torsion left, so that the
    multiplication after it does not refuse what Monero accepts. Done once a transaction for all watched keys.
    """
    if not _is_canonical(point):
        return None
    try:
        for _ in range(3):
            point = sodium.crypto_core_ed25519_add(point, point)
    except CryptoError:
        return None
    return point


def shared_secret(view_key: bytes, cleared: bytes) -> bytes:
    """Returns D = a * (8R), where `cleared` is 8R.

    8R is the identity for an R of small order; anyone can make such an output, and the wallet counts it.
    """
    return IDENTITY if cleared == IDENTITY else sodium.crypto_scalarmult_ed25519_noclamp(view_key, cleared)


def view_tag(secret: bytes, index: int) -> int:
    """Returns the byte by which 255 of 256 foreign outputs are passed over without any point arithmetic."""
    return keccak(b"view_tag" + secret + varint(index))[0]


def output_scalar(secret: bytes, index: int) -> bytes:
    """Returns s = Keccak(D || varint(i)) mod l."""
    return _hash_to_scalar(secret + varint(index))


def one_time_key(scalar: bytes, spend_key: bytes) -> bytes | None:
    """Returns P = s*G + B, or None where there is no such point (B is no point of the curve)."""
    try:
        return sodium.crypto_core_ed25519_add(_times_base(scalar), spend_key)
    except CryptoError:
        return None


def unmask_amount(scalar: bytes, masked: bytes) -> int:
    """Returns the amount that the sender claims, in atomic units: only `commits_to` shows whether it is true."""
    pad = keccak(b"amount" + scalar)[:AMOUNT_BYTES]
    return int.from_bytes(masked, "little") ^ int.from_bytes(pad, "little")


def commits_to(commitment: bytes, *, scalar: bytes, amount: int) -> bool:
    """Tells whether the commitment on chain is y*G + amount*H, y being the mask that belongs to the output."""
    mask = _times_base(_hash_to_scalar(b"commitment_mask" + scalar))
    if amount == 0:  # libsodium refuses 0*H
        return mask == commitment
    value = sodium.crypto_scalarmult_ed25519_noclamp(amount.to_bytes(32, "little"), VALUE_BASE)
    return sodium.crypto_core_ed25519_add(mask, value) == commitment


def keccak(data: bytes) -> bytes:
    """Hashes with Keccak-256 as it was before SHA-3 was fixed; `hashlib.sha3_256` pads otherwise and differs."""
    return cryptodome_keccak.new(digest_bits=256, data=data).digest()


def varint(number: int) -> bytes:
    """Encodes a number in groups of seven bits, the lowest first, the top bit set in all but the last."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _hash_to_scalar(data: bytes) -> bytes:
    return sodium.crypto_core_ed25519_scalar_reduce(keccak(data) + bytes(32))


def _times_base(scalar: bytes) -> bytes:
    """Multiplies G; libsodium refuses the scalar 0, which a hash gives with a chance of 2**-252."""
    return IDENTITY if scalar == ZERO_SCALAR else sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)


def _is_canonical(point: bytes) -> bool:
    """Tells whether the bytes are the one encoding Monero reads: y below the prime, and no sign on x = 0.

    libsodium's addition takes the others as well. With such an R a sender could make a deposit that this scanner
    counts and that no wallet can spend.
    """
    if len(point) != POINT_BYTES:
        return False
    number = int.from_bytes(point, "little")
    y, negative = number & (2**255 - 1), number >> 255
    return y < FIELD_PRIME and not (negative and y in (1, FIELD_PRIME - 1))


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _value_base() -> bytes:
    """Computes H, the base of amounts: the point whose encoding is Keccak(G), times 8."""
    point = clear_cofactor(keccak(sodium.crypto_scalarmult_ed25519_base_noclamp(bytes([1]) + bytes(31))))
    assert point is not None
    return point


VALUE_BASE: Final = _value_base()
"""H, known by nobody as a multiple of G."""
