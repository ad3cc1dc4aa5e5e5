"""Recognising outputs: recorded transactions of a private chain against what their wallet listed, then hostile ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings as sodium

from actors.scan import points
from actors.scan.extra import ADDITIONAL_KEYS_MAX, PUBLIC_KEYS_MAX, read_extra
from actors.scan.transactions import FalseAmount, Found, Transaction, Unreadable, WatchKey, read_transaction, scan
from domain.ids import TxHash
from domain.money import ATOMIC_MAX
from tests.scan_world import Receiver, payment, times_base

FIXTURES = Path(__file__).parent.parent / "fixtures" / "scan"
ORDER_EIGHT = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
RECORDED = ("coinbase", "one_output", "two_outputs", "with_subaddress", "locked_by_height", "spend")
ALICE, BOB = Receiver("alice"), Receiver("bob")


def recorded(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def recorded_key() -> WatchKey:
    keys = recorded("keys")
    return WatchKey(bytes.fromhex(keys["view_key"]), bytes.fromhex(keys["public_spend_key"]))


def read(body: dict[str, Any]) -> Transaction:
    transaction = read_transaction(TxHash("any"), body)
    assert isinstance(transaction, Transaction)
    return transaction


def amounts(body: dict[str, Any], receiver: Receiver = ALICE) -> list[int | None]:
    found = scan(read(body), receiver.watch_key)
    return [output.amount if isinstance(output, Found) else None for output in found]


@pytest.mark.parametrize("name", RECORDED)
def test_of_a_recorded_transaction_exactly_the_outputs_are_found_that_its_wallet_listed(name):
    record = recorded(name)
    expected = [Found(output["one_time_key"], output["amount"]) for output in record["wallet_lists"]]
    assert expected
    assert list(scan(read(record["body"]), recorded_key())) == expected


@pytest.mark.parametrize("name", RECORDED)
def test_of_a_recorded_transaction_nothing_belongs_to_a_foreign_key(name):
    assert scan(read(recorded(name)["body"]), ALICE.watch_key) == ()


def test_the_key_images_of_the_inputs_are_those_the_spending_wallet_had_listed():
    listed = {output["key_image"] for name in RECORDED for output in recorded(name)["wallet_lists"]}
    spent = read(recorded("spend")["body"]).key_images
    assert spent
    assert set(spent) <= listed


def test_the_unlock_time_is_read():
    assert read(recorded("locked_by_height")["body"]).unlock_time == 157


def test_the_public_view_key_of_a_recorded_wallet_is_the_one_in_its_address():
    keys = recorded("keys")
    assert points.public_view_key(keys["view_key"]) == keys["public_view_key"]


@pytest.mark.parametrize(
    "text",
    ["", "00" * 32, "zz" * 32, "01" * 31, "01" * 33, points.GROUP_ORDER.to_bytes(32, "little").hex()],
)
def test_what_is_no_secret_key_is_refused_without_being_repeated_in_the_error(text):
    with pytest.raises(ValueError, match="not a secret key") as refusal:
        points.public_view_key(text)
    assert not text or text not in str(refusal.value)


def test_the_base_of_amounts_is_the_one_monero_uses():
    assert points.VALUE_BASE.hex()[:8] == "8b655970"
    assert points.VALUE_BASE.hex()[-4:] == "1f94"


@pytest.mark.parametrize("bit", range(64))
def test_an_amount_that_is_off_by_any_one_bit_is_not_counted(bit):
    body = payment(ALICE, 2 * 10**12, nonce="lie")
    masked = int.from_bytes(bytes.fromhex(body["rct_signatures"]["ecdhInfo"][0]["amount"]), "little") ^ 1 << bit
    body["rct_signatures"]["ecdhInfo"][0]["amount"] = masked.to_bytes(8, "little").hex()
    (found,) = scan(read(body), ALICE.watch_key)
    assert isinstance(found, FalseAmount)


def test_a_recorded_deposit_with_a_changed_commitment_is_not_counted():
    body = recorded("one_output")["body"]
    body["rct_signatures"]["outPk"] = list(reversed(body["rct_signatures"]["outPk"]))
    (found,) = scan(read(body), recorded_key())
    assert isinstance(found, FalseAmount)


def test_a_proven_amount_that_no_ledger_can_hold_is_not_counted():
    assert amounts(payment(ALICE, ATOMIC_MAX, ATOMIC_MAX + 1, nonce="large")) == [ATOMIC_MAX, None]


def test_an_amount_masked_as_nothing_is_a_lie_like_any_other():
    body, nothing = payment(ALICE, 7, nonce="masked"), payment(ALICE, 0, nonce="masked")
    body["rct_signatures"]["ecdhInfo"] = nothing["rct_signatures"]["ecdhInfo"]
    assert amounts(body) == [None]


def test_an_output_with_the_wrong_view_tag_is_not_counted_because_no_wallet_sees_it():
    body = payment(ALICE, 7, nonce="tagged")
    tagged = body["vout"][0]["target"]["tagged_key"]
    tagged["view_tag"] = f"{int(tagged['view_tag'], 16) ^ 1:02x}"
    assert amounts(body) == []


def test_an_amount_of_another_size_than_eight_bytes_is_not_read():
    body = payment(ALICE, 7, 8, nonce="sized")
    body["rct_signatures"]["ecdhInfo"][0]["amount"] += "00" * 24
    assert amounts(body) == [8]


def test_an_output_of_nothing_is_passed_over():
    assert amounts(payment(ALICE, 0, 7, nonce="nothing")) == [7]


def test_each_output_of_many_in_one_transaction_is_found_at_its_index():
    assert amounts(payment(ALICE, *range(1, 131), nonce="many")) == list(range(1, 131))


def test_a_miners_transaction_of_hundreds_of_outputs_hides_none_of_them():
    body = payment(ALICE, *[1] * 300, nonce="pool")
    body |= {"vin": [{"gen": {"height": 5}}], "unlock_time": 65, "rct_signatures": {"type": 0}}
    for index, vout in enumerate(body["vout"]):
        vout["amount"] = 1_000 + index
    assert amounts(body) == list(range(1_000, 1_300))
    assert amounts(body, BOB) == []


def test_the_same_one_time_key_twice_is_told_twice():
    body = payment(ALICE, 5, nonce="burning")
    twice = payment(ALICE, 6, nonce="burning")
    assert amounts(body) == [5]
    assert amounts(twice) == [6]
    assert scan(read(body), ALICE.watch_key)[0].one_time_key == scan(read(twice), ALICE.watch_key)[0].one_time_key


def test_a_public_key_with_a_torsion_component_hides_no_deposit():
    body = recorded("one_output")["body"]
    tilted = sodium.crypto_core_ed25519_add(bytes(body["extra"][1:33]), ORDER_EIGHT)
    assert tilted != bytes(body["extra"][1:33])
    expected = scan(read(body), recorded_key())
    body["extra"] = [1, *tilted, *body["extra"][33:]]
    assert len(expected) == 1
    assert scan(read(body), recorded_key()) == expected


def test_a_deposit_made_with_a_public_key_of_small_order_is_found():
    secret = points.IDENTITY
    scalar = points.output_scalar(secret, 0)
    body = payment(ALICE, 9, nonce="any")
    body["version"], body["vout"][0]["amount"] = 1, 9
    key = points.one_time_key(scalar, ALICE.public_spend_key)
    assert key is not None
    body["vout"][0]["target"] = {"key": key.hex()}
    body["extra"] = [1, *ORDER_EIGHT]
    assert amounts(body) == [9]
    body["extra"] = [1, *points.IDENTITY]
    assert amounts(body) == [9]


@pytest.mark.parametrize(
    "other_spelling",
    [
        (points.FIELD_PRIME + 1).to_bytes(32, "little"),
        (1 | 1 << 255).to_bytes(32, "little"),
        points.FIELD_PRIME.to_bytes(32, "little"),
    ],
)
def test_a_point_in_a_spelling_that_monero_refuses_is_no_point(other_spelling):
    assert points.clear_cofactor(other_spelling) is None


def test_a_point_of_order_eight_has_nothing_left_after_clearing():
    assert points.clear_cofactor(ORDER_EIGHT) == points.IDENTITY
    twice = sodium.crypto_core_ed25519_add(ORDER_EIGHT, ORDER_EIGHT)
    assert sodium.crypto_core_ed25519_add(twice, twice) != points.IDENTITY


JUNK_BEFORE = {
    "a nonce": [2, 3, 1, 2, 3],
    "the longest nonce": [2, 0xFF, 0x01, *[9] * 255],
    "merge mining": [3, 33, 0, *[7] * 32],
    "minergate": [0xDE, 2, 1, 1],
    "a key that is no point": [1, *[2] + [0] * 31],
    "a foreign key": [1, *times_base((5).to_bytes(32, "little"))],
}


@pytest.mark.parametrize("junk", JUNK_BEFORE.values(), ids=JUNK_BEFORE.keys())
def test_a_readable_field_before_the_key_hides_no_deposit(junk):
    body = recorded("two_outputs")["body"]
    expected = scan(read(body), recorded_key())
    body["extra"] = [*junk, *body["extra"]]
    assert len(expected) == 2
    assert scan(read(body), recorded_key()) == expected


def test_two_is_the_height_of_no_point():
    assert points.clear_cofactor(bytes(JUNK_BEFORE["a key that is no point"][1:])) is None


UNREADABLE_FIELDS = {
    "an unknown field": [0x77, 1, 2, 3],
    "padding": [0, 0, 0],
    "a nonce too long": [2, 0x80, 0x02, *[0] * 256],
    "a nonce cut short": [2, 200],
    "merge mining filled wrongly": [3, 2, 0, 0],
    "merge mining with more behind": [3, 34, 0, *[7] * 33],
    "merge mining of a depth beyond 64 bits": [3, 42, *[0xFF] * 9, 0x02, *[7] * 32],
    "a key cut short": [1, 1, 2, 3],
    "a number without end": [2, *[0xFF] * 12],
    "a number spelled longer than it needs": [2, 0x83, 0x00, 1, 2, 3],
    "a list of keys cut short": [4, 9, 1],
    "a list of keys as long as memory": [4, *[0xFF] * 9, 0x01],
}


@pytest.mark.parametrize("junk", UNREADABLE_FIELDS.values(), ids=UNREADABLE_FIELDS.keys())
def test_what_the_wallet_cannot_read_ends_the_reading_and_hides_only_what_follows(junk):
    body = payment(ALICE, 4, nonce="after")
    key = body["extra"]
    body["extra"] = [*key, *junk]
    assert amounts(body) == [4]
    body["extra"] = [*junk, *key]
    assert amounts(body) == []


@given(junk=st.binary(max_size=1200))
def test_reading_any_extra_field_never_fails_and_is_bounded(junk):
    assert len(read_extra(junk).public) <= PUBLIC_KEYS_MAX


@given(junk=st.binary(max_size=300))
def test_no_junk_behind_the_key_hides_a_deposit(junk):
    body = payment(ALICE, 4, nonce="after")
    body["extra"] = [*body["extra"], *junk]
    assert amounts(body) == [4]


def test_a_repeated_public_key_is_tried_once():
    body = payment(ALICE, 4, nonce="repeated")
    body["extra"] = body["extra"] * 40
    assert len(read(body).cleared_keys) == 1
    assert amounts(body) == [4]


def test_no_more_public_keys_are_tried_than_the_bound():
    body = payment(ALICE, 4, nonce="crowded")
    for number in range(1, PUBLIC_KEYS_MAX + 20):
        body["extra"] += [1, *times_base(number.to_bytes(32, "little"))]
    assert len(read(body).cleared_keys) == PUBLIC_KEYS_MAX
    assert amounts(body) == [4]


@pytest.mark.parametrize(("outputs", "tried"), [(ADDITIONAL_KEYS_MAX, ADDITIONAL_KEYS_MAX), (300, 0)])
def test_no_more_additional_keys_are_tried_than_a_transaction_may_have_outputs(outputs, tried):
    body = payment(ALICE, *[4] * outputs, nonce="mined")
    body["extra"] += [4, *points.varint(outputs), *times_base((5).to_bytes(32, "little")) * outputs]
    assert len(read(body).cleared_additional) == tried
    assert amounts(body) == [4] * outputs


def test_of_two_lists_of_additional_keys_the_first_counts():
    body = payment(ALICE, 4, nonce="two lists")
    real, foreign = body["extra"], [*times_base((5).to_bytes(32, "little"))]
    body["extra"] = [1, *foreign, 4, 1, *real[1:], 4, 1, *foreign]
    assert amounts(body) == [4]
    body["extra"] = [1, *foreign, 4, 1, *foreign, 4, 1, *real[1:]]
    assert amounts(body) == []


def test_a_list_of_additional_keys_counts_only_when_it_has_a_key_for_each_output():
    body = payment(ALICE, 4, 5, nonce="additional")
    real, foreign = body["extra"], [*times_base((5).to_bytes(32, "little"))]
    body["extra"] = [1, *foreign, 4, 2, *real[1:], *real[1:]]
    assert amounts(body) == [4, 5]
    body["extra"] = [1, *foreign, 4, 1, *real[1:]]
    assert amounts(body) == []


def test_an_additional_key_serves_its_own_output_only():
    body = payment(ALICE, 4, 5, nonce="additional")
    real, foreign = body["extra"], [*times_base((5).to_bytes(32, "little"))]
    body["extra"] = [1, *foreign, 4, 2, *real[1:], *foreign]
    assert amounts(body) == [4]


def test_without_a_public_key_of_its_own_a_transaction_is_passed_over_as_the_wallet_does():
    body = payment(ALICE, 4, nonce="additional")
    body["extra"] = [4, 1, *body["extra"][1:]]
    assert amounts(body) == []


def test_an_output_that_cannot_be_read_hides_no_other():
    body = payment(ALICE, 4, 5, nonce="broken")
    body["vout"][0]["target"] = {}
    assert amounts(body) == [5]


def test_amounts_missing_from_the_record_hide_no_other_output():
    body = payment(ALICE, 4, 5, nonce="missing")
    del body["rct_signatures"]["outPk"][1]
    assert amounts(body) == [4]


def test_a_payment_to_one_receiver_is_not_seen_by_another():
    assert amounts(payment(ALICE, 4, nonce="one"), BOB) == []


def test_an_unlock_time_of_64_bits_is_read():
    assert read(payment(ALICE, 4, nonce="late", unlock_time=2**64 - 1)).unlock_time == 2**64 - 1


@pytest.mark.parametrize("damage", ["version", "unlock_time", "vin", "vout", "extra"])
def test_a_record_without_its_parts_is_reported_and_not_raised(damage):
    body = payment(ALICE, 4, nonce="damaged")
    del body[damage]
    assert read_transaction(TxHash("damaged"), body) == Unreadable(TxHash("damaged"))


def test_a_number_that_no_transaction_can_hold_is_reported_and_not_raised():
    late = payment(ALICE, 4, nonce="late", unlock_time=2**64)
    rich = payment(ALICE, 4, nonce="rich") | {"version": 1}
    rich["vout"][0]["amount"] = 2**64
    for body in (late, rich):
        assert read_transaction(TxHash("told"), body) == Unreadable(TxHash("told"))


def test_a_watch_key_does_not_show_itself():
    assert ALICE.view_key.hex() not in repr(ALICE.watch_key)
    assert str(ALICE.view_key) not in repr(ALICE.watch_key)
