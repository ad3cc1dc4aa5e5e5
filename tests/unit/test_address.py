"""Addresses, on those that real wallets gave (recorded, regtest and testnet, 0.18.0.0)."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nacl import bindings

from schemas.address import AddressKind, BadAddress, ParsedAddress, decode_address, encode_address, parse_address

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "monero-rpc"
STANDARD = "427jeetPK7BEthf8tEWuj9eidSaMndSW8UzvJP4KPzrEYt9iiZuKQ6MYz8JR3epbNWU48eMHTrda4H7bQm5ar5eGAM2isi4"
SUBADDRESS = "83P5QGvnLH1GKJR4mk1tX1JXiUKvVv9n2UJFFWktYw5kcfZ5ySYvuC29CEkXyv3ABAB3C8rLpzCxzD86bPNdsEPkBadqWi6"
TESTNET = "9tZiajCfy4XE7cBUnioNVAbP8iTBaXyawE6UhXGLQw7pHBNGc5A5WkWTULg6nzectohr2cdDLfx9oLqMKTkCUXRWQ82CM5t"
PLACEHOLDER = "41fJjQDhryD11111111111111111111111111111111116i3BhvdiTubP1XxNZe4LmSF9Xp3NniUJbnWVcFZ5FeFBux2aUv"

keys = st.integers(1, 2**252 - 1).map(
    lambda secret: bindings.crypto_scalarmult_ed25519_base_noclamp(secret.to_bytes(32, "little")).hex()
)


def refusal(text, network="mainnet"):
    with pytest.raises(BadAddress) as caught:
        parse_address(text, network=network)
    return caught.value.code


def test_every_recorded_address_is_read_and_written_back():
    texts = {
        text
        for file in RECORDINGS.glob("*.jsonl")
        for text in re.findall(r'"address": ?"([1-9A-HJ-NP-Za-km-z]{95})"', file.read_text())
    }
    assert len(texts) > 10
    assert all(encode_address(decode_address(text)) == text for text in texts)


def test_a_standard_address_and_a_subaddress_are_told_apart():
    assert parse_address(STANDARD, network="mainnet").kind is AddressKind.STANDARD
    assert parse_address(SUBADDRESS, network="mainnet").kind is AddressKind.SUBADDRESS


def test_a_private_chain_has_the_addresses_of_mainnet():
    parsed = parse_address(STANDARD, network="regtest")
    assert parsed.network == "regtest" and encode_address(parsed) == STANDARD


def test_an_address_of_another_network_is_refused():
    assert refusal(TESTNET) == "address_network"
    assert refusal(STANDARD, "stagenet") == "address_network"
    assert parse_address(TESTNET, network="testnet").kind is AddressKind.STANDARD


def test_the_address_of_an_unfinished_wallet_is_refused():
    assert refusal(PLACEHOLDER) == "address_placeholder"


def test_an_integrated_address_is_refused():
    parsed = decode_address(STANDARD)
    integrated = encode_address(
        ParsedAddress(
            kind=AddressKind.INTEGRATED,
            network="mainnet",
            spend_key=parsed.spend_key,
            view_key=parsed.view_key,
            payment_id="ab" * 8,
        )
    )
    assert len(integrated) == 106 and refusal(integrated) == "address_integrated"


@pytest.mark.parametrize("text", ["", "4", "x" * 5000, STANDARD[:-1], STANDARD + "1", "0" + STANDARD[1:], "é" * 95])
def test_what_is_no_address_is_refused(text):
    assert refusal(text) in ("address_malformed", "address_checksum")


@given(st.integers(0, 94), st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"))
def test_one_wrong_character_is_always_noticed(place, character):
    spoilt = STANDARD[:place] + character + STANDARD[place + 1 :]
    if spoilt != STANDARD:
        assert refusal(spoilt) in ("address_malformed", "address_checksum", "address_network")


@given(keys, keys, st.sampled_from(["mainnet", "stagenet", "testnet", "regtest"]), st.booleans())
def test_what_is_written_is_read_back(spend_key, view_key, network, sub):
    kind = AddressKind.SUBADDRESS if sub else AddressKind.STANDARD
    parsed = ParsedAddress(kind=kind, network=network, spend_key=spend_key, view_key=view_key)
    assert parse_address(encode_address(parsed), network=network) == parsed


@given(st.binary(min_size=32, max_size=32).map(bytes.hex), keys)
def test_keys_that_no_secret_leads_to_are_refused(spend_key, view_key):
    assume(not bindings.crypto_core_ed25519_is_valid_point(bytes.fromhex(spend_key)))
    assume(spend_key != "01" + "00" * 31)  # the placeholder has a code of its own
    parsed = ParsedAddress(kind=AddressKind.STANDARD, network="regtest", spend_key=spend_key, view_key=view_key)
    assert refusal(encode_address(parsed), "regtest") == "address_malformed"


@given(st.text(max_size=110))
def test_no_text_breaks_the_reader(text):
    with pytest.raises(BadAddress):
        parse_address(text, network="mainnet")
