"""The sealed backup of a hosted wallet: what is in the box, who can open it, and what a keys file looks like whole."""

import base64
import binascii
from typing import Literal

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from domain.ids import Address, EscrowId, Sealed
from domain.roles import Role

KEYS_FILE_BYTES_MAX = 32_768
"""That of a 2-of-3 wallet has 2,260 (0.18.0.0)."""
_IV_BYTES, _VARINT_BYTES_MAX = 8, 5


class WalletBackup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that brings a hosted wallet back, here or by hand; never its cache, in which nonces are."""

    format: Literal["thirdkey wallet backup 1"] = "thirdkey wallet backup 1"
    escrow_id: EscrowId
    role: Role
    network: str
    address: Address
    height: int
    """Of the chain when the address was made: nothing was paid to it below."""
    file: str
    password: str
    identity_seed: str
    keys_file: bytes

    def __repr__(self) -> str:
        return "WalletBackup(…)"


class BackupUnreadable(Exception):
    """A box does not open with this key, or holds no backup."""


def seal_backup(backup: WalletBackup, *, key: str) -> Sealed:
    """Seals a backup to a public key (64 hex digits), whose private half alone opens it; base64."""
    box = SealedBox(PublicKey(bytes.fromhex(key))).encrypt(msgspec.json.encode(backup))
    return Sealed(base64.b64encode(box).decode())


def open_backup(box: str, *, private_key: bytes) -> WalletBackup:
    """Opens a box with the private key (32 bytes); raises `BackupUnreadable`."""
    try:
        plain = SealedBox(PrivateKey(private_key)).decrypt(base64.b64decode(box, validate=True))
        backup = msgspec.json.decode(plain, type=WalletBackup)
    except (CryptoError, binascii.Error, msgspec.DecodeError, ValueError):
        raise BackupUnreadable("the box does not open with this key") from None
    if not is_whole(backup.keys_file):
        raise BackupUnreadable("the keys file in the box is not whole")
    return backup


def is_whole(keys_file: bytes) -> bool:
    """Says whether a `.keys` file is there to its last byte, as far as that shows without its password.

    It begins with 8 bytes of IV and a varint that says how many encrypted bytes follow (0.18.0.0).
    """
    head = keys_file[_IV_BYTES : _IV_BYTES + _VARINT_BYTES_MAX]
    length = 0
    for place, byte in enumerate(head):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return len(keys_file) == _IV_BYTES + place + 1 + length and length > 0
    return False
