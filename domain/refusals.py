"""Refusals: why a command is not followed. A refusal changes nothing."""

from typing import NewType

import msgspec

Code = NewType("Code", str)

SENTENCES: dict[str, str] = {
    "address_change_pending": "A change of this payout address already waits for consent.",
    "agreement_none": "There is no open proposal with this number.",
    "agreement_own": "A proposal is accepted by the other party, not by the one who made it.",
    "arbiter_not_ready": "The arbiter was not seen lately enough.",
    "already_broadcast": "A payout may already be on its way, so this can no longer be stopped.",
    "already_confirmed": "This seat has already confirmed the address.",
    "already_given": "This step has already been done.",
    "amounts_changed": "The decision would divide other amounts by now than those that were confirmed.",
    "amount_invalid": "The amount must be a positive whole number of atomic units.",
    "backup_invalid": "This is not the backup that the terms of the escrow ask for.",
    "backup_missing": "There is no sealed backup of this seat's wallet.",
    "bp_invalid": "The buyer's share must be a whole number from 0 to 10000 basis points.",
    "case_closed": "This case is already decided or closed.",
    "case_exists": "There is already a case for this escrow.",
    "deadline_invalid": "The new deadline must lie after the present one and at most 90 days ahead.",
    "deposit_seen": "A deposit has been seen, so the escrow can no longer be cancelled.",
    "dispute_open": "A dispute is open; only its decision or an agreement of both parties moves the money.",
    "epoch_in_progress": "A payout is being signed; the address cannot change now.",
    "escrow_exists": "This escrow already exists.",
    "limit_amount": "The amount is above the limit for one escrow.",
    "limit_concurrency": "There are as many escrows under way as the service allows at once.",
    "limit_volume": "The volume allowed for this month is used up.",
    "maintenance": "The service takes no new escrows at the moment.",
    "message_unknown": "There is no message with this number in this case.",
    "messages_full": "Each of the three may write only so many messages in one case.",
    "no_case": "There is no case for this escrow.",
    "no_such_escrow": "There is no such escrow.",
    "no_such_photo": "There is no such photo in this case.",
    "not_a_party": "Only the buyer or the vendor may do this.",
    "not_awaited": "This step is not awaited now.",
    "not_closed": "Only the secrets of an ended escrow can be shredded.",
    "not_of_the_case": "Only the three of this case may do this.",
    "not_shipped": "The vendor has not shipped yet.",
    "not_the_arbiter": "Only the arbiter of this escrow may do this.",
    "not_the_buyer": "Only the buyer may do this.",
    "not_the_vendor": "Only the vendor may do this.",
    "nothing_due": "No deadline has passed.",
    "nothing_to_pay": "There is nothing at the escrow's address that could be paid out.",
    "order_live": "There is already a live escrow for this order.",
    "payout_address_missing": "A payout address that this payout needs is not set.",
    "payout_address_is_escrow": "A payout address must not be the escrow's own address.",
    "photo_known": "This side has laid this very photo before the arbiter already.",
    "photos_full": "This side has laid as many photos before the arbiter as one side may.",
    "placeholder_address": "This is not an address: money sent to it would be lost.",
    "proposal_invalid": "The proposed transaction is not the one that was decided.",
    "reason_required": "A decision needs a reason.",
    "retention_runs": "The secrets of this escrow are kept for a while yet.",
    "roster_full": "An arbiter may name only so many.",
    "seat_taken": "This seat is already taken.",
    "secrets_shredded": "The secrets of this escrow were shredded: nothing more is possible with it.",
    "slots_busy": "As many seats wait for a wallet slot as may; try again shortly.",
    "three_must_differ": "Buyer, vendor and arbiter must be three different people.",
    "unsettled": "Something of this escrow still waits for somebody: it is settled first.",
    "view_outdated": "The escrow has moved since the chain was looked at.",
    "wallet_other": "This wallet is not the one of this seat.",
    "wrong_state": "This is not possible in the present state of the escrow.",
}
"""Every code with its one human sentence."""


class Refused(msgspec.Struct, frozen=True):
    """A refusal: a stable code and the facts behind it (never secrets)."""

    code: str
    facts: dict[str, str | int] = {}

    def __post_init__(self) -> None:
        assert self.code in SENTENCES, self.code

    @property
    def sentence(self) -> str:
        """The human sentence of this code."""
        return SENTENCES[self.code]
