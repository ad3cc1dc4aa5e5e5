"""What simulated wallets hand each other: shaped like the recorded messages, spoilt by any change."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from actors.simulation.chain import digest
from domain.ids import Address, OneTimeKey
from domain.money import Atomic

_T = TypeVar("_T", bound=msgspec.Struct)

PREFIX_LENGTH = 13
EXPORT_MAGIC = b"Monero multisig export\x01".hex()
TX_SET_MAGIC = b"Monero multisig unsigned tx set\x01".hex()
_MAC = 64


class BadMessage(Exception):
    """A message that cannot be read, with what the wallet would say of it."""


class KexMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the key exchange; `round` 1 is prepare's, 2 make's, 3 the first exchange's, 4 a left-over."""

    round: int
    signer: str
    group: str = ""
    salt: str

    def encode(self) -> str:
        """Writes it as long as the real one: 189 characters in round 1, else 236 (recorded)."""
        prefix, length = ("MultisigxV2R1", 189) if self.round == 1 else ("MultisigxV2Rn", 236)
        text = f"{prefix}{self.round}{self.signer:32.32}{self.group:32.32}{self.salt:16.16}"
        return text + (digest(text) * 3)[: length - len(text)]


def read_kex(text: str) -> KexMessage:
    """Reads a message of the key exchange; raises `BadMessage`."""
    if len(text) < PREFIX_LENGTH or not text.startswith(("MultisigxV2R1", "MultisigxV2Rn")):
        raise BadMessage("basic_string::substr")
    body = text[PREFIX_LENGTH:]
    if not body[:1].isdigit():
        raise BadMessage("Multisig kex msg decoding error.")
    signer, group, salt = body[1:33], body[33:65].strip(), body[65:81]
    message = KexMessage(round=int(body[0]), signer=signer, group=group, salt=salt)
    if message.encode() != text:
        raise BadMessage("Multisig kex msg signature invalid.")
    return message


class ExportMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One seat's promise of nonces, one for each output it knows."""

    group: str
    signer: str
    nonces: Mapping[OneTimeKey, str]


class SetMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction set with the signatures it has so far."""

    group: str
    salt: str
    inputs: tuple[OneTimeKey, ...]
    amount_in: Atomic
    destinations: tuple[tuple[Address, Atomic], ...]
    change: Atomic
    change_address: str
    fee: Atomic
    unlock_time: int = 0
    payment_id: str = ""
    transactions: int = 1
    """How many there are of it; a real wallet makes several where one would be too large."""
    nonces: Mapping[str, tuple[str, ...]]
    """For each signer who can complete it, one nonce an input."""
    signers: tuple[str, ...]

    @property
    def core(self) -> str:
        """What a nonce is bound to: everything but who has signed."""
        return digest(
            f"{self.group}/{self.salt}/{self.inputs}/{self.destinations}/{self.change}/{self.fee}/{self.unlock_time}"
        )


def seal(magic: str, message: msgspec.Struct) -> str:
    """Writes a message as hex behind its magic, with a checksum over all."""
    body = magic + msgspec.msgpack.encode(message).hex()
    return body + digest(body)


def unseal(magic: str, text: str, kind: type[_T]) -> _T:
    """Reads a message; raises `BadMessage` for another magic and for any change."""
    if not text.startswith(magic):
        raise BadMessage("Bad multisig info file magic in ")
    body, mac = text[:-_MAC], text[-_MAC:]
    if digest(body) != mac:
        raise BadMessage("Failed to authenticate ciphertext")
    return msgspec.msgpack.decode(bytes.fromhex(body[len(magic) :]), type=kind)
