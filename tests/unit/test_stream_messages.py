"""What goes out of each event, field by field: whoever adds an event or a field decides here who sees it."""

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from domain.events import EVENT_TYPES
from domain.ids import Address, EscrowId, KeyImage, Micros, OrderId, Sealed, UserId, WalletId
from domain.money import Atomic
from domain.roles import THREE, SeatKind
from domain.terms import Policy, Terms
from eventstore.api import Recorded
from schemas.codec import encode
from schemas.stream import SHOWN, Message, shown
from service.stream.messages import event_message

KEPT_INSIDE = {
    "arbiter_ready": {"seen_at"},
    # The escrow itself shows the pay-in address, once both parties can be paid out.
    "address_agreed": {"address"},
    "address_confirmed": {
        *("address", "threshold", "total", "ready", "signature", "view_key", "view_key_tag", "height"),
    },
    # Equal tags tell of equal addresses: who is paid where is each one's own business.
    "payout_address_set": {"tag", "address"},
    "address_change_proposed": {"tag", "address"},
    # Who asked for the order may be a marketplace, which is none of the three.
    "escrow_created": {"created_by"},
    # Wallets, keys and messages of a seat are its owner's.
    "seat_joined": {"wallet_id", "identity_key", "secrets"},
    "wallet_claimed": {"wallet_id", "identity_key", "secrets"},
    # A box is of use to nobody but who holds the key offline; which operator acted, is the operators' business.
    "wallet_backed_up": {"wallet_id", "digest", "box"},
    "wallet_restored": {"wallet_id", "by"},
    "call_intended": {"turn_id", "wallet_id"},
    "turn_failed": {"turn_id"},
    "setup_message_given": {"message", "digest", "signature"},
    "export_given": {"export", "digest", "covers"},
    "key_images_told": {"key_images"},
    "epoch_opened": {"inputs"},
    "payout_opened": {"surplus_to_buyer"},
    "payout_proposed": {"tx_set", "digest", "export_digest", "key_images"},
    "payout_signed": {"signed", "digest"},
    "epoch_abandoned": {"export_void"},
    "spend_seen": {"inputs", "facts"},
    # Sealed texts: the case shows them, opened, to those who may read them.
    "dispute_opened": {"claim"},
    "dispute_claim_added": {"claim"},
    "dispute_message_added": {"message"},
    "dispute_decided": {"reason", "reason_salt"},
    # What it is and where it lies, the case shows to those who may see it.
    "evidence_added": {"cid", "sha256", "media_type", "size", "width", "height", "description"},
    "evidence_shown": {"user", "sha256"},
    # Which administrator acted, and why.
    "recovery_action_taken": {"by", "notes"},
    "key_shredded": {"by"},
    "reminder_due": {"outage_s"},
    "stuck_stage_reached": {"announce", "outage_s"},
}
"""Fields that do not go out, by event; an event that is missing here shows all it has."""
NEVER = (Sealed, Address, WalletId, KeyImage)


@pytest.mark.parametrize("type_name", EVENT_TYPES)
def test_every_field_of_every_event_is_either_shown_or_kept_inside(type_name: str) -> None:
    fields = set(EVENT_TYPES[type_name].__struct_fields__) - {"at"}
    kept = KEPT_INSIDE.get(type_name, set())
    assert set(SHOWN[type_name]) | kept == fields
    assert not set(SHOWN[type_name]) & kept


def test_no_event_is_forgotten() -> None:
    assert set(SHOWN) == set(EVENT_TYPES)


@pytest.mark.parametrize("type_name", EVENT_TYPES)
def test_nothing_sealed_no_address_no_wallet_and_no_key_image_goes_out(type_name: str) -> None:
    hints = get_type_hints(EVENT_TYPES[type_name])
    for field in SHOWN[type_name]:
        assert not any(_mentions(hints[field], kind) for kind in NEVER), field


@pytest.mark.parametrize("type_name", EVENT_TYPES)
def test_the_shown_fields_of_an_event_are_values_of_json(type_name: str) -> None:
    event = _example(EVENT_TYPES[type_name])
    out = event_message(_recorded(event), place=(3, 9))
    message = msgspec.json.decode(out.text, type=Message)
    assert set(message.data) == set(SHOWN[type_name])
    assert message.data == msgspec.json.decode(msgspec.json.encode(shown(event)))
    assert "sealed-text" not in out.text.decode() and "4ddress" not in out.text.decode()
    assert (message.type, message.escrow_id, message.version) == (type_name, "esc_1", 5)


def test_the_terms_are_shown_whole_and_a_deadline_as_a_moment() -> None:
    created = shown(_example(EVENT_TYPES["escrow_created"]))
    assert set(created["terms"]) == set(Terms.__struct_fields__)
    proposed = shown(_example(EVENT_TYPES["agreement_proposed"]))
    assert proposed["ship_until"] == "1970-01-01T00:00:00.000007Z"


def test_an_event_of_a_later_version_goes_out_by_its_name_alone() -> None:
    late = msgspec.structs.replace(_recorded(_example(EVENT_TYPES["shipped"])), type="teleported", body=b'{"x":1}')
    message = msgspec.json.decode(event_message(late, place=(1,)).text, type=Message)
    assert (message.type, message.data) == ("teleported", {})


def _mentions(hint: Any, kind: Any) -> bool:
    return hint is kind or any(_mentions(part, kind) for part in get_args(hint))


def _recorded(event: Any) -> Recorded:
    encoded = encode(event)
    return Recorded(
        partition=0,
        position=9,
        stream_id="esc_1",
        version=5,
        type=encoded.type,
        schema_version=encoded.schema_version,
        command_id="ab" * 32,
        occurred_at=1,
        recorded_at=2,
        meta=b"{}",
        body=encoded.body,
        salt=b"",
        leaf=b"",
        chain=b"",
    )


def _example(kind: type) -> Any:
    """An event with something in every field."""
    return kind(**{field: _filled(hint) for field, hint in get_type_hints(kind).items() if field in _fields(kind)})


def _fields(kind: type) -> tuple[str, ...]:
    return kind.__struct_fields__  # type: ignore[attr-defined]


def _filled(hint: Any) -> Any:
    plain = {Sealed: "sealed-text", Address: "4ddress", Micros: 7, Atomic: 8, bool: True, int: 9, str: "word"}
    if hint in plain:
        return plain[hint]
    if hint is Terms:
        return _terms()
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part not in (type(None), Ellipsis)]
    if origin is tuple:
        return (_filled(parts[0]),)
    if origin is dict:
        return {_filled(parts[0]): _filled(parts[1])}
    if origin in (types.UnionType, Union):
        return _filled(parts[0])
    if hasattr(hint, "__supertype__"):
        return _filled(hint.__supertype__)
    return next(iter(hint)) if hasattr(hint, "__members__") else _example(hint)


def _terms() -> Terms:
    return Terms(
        escrow_id=EscrowId("esc_1"),
        order_id=OrderId("o"),
        buyer_id=UserId("alice"),
        vendor_id=UserId("bob"),
        arbiter_id=UserId("judy"),
        amount=Atomic(1),
        network="regtest",
        seats=dict.fromkeys(THREE, SeatKind.POOL),
        policy=Policy(),
    )
