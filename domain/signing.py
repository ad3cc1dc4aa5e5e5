"""Signing epochs: who may do which step of a payout when, and what makes an attempt worthless."""

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent, Purpose
from domain.ids import Micros
from domain.money import Atomic
from domain.payout import BP_ALL, addresses_missing, export_serves, inputs_ready, inputs_sum, shares, smallest_input
from domain.refusals import Refused
from domain.roles import Role
from domain.states import Core, Epoch, Escrow, Money, Payout, money_of
from domain.steps import Step

STALE = "stale"
SIGN_UNKNOWN = "sign_unknown"
"""Reasons after which the cosigner's export may have been signed with and must not be used again."""

DEPOSITS_AWAITED_S = 7_200
"""How long a payout of less than the amount waits for deposits on their way; ten blocks take 20 minutes."""


def turn_id(step: Step, payout: Payout, epoch: Epoch) -> str:
    """Names one step of one epoch; to send a lost transaction again is another turn than to send it."""
    named = f"{step.value}:{payout.number}:{epoch.number}"
    return f"{named}:{epoch.sent + 1}" if step is Step.BROADCAST and epoch.sent else named


def may_be_broadcast(state: Escrow, payout: Payout | None) -> bool:
    """Says whether a payout may ever have left: sent by us, announced to be sent, or seen."""
    epoch = payout.epoch if payout else None
    return epoch is not None and (bool(epoch.sent) or is_on_its_way(state, payout))


def is_on_its_way(state: Escrow, payout: Payout | None) -> bool:
    """Says whether the network may have a payout now; one that was sent and lost again is not on its way."""
    epoch, money = payout.epoch if payout else None, money_of(state)
    if payout is None or epoch is None or money is None:
        return False
    intent = state.core.intents.get(payout.cosigner)
    announced = intent is not None and intent.turn_id == turn_id(Step.BROADCAST, payout, epoch)
    return epoch.broadcast or announced or is_seen(money, epoch)


def is_seen(money: Money, epoch: Epoch) -> bool:
    """Says whether an epoch's transaction is in the pool or in a block now."""
    spend = money.spends.get(epoch.signature.tx_hash) if epoch.signature else None
    return spend is not None and not spend.lost


def may_be_signed(core: Core, payout: Payout, epoch: Epoch) -> bool:
    """Says whether the cosigner may hold a signature that is not in the log."""
    intent = core.intents.get(payout.cosigner)
    return epoch.signature is None and intent is not None and intent.turn_id == turn_id(Step.COSIGN, payout, epoch)


# -- opening and dropping ------------------------------------------------------------------------------------


def open_payout(
    money: Money,
    *,
    at: Micros,
    purpose: Purpose,
    proposers: tuple[Role, ...],
    cosigner: Role,
    consents: tuple[Role, ...],
    buyer_share_bp: int,
    surplus_to_buyer: bool = False,
    fee_atomic: Atomic = Atomic(0),
) -> e.PayoutOpened:
    """Builds the event that begins a payout, numbered after the ones before."""
    return e.PayoutOpened(
        at=at,
        number=len(money.payouts) + 1,
        purpose=purpose,
        proposers=proposers,
        cosigner=cosigner,
        buyer_share_bp=buyer_share_bp,
        surplus_to_buyer=surplus_to_buyer,
        fee_atomic=fee_atomic,
        consents=consents,
    )


def open_release(money: Money, *, at: Micros) -> e.PayoutOpened:
    """Begins a release: the vendor proposes by shipping, the buyer's confirmation will be its signature."""
    return open_payout(
        money,
        at=at,
        purpose=Purpose.RELEASE,
        proposers=(Role.VENDOR,),
        cosigner=Role.BUYER,
        consents=(Role.VENDOR,),
        buyer_share_bp=0,
        surplus_to_buyer=True,
    )


def open_refund(money: Money, *, at: Micros) -> e.PayoutOpened:
    """Begins a refund: the buyer proposes, the vendor's consent is its signature."""
    return open_payout(
        money,
        at=at,
        purpose=Purpose.REFUND,
        proposers=(Role.BUYER,),
        cosigner=Role.VENDOR,
        consents=(Role.VENDOR,),
        buyer_share_bp=BP_ALL,
    )


def drop_payout(state: Escrow, *, at: Micros, reason: str) -> list[AnyEvent]:
    """Ends the payout under way, if any, and its epoch; what was signed stays visible in it."""
    money = money_of(state)
    payout = money.payout if money else None
    if payout is None:
        return []
    dropped = e.PayoutDropped(at=at, number=payout.number, reason=reason)
    epoch = payout.epoch
    if epoch is None:
        return [dropped]
    void = may_be_signed(state.core, payout, epoch)
    ended = e.EpochAbandoned(at=at, payout=payout.number, number=epoch.number, by=None, reason=reason, export_void=void)
    return [ended, dropped]


# -- turns of the seats --------------------------------------------------------------------------------------


def give_export(state: Escrow, command: c.GiveExport) -> list[AnyEvent] | Refused:
    """Records an export; always, because making it has already voided the seat's earlier one."""
    money = money_of(state)
    if money is None:
        return Refused("not_awaited")
    if command.digest in money.exports_given:
        return []  # told again: it must not make a used or overtaken export current
    unknown = set(command.covers) - set(money.deposits)
    if unknown:
        return Refused("not_awaited", {"unknown_outputs": len(unknown)})
    return [
        e.ExportGiven(
            at=command.at, role=command.role, export=command.export, digest=command.digest, covers=command.covers
        )
    ]


def give_proposal(state: Escrow, command: c.GiveProposal) -> list[AnyEvent] | Refused:
    """Accepts a transaction set whose figures are the ones decided; the cosigner checks that the set says the same."""
    found = _under_way(state, command.payout, command.epoch)
    if found is None:
        return Refused("not_awaited")
    money, payout, epoch = found
    if epoch.proposal is not None:
        return Refused("already_given")
    if command.role not in payout.proposers:
        return Refused("not_awaited")
    export = money.exports.get(payout.cosigner)
    if export is None or not export_serves(export, epoch) or export.digest != command.export_digest:
        return Refused("proposal_invalid", {"why": "export"})
    terms = state.core.terms
    if not 0 < command.network_fee <= terms.policy.network_fee_max_atomic:
        return Refused("proposal_invalid", {"why": "network_fee"})
    if set(command.key_images) != set(epoch.inputs):
        return Refused("proposal_invalid", {"why": "inputs"})
    if any(money.key_images.get(key, image) != image for key, image in command.key_images.items()):
        # Honest wallets know the same ones. By a wrong one the payout would never be seen on the chain.
        return Refused("proposal_invalid", {"why": "key_images"})
    divided = proposal_shares(state.core, money, payout, network_fee=command.network_fee)
    if not divided:
        return Refused("nothing_to_pay")
    proposed = e.PayoutProposed(
        at=command.at,
        payout=payout.number,
        epoch=epoch.number,
        proposer=command.role,
        tx_set=command.tx_set,
        digest=command.digest,
        network_fee=command.network_fee,
        shares=tuple(divided),
        export_digest=command.export_digest,
        key_images=command.key_images,
        inputs_atomic=inputs_sum(money, epoch),
    )
    return [proposed]


def proposal_shares(core: Core, money: Money, payout: Payout, *, network_fee: int) -> list[e.Share]:
    """Divides the running epoch's inputs as decided, for a given network fee."""
    epoch = payout.epoch
    assert epoch is not None
    return shares(
        payout,
        core.terms,
        inputs=inputs_sum(money, epoch),
        smallest=smallest_input(money, epoch),
        network_fee=network_fee,
        tags={role: address.tag for role, address in core.addresses.items()},
    )


def set_fee_band(state: Escrow, command: c.SetFeeBand) -> list[AnyEvent] | Refused:
    """Records by which band the cosigner judges a proposed set, once an epoch."""
    found = _under_way(state, command.payout, command.epoch)
    if found is None:
        return Refused("not_awaited")
    _, payout, epoch = found
    if epoch.proposal is None or command.role is not payout.cosigner:
        return Refused("not_awaited")
    if epoch.fee_band is not None or epoch.signature is not None:
        return Refused("already_given")
    return [e.FeeBandSet(at=command.at, payout=payout.number, epoch=epoch.number, band=command.band)]


def give_signature(state: Escrow, command: c.GiveSignature) -> list[AnyEvent] | Refused:
    """Records a signed transaction; also one that was under way when its payout was dropped."""
    money = money_of(state)
    payout = next((each for each in money.payouts if each.number == command.payout), None) if money else None
    epoch = next((each for each in payout.epochs if each.number == command.epoch), None) if payout else None
    if payout is None or epoch is None or epoch.proposal is None or command.role is not payout.cosigner:
        return Refused("not_awaited")
    if epoch.signature is not None:
        return Refused("already_given")
    under_way = payout.ended is None and epoch.ended is None
    late = not under_way and not may_be_signed(state.core, payout, epoch)
    if late or not _two_decided(payout, epoch.proposal.proposer):
        return Refused("not_awaited")
    return [
        e.PayoutSigned(
            at=command.at,
            payout=payout.number,
            epoch=epoch.number,
            tx_hash=command.tx_hash,
            signed=command.signed,
            digest=command.digest,
        )
    ]


def _two_decided(payout: Payout, proposer: Role) -> bool:
    return {proposer, payout.cosigner} <= payout.consents


def report_broadcast(state: Escrow, command: c.ReportBroadcast) -> list[AnyEvent] | Refused:
    """Records that the network took the signed transaction."""
    found = _under_way(state, command.payout, command.epoch)
    if found is None:
        return Refused("not_awaited")
    _, payout, epoch = found
    if epoch.signature is None or command.role is not payout.cosigner:
        return Refused("not_awaited")
    if epoch.broadcast:
        return Refused("already_given")
    if command.tx_hash != epoch.signature.tx_hash:
        return Refused("proposal_invalid", {"why": "tx_hash"})
    return [e.PayoutBroadcast(at=command.at, payout=payout.number, epoch=epoch.number, tx_hash=command.tx_hash)]


def abandon_epoch(state: Escrow, command: c.AbandonEpoch) -> list[AnyEvent] | Refused:
    """Gives an epoch up on the word of one of its seats, once signed only of the one that has to send it.

    Never while its transaction is on its way.
    """
    found = _under_way(state, command.payout, command.epoch)
    if found is None:
        return Refused("not_awaited")
    money, payout, epoch = found
    may = (payout.cosigner,) if epoch.signature else (payout.cosigner, *payout.proposers)
    if command.role not in may:
        return Refused("not_awaited")
    if epoch.broadcast or is_seen(money, epoch):
        return Refused("already_broadcast")
    void = command.reason in (STALE, SIGN_UNKNOWN) or may_be_signed(state.core, payout, epoch)
    return [
        e.EpochAbandoned(
            at=command.at,
            payout=payout.number,
            number=epoch.number,
            by=command.role,
            reason=command.reason,
            export_void=void,
        )
    ]


def _under_way(state: Escrow, payout_number: int, epoch_number: int) -> tuple[Money, Payout, Epoch] | None:
    money = money_of(state)
    payout = money.payout if money else None
    epoch = payout.epoch if payout else None
    if money is None or payout is None or epoch is None:
        return None
    if (payout.number, epoch.number) != (payout_number, epoch_number):
        return None
    return money, payout, epoch


# -- what follows by itself ----------------------------------------------------------------------------------


def next_epoch(state: Escrow, *, at: Micros) -> AnyEvent | None:
    """Opens the payout's next epoch when its inputs are there and nothing it made is on its way."""
    money = money_of(state)
    payout = money.payout if money else None
    if money is None or payout is None or payout.epoch is not None:
        return None
    patient = not payout.retries and at < payout.since + DEPOSITS_AWAITED_S * 1_000_000
    inputs = inputs_ready(money, payout, state.core.terms, patient=patient)
    if not inputs or addresses_missing(state.core, payout):
        return None
    if len(payout.epochs) >= state.core.terms.policy.epochs_max * (payout.retries + 1):
        return None
    return e.EpochOpened(at=at, payout=payout.number, number=len(payout.epochs) + 1, inputs=inputs)


def epochs_exhausted(state: Escrow) -> bool:
    """Says whether a payout used up the epochs that open by themselves."""
    money = money_of(state)
    payout = money.payout if money else None
    if payout is None or payout.epoch is not None:
        return False
    return len(payout.epochs) >= state.core.terms.policy.epochs_max * (payout.retries + 1)


def worthless_epoch(state: Escrow, *, at: Micros) -> AnyEvent | None:
    """Abandons an epoch that can no longer lead to its payout, and says why."""
    money = money_of(state)
    payout = money.payout if money else None
    epoch = payout.epoch if payout else None
    if money is None or payout is None or epoch is None:
        return None
    reason = _worthless(money, payout, epoch)
    if reason is None:
        return None
    void = may_be_signed(state.core, payout, epoch)
    return e.EpochAbandoned(at=at, payout=payout.number, number=epoch.number, by=None, reason=reason, export_void=void)


def _worthless(money: Money, payout: Payout, epoch: Epoch) -> str | None:
    ours = epoch.signature.tx_hash if epoch.signature else None
    inputs = [money.deposits[key] for key in epoch.inputs]
    if any(deposit.spent_by not in (None, ours) for deposit in inputs):
        return "spent_otherwise"
    if any(deposit.lost or not deposit.unlocked for deposit in inputs):
        return "input_lost"
    if epoch.proposal is None or epoch.signature is not None:
        return None
    export = money.exports.get(payout.cosigner)
    same = export is not None and export_serves(export, epoch) and export.digest == epoch.proposal.export_digest
    return None if same else "export_void"
