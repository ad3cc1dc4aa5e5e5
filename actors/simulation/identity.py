"""The keys of simulated wallets: real points and a real view key, so that what checks an address can check theirs."""

from functools import lru_cache

import msgspec
from nacl import bindings

from actors.simulation.chain import digest
from domain.ids import Address
from schemas.address import AddressKind, ParsedAddress, decode_address, encode_address

_NEUTRAL = "01" + "00" * 31


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One address with its view key, and the placeholder that an unfinished wallet shows instead."""

    address: Address
    placeholder: Address
    view_key: str


@lru_cache(maxsize=4096)
def identity_of(name: str) -> Identity:
    """Derives the address of a wallet or group."""
    view_key = _scalar(f"view/{name}")
    view_point, spend_point = _point(view_key), _point(_scalar(f"spend/{name}"))
    return Identity(
        address=_address(spend_point, view_point), placeholder=_address(_NEUTRAL, view_point), view_key=view_key
    )


@lru_cache(maxsize=4096)
def subaddress_of(name: str) -> Address:
    """Derives a subaddress of somebody outside, such as a payout address."""
    spend_point, view_point = _point(_scalar(f"spend/{name}")), _point(_scalar(f"view/{name}"))
    return _address(spend_point, view_point, kind=AddressKind.SUBADDRESS)


@lru_cache(maxsize=4096)
def views(address: str, view_key: str) -> bool:
    """Says whether a view key belongs to an address."""
    return _point(view_key) == decode_address(address).view_key


@lru_cache(maxsize=4096)
def is_subaddress(address: str) -> bool:
    """Says whether an address is a subaddress; raises `BadAddress`."""
    return decode_address(address).kind is AddressKind.SUBADDRESS


def _scalar(text: str) -> str:
    wide = bytes.fromhex(digest(text) + digest(text + "/2"))
    return bindings.crypto_core_ed25519_scalar_reduce(wide).hex()


def _point(scalar: str) -> str:
    return bindings.crypto_scalarmult_ed25519_base_noclamp(bytes.fromhex(scalar)).hex()


def _address(spend_key: str, view_key: str, *, kind: AddressKind = AddressKind.STANDARD) -> Address:
    return encode_address(ParsedAddress(kind=kind, network="mainnet", spend_key=spend_key, view_key=view_key))
