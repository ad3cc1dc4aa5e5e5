"""The life of an escrow in words, from its log: what happened, who did it, when. Sealed fields stay sealed."""

from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Any, NamedTuple

import msgspec

from domain.events import AnyEvent
from domain.ids import Micros
from eventstore.api import Recorded
from schemas.answers import moment
from schemas.codec import UnknownEvent, decode
from service.pages.words import percent, worded, xmr

UNREADABLE = "Something happened that only a newer version of the service can read."


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline."""

    version: int
    at: str
    who: str
    """buyer, vendor, arbiter, admin, chain or service."""
    text: str
    step: bool
    """Whether it is one of the many steps between the things that people care about."""
    tx_hash: str | None


def timeline(events: Iterable[Recorded]) -> Iterator[Happened]:
    """Tells each event of a life in words."""
    for recorded in events:
        try:
            event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        except UnknownEvent:
            yield _line(recorded, who="service", text=UNREADABLE, step=False, tx_hash=None)
            continue
        told = TOLD[recorded.type]
        fields = _fields(event)
        who = str(fields.get(told.who, told.who)) if told.who in _FROM_EVENT else told.who
        text = told.text.format_map(fields)
        tx_hash = getattr(event, "tx_hash", None)
        yield _line(recorded, who=_WHO.get(who, who), text=text, step=told.step, tx_hash=tx_hash)


def _line(recorded: Recorded, *, who: str, text: str, step: bool, tx_hash: str | None) -> Happened:
    at = moment(Micros(recorded.occurred_at))
    return Happened(version=recorded.version, at=at, who=who, text=text, step=step, tx_hash=tx_hash)


# -- words ---------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """How one type of event is told: `{field}` stands for what the event says there."""

    who: str
    """Who did it, or the name of the event's field that says so."""
    text: str
    step: bool = False


_FROM_EVENT = ("role", "by", "proposer", "agreed_by")
_WHO = {"None": "service"}
_AMOUNTS = ("amount", "fee_atomic", "network_fee")

TOLD: Mapping[str, Told] = {
    "escrow_created": Told("service", "The order was created."),
    "payout_address_set": Told("role", "Said where their own money goes.", step=True),
    "address_change_proposed": Told("role", "Asks for another payout address."),
    "address_change_agreed": Told("agreed_by", "Consented to another payout address of the {role}."),
    "cancelled": Told("by", "The order was cancelled ({reason})."),
    "seat_joined": Told("role", "Joined with a wallet.", step=True),
    "setup_started": Told("service", "All three seats are present: the set-up began.", step=True),
    "wallet_claimed": Told("role", "Got a wallet.", step=True),
    "call_intended": Told("role", "The wallet is about to {step}.", step=True),
    "turn_failed": Told("role", "The wallet could not {step} ({reason}); it is asked again.", step=True),
    "setup_message_given": Told("role", "Finished the round {round} of the set-up.", step=True),
    "wallet_backed_up": Told("role", "The wallet was backed up, sealed to a key that is kept offline.", step=True),
    "wallet_restored": Told("role", "The lost wallet is put back from its backup."),
    "address_confirmed": Told("role", "The wallet is ready and confirms the shared address.", step=True),
    "address_agreed": Told("service", "All three wallets agree on one 2-of-3 address."),
    "setup_failed": Told("service", "The set-up ended without an address ({reason})."),
    "deposit_seen": Told("chain", "A payment of {amount} appeared."),
    "deposit_confirmed": Told("chain", "A payment is in block {height}.", step=True),
    "deposit_unlocked": Told("chain", "A payment is unlocked.", step=True),
    "deposit_lost": Told("chain", "A payment that was there has gone."),
    "deposit_returned": Told("chain", "A payment that had gone is back."),
    "funded": Told("chain", "The escrow is funded: {amount} can be spent."),
    "funding_lost": Told("chain", "What can be spent fell to {amount}: the escrow is no longer funded."),
    "spend_seen": Told("chain", "A payout appeared on the network."),
    "spend_confirmed": Told("chain", "A payout is in block {height}.", step=True),
    "spend_final": Told("chain", "A payout is final."),
    "spend_lost": Told("chain", "A payout that was there has gone."),
    "shipped": Told("vendor", "Shipped the goods."),
    "delivery_confirmed": Told("buyer", "Confirmed the delivery and released the money."),
    "refund_granted": Told("vendor", "Gives the money back."),
    "agreement_proposed": Told("by", "Made an offer to settle (offer {number})."),
    "agreement_accepted": Told("by", "Accepted offer {number}."),
    "agreement_withdrawn": Told("service", "Offer {number} was taken back."),
    "dispute_opened": Told("by", "Opened the dispute with a claim."),
    "dispute_claim_added": Told("by", "Answered with a claim."),
    "dispute_message_added": Told("by", "Wrote message {number}.", step=True),
    "dispute_reviewed": Told("arbiter", "Took the case up."),
    "dispute_decided": Told("arbiter", "Decided: {verdict}. The arbiter's fee is {fee_atomic}."),
    "dispute_escalated": Told("service", "Nobody decided in time: the administrators are asked to look."),
    "dispute_resolved": Told("service", "The decision is paid: the case is resolved."),
    "dispute_closed": Told("service", "The case is closed without a decision paid ({reason})."),
    "evidence_added": Told("by", "Laid a picture before the arbiter."),
    "evidence_shown": Told("by", "Was shown a picture.", step=True),
    "export_given": Told("role", "The wallet is ready to sign.", step=True),
    "key_images_told": Told("role", "The wallet told by which marks a payout will be known.", step=True),
    "payout_opened": Told("service", "A payout began ({purpose})."),
    "payout_approved": Told("by", "Consented to the payout.", step=True),
    "payout_dropped": Told("service", "A payout is not wanted any more ({reason})."),
    "epoch_opened": Told("service", "Attempt {number} to sign the payout began.", step=True),
    "payout_proposed": Told("proposer", "The wallet proposed the transaction; its network fee is {network_fee}."),
    "fee_band_set": Told("service", "The cosigner said which network fees it signs.", step=True),
    "payout_signed": Told("service", "The cosigner checked the transaction and signed it."),
    "payout_broadcast": Told("service", "The transaction was handed to the network."),
    "epoch_abandoned": Told("by", "Attempt {number} to sign the payout was given up ({reason}).", step=True),
    "escrow_completed": Told("service", "The money is paid out ({outcome}): the escrow ended."),
    "escrow_refunded": Told("service", "The money is back with the buyer: the escrow ended."),
    "leftover_paid": Told("service", "A payout after the end is final."),
    "arbiter_fee_paid": Told("service", "The arbiter's fee is paid."),
    "arbiter_ready": Told("arbiter", "The arbiter is there: the address to pay to may be shown.", step=True),
    "reminder_due": Told("service", "A deadline passed: {kind}."),
    "stuck_stage_reached": Told("service", "Nothing happened for {hours_stuck} hours (stage {stage})."),
    "manual_recovery_required": Told("service", "Nothing happened for {hours_stuck} hours: people must look."),
    "chain_compared": Told("service", "The log was compared with the chain.", step=True),
    "recovery_item_opened": Told("service", "People must look at this escrow ({reason})."),
    "recovery_item_closed": Told("service", "The reason to look is gone ({reason})."),
    "recovery_action_taken": Told("admin", "An administrator acted: {action}."),
    "key_shredded": Told("service", "The secrets of this escrow were made unreadable for good."),
}
"""Every type of event there is."""


def fields_of(text: str) -> set[str]:
    """Names the fields that a line of the table asks of its event."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _fields(event: AnyEvent) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for field in event.__struct_fields__:
        value = getattr(event, field)
        if field in _AMOUNTS and isinstance(value, int):
            said[field] = f"{xmr(value)} XMR"
        else:
            said[field] = worded(value) if isinstance(value, str) else value
    if said.get("verdict") == "split" and isinstance(said.get("buyer_share_bp"), int):
        said["verdict"] = f"split, {percent(said['buyer_share_bp'])} to the buyer"
    return said
