"""Monero addresses: base58 in blocks, a network byte, two public keys, and a Keccak checksum."""

from enum import StrEnum
from typing import Literal

import msgspec
from Cryptodome.Hash import keccak
from nacl import bindings

from domain.ids import Address

Network = Literal["mainnet", "stagenet", "testnet", "regtest"]


class AddressKind(StrEnum):
    """What an address stands for."""

    STANDARD = "standard"
    SUBADDRESS = "subaddress"
    INTEGRATED = "integrated"


class BadAddress(Exception):
    """A text that is no address we pay, with one of the codes

    `address_malformed` (not base58 of the right size, of no known kind, or with keys that no secret leads to),
    `address_checksum`, `address_network` (of another network), `address_integrated` (carries a payment id),
    `address_placeholder` (nobody holds its key).
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ParsedAddress(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an address; keys are 64 hex digits."""

    kind: AddressKind
    network: Network
    spend_key: str
    view_key: str
    payment_id: str = ""
    """16 hex digits, only in an integrated address."""


def parse_address(text: str, *, network: Network) -> ParsedAddress:
    """Reads an address of this network; raises `BadAddress`, also for an integrated address and a placeholder.

    A private chain (regtest) has mainnet's addresses.
    """
    parsed = decode_address(text)
    if parsed.network != _form(network):
        raise BadAddress("address_network")
    if parsed.kind is AddressKind.INTEGRATED:
        raise BadAddress("address_integrated")
    if parsed.spend_key == _NOBODY:
        raise BadAddress("address_placeholder")
    if not all(map(_is_key, (parsed.spend_key, parsed.view_key))):
        # Wallets take such an address and then cannot build a transaction to it (-4, seen): the payout would be stuck.
        raise BadAddress("address_malformed")
    return msgspec.structs.replace(parsed, network=network)


def decode_address(text: str) -> ParsedAddress:
    """Reads an address of any network and kind, placeholders included; raises `BadAddress`."""
    data = _unbase58(text)
    body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if _keccak(body)[:_CHECKSUM] != checksum:
        raise BadAddress("address_checksum")
    network, kind = _KINDS.get(body[0], (None, None))
    if network is None or kind is None or len(body) != _SIZE[kind]:
        raise BadAddress("address_malformed")
    spend_key, view_key, payment_id = body[1:33].hex(), body[33:65].hex(), body[65:].hex()
    return ParsedAddress(kind=kind, network=network, spend_key=spend_key, view_key=view_key, payment_id=payment_id)


def encode_address(parsed: ParsedAddress) -> Address:
    """Writes an address."""
    prefix = _PREFIXES[(_form(parsed.network), parsed.kind)]
    body = bytes([prefix]) + bytes.fromhex(parsed.spend_key + parsed.view_key + parsed.payment_id)
    assert len(body) == _SIZE[parsed.kind], "keys are 64 hex digits, a payment id 16"
    return Address(_base58(body + _keccak(body)[:_CHECKSUM]))


_PREFIXES: dict[tuple[Network, AddressKind], int] = {
    ("mainnet", AddressKind.STANDARD): 18,
    ("mainnet", AddressKind.INTEGRATED): 19,
    ("mainnet", AddressKind.SUBADDRESS): 42,
    ("testnet", AddressKind.STANDARD): 53,
    ("testnet", AddressKind.INTEGRATED): 54,
    ("testnet", AddressKind.SUBADDRESS): 63,
    ("stagenet", AddressKind.STANDARD): 24,
    ("stagenet", AddressKind.INTEGRATED): 25,
    ("stagenet", AddressKind.SUBADDRESS): 36,
}
_KINDS = {prefix: names for names, prefix in _PREFIXES.items()}
_SIZE = {AddressKind.STANDARD: 65, AddressKind.SUBADDRESS: 65, AddressKind.INTEGRATED: 73}
_CHECKSUM = 4

# The unfinished wallet's address has the curve's neutral element as its spend key, hence its row of 1s: 41fJjQDhryD111…
_NOBODY = "01" + "00" * 31

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {character: value for value, character in enumerate(_ALPHABET)}
_BLOCK, _BLOCK_TEXT = 8, 11
_TEXT_SIZE = (0, 2, 3, 5, 6, 7, 9, 10, 11)
"""Characters for a block of so many bytes."""
_TEXT_MAX = 106
"""An integrated address; anything longer is not looked at."""


def _form(network: Network) -> Network:
    return "mainnet" if network == "regtest" else network


def _is_key(public: str) -> bool:
    """Says whether 64 hex digits are a point of the curve's main subgroup."""
    return bool(bindings.crypto_core_ed25519_is_valid_point(bytes.fromhex(public)))


def _keccak(data: bytes) -> bytes:
    # Keccak-256 as Monero has it, with the padding from before it became SHA-3.
    return keccak.new(digest_bits=256, data=data).digest()


def _base58(data: bytes) -> str:
    blocks = (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))
    return "".join(_base58_block(block) for block in blocks)


def _base58_block(block: bytes) -> str:
    number, text = int.from_bytes(block, "big"), ""
    for _ in range(_TEXT_SIZE[len(block)]):
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return text


def _unbase58(text: str) -> bytes:
    if not 0 < len(text) <= _TEXT_MAX:
        raise BadAddress("address_malformed")
    blocks = (text[start : start + _BLOCK_TEXT] for start in range(0, len(text), _BLOCK_TEXT))
    data = b"".join(_unbase58_block(block) for block in blocks)
    if len(data) <= _CHECKSUM:
        raise BadAddress("address_malformed")
    return data


def _unbase58_block(block: str) -> bytes:
    try:
        size = _TEXT_SIZE.index(len(block))
        number = 0
        for character in block:
            number = number * 58 + _DIGIT[character]
        return number.to_bytes(size, "big")
    except (ValueError, KeyError, OverflowError):
        raise BadAddress("address_malformed") from None
