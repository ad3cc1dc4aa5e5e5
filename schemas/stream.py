"""Messages of the stream: which fields of each event go out. What is not named here stays inside."""

from collections.abc import Mapping
from typing import Any

import msgspec

from domain.events import AnyEvent
from schemas.answers import moment

HEARTBEAT = "heartbeat"
"""Type of the message that says nothing but how far the stream is."""
SIGNED_HEAD = "signed_head"

_DEPOSIT = ("one_time_key",)
_TX = ("tx_hash",)
_SIGNED = ("payout", "epoch", "tx_hash")

SHOWN: Mapping[str, tuple[str, ...]] = {
    # No address at all: a payout address is its owner's own business, and the pay-in address is shown by the escrow
    # itself, once both parties can be paid out. Wallets, keys, signatures and digests are the seats' business; only an
    # arbiter's signature under its decision is everybody's.
    "escrow_created": ("terms", "draw"),
    "payout_address_set": ("role",),
    "address_change_proposed": ("role",),
    "address_change_agreed": ("role", "agreed_by"),
    "cancelled": ("by", "reason"),
    "seat_joined": ("role",),
    "setup_started": (),
    "wallet_claimed": ("role",),
    "call_intended": ("role", "step"),
    "turn_failed": ("role", "step", "call", "reason"),
    "setup_message_given": ("role", "round"),
    "wallet_backed_up": ("role", "key"),
    "wallet_restored": ("role",),
    "address_confirmed": ("role",),
    "address_agreed": (),
    "setup_failed": ("reason", "awaited"),
    # The chain
    "deposit_seen": (*_DEPOSIT, "tx_hash", "amount"),
    "deposit_confirmed": (*_DEPOSIT, "height"),
    "deposit_unlocked": _DEPOSIT,
    "deposit_lost": (*_DEPOSIT, "was_confirmed"),
    "deposit_returned": _DEPOSIT,
    "funded": ("amount",),
    "funding_lost": ("amount",),
    "spend_seen": _TX,
    "spend_confirmed": ("tx_hash", "height"),
    "spend_final": _TX,
    "spend_lost": _TX,
    # What people decide
    "shipped": (),
    "delivery_confirmed": (),
    "refund_granted": (),
    "agreement_proposed": ("number", "by", "buyer_share_bp", "ship_until"),
    "agreement_accepted": ("number", "by"),
    "agreement_withdrawn": ("number",),
    "dispute_opened": ("case_id", "by"),
    "dispute_claim_added": ("by",),
    "dispute_message_added": ("number", "by", "reply_to"),
    "dispute_reviewed": (),
    "dispute_escalated": ("hours_open",),
    "dispute_decided": ("verdict", "buyer_share_bp", "fee_atomic", "signed"),
    "dispute_resolved": _TX,
    "dispute_closed": ("reason",),
    "evidence_added": ("case_id", "photo_id", "by"),
    "evidence_shown": ("photo_id", "by"),
    # Payouts: parts by role, never by address
    "export_given": ("role",),
    "key_images_told": ("role",),
    "payout_opened": ("number", "purpose", "proposers", "cosigner", "buyer_share_bp", "fee_atomic", "consents"),
    "payout_approved": ("number", "by"),
    "payout_dropped": ("number", "reason"),
    "epoch_opened": ("payout", "number"),
    "payout_proposed": ("payout", "epoch", "proposer", "network_fee", "shares", "inputs_atomic"),
    "fee_band_set": ("payout", "epoch", "band"),
    "payout_signed": _SIGNED,
    "payout_broadcast": _SIGNED,
    "epoch_abandoned": ("payout", "number", "by", "reason"),
    "escrow_completed": ("outcome", "tx_hash"),
    "escrow_refunded": _TX,
    "arbiter_fee_paid": ("tx_hash",),
    "leftover_paid": _TX,
    # Time and recovery: which administrator acted, and why, is between them and the service
    "arbiter_ready": (),
    "reminder_due": ("kind",),
    "stuck_stage_reached": ("stage", "hours_stuck"),
    "manual_recovery_required": ("original_status", "hours_stuck"),
    "chain_compared": ("height", "differences"),
    "recovery_item_opened": ("reason",),
    "recovery_item_closed": ("reason",),
    "recovery_action_taken": ("action",),
    "key_shredded": ("retention_days",),
}
"""Fields by event type, the same for all three: nothing in them is for one pair of eyes alone."""
MOMENTS = frozenset({"ship_until"})
"""Fields that are microseconds in the log and go out as RFC 3339."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message; those that are no events have neither escrow nor version."""

    type: str
    escrow_id: str | None = None
    version: int | None = None
    cursor: str
    """Passed as `after`, it continues behind this message."""
    occurred_at: str
    data: dict[str, Any]


def shown(event: AnyEvent) -> dict[str, Any]:
    """Picks the fields of an event that go out, as values of JSON."""
    return {field: _value(field, getattr(event, field)) for field in SHOWN[str(event.__struct_config__.tag)]}


def _value(field: str, value: Any) -> Any:
    if field in MOMENTS and value is not None:
        return moment(value)
    return msgspec.to_builtins(value, str_keys=True)
