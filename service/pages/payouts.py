"""What a decision would pay, and how far its payout is, for a page."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from domain.events import Verdict
from domain.ids import Micros
from domain.payout import BP_ALL
from domain.preview import preview
from domain.refusals import Refused
from domain.roles import THREE, Role
from domain.states import Escrow
from schemas.answers import EpochFacts, EscrowFacts, PayoutFacts, WaitingFor
from service.pages.words import VERDICTS, percent, worded

NETWORK_FEE_NOTE = (
    "The network fee of the payout, known once its transaction is made, still comes off what buyer and vendor receive."
)
EXAMPLE_SPLIT = BP_ALL // 2
_ASKED = {
    "export": "to prepare their wallet for signing",
    "propose": "to propose the transaction",
    "cosign": "to check the transaction and sign it",
    "broadcast": "to hand the transaction to the network",
    "key_images": "to tell how a payout will be known",
    "set_payout_address": "to say where their money goes",
    "consent_address": "to consent to another payout address",
    "accept_agreement": "to answer an offer",
    "decide": "to decide",
}


class PreviewLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one decision would pay to each of the three, in their order."""

    name: str
    parts: tuple[int, ...]


def previews(state: Escrow, *, at: Micros) -> list[PreviewLine]:
    """Computes what each kind of decision would pay now, a split by halves; nothing where none could be taken."""
    lines = []
    for verdict, bp in ((Verdict.RELEASE, None), (Verdict.REFUND, None), (Verdict.SPLIT, EXAMPLE_SPLIT)):
        found = preview(state, verdict=verdict, buyer_share_bp=bp, at=at)
        if not isinstance(found, Refused):
            name = VERDICTS[verdict] if bp is None else f"Split, {percent(bp)} each"
            lines.append(PreviewLine(name=name, parts=found.parts))
    return lines


# -- how far it is -------------------------------------------------------------------------------------------


def payout_shown(state: Escrow, facts: EscrowFacts) -> dict[str, Any] | None:
    """Shows the payout of a decided case: its steps, who receives what, and its transactions."""
    case = state.core.case
    ruling = _ruling(facts)
    if case is None or ruling is None:
        return None
    epoch = ruling.epochs[-1] if ruling.epochs else None
    return {
        "steps": list(_steps(ruling, epoch, facts)),
        "shares": _shares(epoch),
        "network_fee": epoch.network_fee_atomic or 0 if epoch else 0,
        "hashes": list(_hashes(facts, epoch)),
    }


def _ruling(facts: EscrowFacts) -> PayoutFacts | None:
    rulings = [each for each in facts.payouts if each.purpose in ("ruling", "agreement")]
    return rulings[-1] if rulings else None


def _steps(payout: PayoutFacts, epoch: EpochFacts | None, facts: EscrowFacts) -> Iterator[dict[str, str]]:
    spends = {each.tx_hash: each for each in facts.chain.spends if not each.lost} if facts.chain else {}
    spend = spends.get(epoch.tx_hash or "") if epoch else None
    done = (
        (f"{_who(payout.proposers)} proposes the transaction", bool(epoch and epoch.proposer)),
        (f"{_who((payout.cosigner,))} checks it and signs", bool(epoch and epoch.tx_hash)),
        ("It is handed to the network", bool(epoch and (epoch.broadcast or spend))),
        ("It is in a block", bool(spend and spend.height is not None)),
        ("It is final", payout.ended == "final"),
    )
    begun = False
    for text, is_done in done:
        state = "done" if is_done else "later" if begun else "now"
        begun = begun or not is_done
        yield {"text": text, "state": state}


def _who(roles: Sequence[str]) -> str:
    return "The " + " or the ".join(roles)


def _shares(epoch: EpochFacts | None) -> list[dict[str, Any]]:
    shares = epoch.shares if epoch else ()
    return [{"who": " and ".join(each.roles), "roles": each.roles, "amount": each.amount} for each in shares]


def _hashes(facts: EscrowFacts, epoch: EpochFacts | None) -> Iterator[dict[str, str]]:
    if epoch is not None and epoch.tx_hash:
        yield {"name": "Transaction of the payout", "tx_hash": epoch.tx_hash}
    case_fee = [each for each in facts.payouts if each.purpose == "fee" and each.epochs and each.epochs[-1].tx_hash]
    for each in case_fee:
        yield {"name": "Transaction of the arbiter's fee", "tx_hash": str(each.epochs[-1].tx_hash)}


def waiting(facts: EscrowFacts, *, role: Role | None) -> list[str]:
    """Says in words who is awaited for what, the reader as `you`."""
    told = (_waits(each, role) for each in facts.awaited if each.what != "key_images")
    return list(dict.fromkeys(told))


def _waits(each: WaitingFor, role: Role | None) -> str:
    if each.who not in THREE:
        return f"Waiting for {worded(each.what)} ({each.who})."
    who = "you" if each.who == role else f"the {each.who}"
    return f"Waiting for {who} {_ASKED.get(each.what, worded(each.what))}."
