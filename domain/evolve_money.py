"""How events change an escrow's wallet: deposits, spends, exports, payouts and their epochs."""

from typing import assert_never

from msgspec.structs import replace

from domain import events as e
from domain.ids import KeyImage, OneTimeKey, TxHash
from domain.roles import Role
from domain.states import (
    AwaitingFunding,
    Completed,
    Core,
    Deposit,
    Epoch,
    Escrow,
    Export,
    ExportState,
    Funded,
    Money,
    Payout,
    Proposal,
    Refunded,
    Signature,
    Spend,
    money_of,
)

# -- the chain -----------------------------------------------------------------------------------------------

ChainEvent = (
    e.DepositSeen | e.DepositConfirmed | e.DepositUnlocked | e.DepositLost | e.DepositReturned | e.Funded
    | e.FundingLost | e.SpendSeen | e.SpendConfirmed | e.SpendFinal | e.SpendLost
)  # fmt: skip
"""What the chain shows."""


def chain_part(state: Escrow, event: ChainEvent) -> Escrow | None:
    """Applies what the chain shows; None where it cannot be."""
    money = money_of(state)
    if money is None:
        return None
    match state, event:
        case _, e.DepositSeen():
            deposit = Deposit(one_time_key=event.one_time_key, tx_hash=event.tx_hash, amount=event.amount)
            return with_money(state, replace(money, deposits=money.deposits | {event.one_time_key: deposit}))
        case _, e.DepositConfirmed():
            return _with_deposit(state, money, event.one_time_key, height=event.height)
        case _, e.DepositUnlocked():
            return _with_deposit(state, money, event.one_time_key, unlocked=True)
        case _, e.DepositLost():
            return _with_deposit(state, _exports_cut(money, event), event.one_time_key, lost=True)
        case _, e.DepositReturned():
            return _with_deposit(state, money, event.one_time_key, lost=False)
        case AwaitingFunding(), e.Funded():
            return Funded(core=state.core, money=money)
        case Funded(), e.FundingLost():
            return AwaitingFunding(core=state.core, money=money)
        case _, e.SpendSeen():
            return with_money(state, _spent(money, event))
        case _, e.SpendConfirmed():
            return _with_spend(state, money, event.tx_hash, height=event.height)
        case _, e.SpendFinal():
            return _with_spend(state, money, event.tx_hash, final=True)
        case _, e.SpendLost():
            return with_money(state, _unspent(money, event.tx_hash))
        case _:
            return None


def _with_deposit(
    state: Escrow,
    money: Money,
    key: OneTimeKey,
    *,
    height: int | None = None,
    unlocked: bool = False,
    lost: bool = False,
) -> Escrow:
    before = money.deposits[key]
    kept = before.height if unlocked else height
    after = replace(before, height=kept, unlocked=unlocked, lost=lost)
    return with_money(state, replace(money, deposits=money.deposits | {key: after}))


def _exports_cut(money: Money, event: e.DepositLost) -> Money:
    # A reorg at or below an output kills the nonces made for it: the cosigner would get -35 (measured).
    if not event.was_confirmed:
        return money
    exports = {
        role: replace(export, state=ExportState.VOID)
        if event.one_time_key in export.covers and not export.void
        else export
        for role, export in money.exports.items()
    }
    return replace(money, exports=exports)


def _spent(money: Money, event: e.SpendSeen) -> Money:
    spend = Spend(tx_hash=event.tx_hash, inputs=event.inputs, facts=event.facts)
    marked = {key: replace(money.deposits[key], spent_by=event.tx_hash) for key in event.inputs}
    return replace(money, deposits=money.deposits | marked, spends=money.spends | {event.tx_hash: spend})


def _unspent(money: Money, tx_hash: TxHash) -> Money:
    spend = money.spends[tx_hash]
    freed = {
        key: replace(deposit, spent_by=None) for key, deposit in money.deposits.items() if deposit.spent_by == tx_hash
    }
    lost = replace(spend, lost=True, height=None)
    after = replace(money, deposits=money.deposits | freed, spends=money.spends | {tx_hash: lost})
    payout = after.payout
    epoch = payout.epoch if payout else None
    if epoch and epoch.signature and epoch.signature.tx_hash == tx_hash:
        return with_epoch(after, replace(epoch, broadcast=False))  # handed to the network once more
    return after


def _with_spend(
    state: Escrow, money: Money, tx_hash: TxHash, *, height: int | None = None, final: bool = False
) -> Escrow:
    before = money.spends[tx_hash]
    after = replace(before, height=before.height if height is None else height, final=final)
    return with_money(state, replace(money, spends=money.spends | {tx_hash: after}))


# -- signing -------------------------------------------------------------------------------------------------

SigningEvent = (
    e.ExportGiven | e.KeyImagesTold | e.PayoutOpened | e.PayoutApproved | e.PayoutDropped | e.EpochOpened
    | e.PayoutProposed | e.FeeBandSet | e.PayoutSigned | e.PayoutBroadcast | e.EpochAbandoned | e.EscrowCompleted
    | e.EscrowRefunded | e.LeftoverPaid | e.ArbiterFeePaid
)  # fmt: skip
"""How money is moved: exports, payouts, epochs, and their ends."""


def signing_part(state: Escrow, event: SigningEvent) -> Escrow | None:
    """Applies exports, payouts and epochs; None where they cannot be."""
    money = money_of(state)
    if money is None:
        return None
    match event:
        case e.ExportGiven():
            return took_turn(state, _exported(money, event), event.role)
        case e.KeyImagesTold():
            known = replace(money, key_images=event.key_images | money.key_images)
            return took_turn(state, known, event.role)
        case e.PayoutOpened():
            return with_money(state, replace(money, payouts=(*money.payouts, _new_payout(event))))
        case e.PayoutApproved() if money.payout:
            consents = money.payout.consents | {event.by}
            return with_money(state, with_payout(money, replace(money.payout, consents=consents)))
        case e.PayoutDropped() if money.payout:
            return with_money(state, with_payout(money, replace(money.payout, ended=event.reason)))
        case e.EpochOpened() if money.payout:
            epoch = Epoch(number=event.number, inputs=event.inputs, since=event.at)
            epochs = (*money.payout.epochs, epoch)
            return with_money(state, with_payout(money, replace(money.payout, epochs=epochs)))
        case e.PayoutProposed():
            return took_turn(state, _proposed(money, event), event.proposer)
        case e.FeeBandSet():
            judging = replace(epoch_of(money, event.payout, event.epoch), fee_band=event.band)
            return with_money(state, with_epoch(money, judging, payout=event.payout))
        case e.PayoutSigned():
            return took_turn(state, _signed(money, event), payout_of(money, event.payout).cosigner)
        case e.PayoutBroadcast():
            epoch = epoch_of(money, event.payout, event.epoch)
            sent = with_epoch(money, replace(epoch, broadcast=True, sent=epoch.sent + 1), payout=event.payout)
            return took_turn(state, sent, payout_of(money, event.payout).cosigner)
        case e.EpochAbandoned():
            after = _abandoned(money, event)
            return took_turn(state, after, event.by) if event.by else with_money(state, after)
        case e.EscrowCompleted() | e.EscrowRefunded() | e.LeftoverPaid() | e.ArbiterFeePaid():
            return _paid(state, money, event)
        case _:
            return None


def _exported(money: Money, event: e.ExportGiven) -> Money:
    before = money.exports.get(event.role)
    export = Export(
        sealed=event.export,
        digest=event.digest,
        covers=frozenset(event.covers),
        number=before.number + 1 if before else 1,
    )
    given = money.exports_given | {event.digest}
    return replace(money, exports=money.exports | {event.role: export}, exports_given=given)


def _new_payout(event: e.PayoutOpened) -> Payout:
    return Payout(
        number=event.number,
        purpose=event.purpose,
        proposers=event.proposers,
        cosigner=event.cosigner,
        buyer_share_bp=event.buyer_share_bp,
        surplus_to_buyer=event.surplus_to_buyer,
        fee_atomic=event.fee_atomic,
        consents=frozenset(event.consents),
        since=event.at,
    )


def _proposed(money: Money, event: e.PayoutProposed) -> Money:
    proposal = Proposal(
        proposer=event.proposer,
        tx_set=event.tx_set,
        digest=event.digest,
        network_fee=event.network_fee,
        shares=event.shares,
        export_digest=event.export_digest,
        inputs_atomic=event.inputs_atomic,
    )
    epoch = replace(epoch_of(money, event.payout, event.epoch), proposal=proposal, since=event.at)
    payout = payout_of(money, event.payout)
    known: dict[OneTimeKey, KeyImage] = event.key_images | money.key_images
    consented = with_payout(money, replace(payout, consents=payout.consents | {event.proposer}))
    return replace(with_epoch(consented, epoch, payout=event.payout), key_images=known)


def _signed(money: Money, event: e.PayoutSigned) -> Money:
    signature = Signature(tx_hash=event.tx_hash, sealed=event.signed, digest=event.digest)
    epoch = replace(epoch_of(money, event.payout, event.epoch), signature=signature, since=event.at)
    # One export makes one signature: the wallet answers -35 to a second one.
    signed = with_epoch(money, epoch, payout=event.payout)
    return export_ended(signed, payout_of(money, event.payout).cosigner, ExportState.CONSUMED)


def _abandoned(money: Money, event: e.EpochAbandoned) -> Money:
    epoch = replace(epoch_of(money, event.payout, event.number), ended=event.reason)
    after = with_epoch(money, epoch, payout=event.payout)
    if not event.export_void:
        return after
    return export_ended(after, payout_of(money, event.payout).cosigner, ExportState.VOID)


def export_ended(money: Money, role: Role, state: ExportState) -> Money:
    """Gives a seat's current export, if it has one, the state in which it serves nothing more."""
    export = money.exports.get(role)
    if export is None or export.void:
        return money
    return replace(money, exports=money.exports | {role: replace(export, state=state)})


def _paid(
    state: Escrow, money: Money, event: e.EscrowCompleted | e.EscrowRefunded | e.LeftoverPaid | e.ArbiterFeePaid
) -> Escrow:
    payout = money.payout
    done = money if payout is None else with_payout(money, replace(payout, ended=_how_ended(payout, event.tx_hash)))
    match event:
        case e.EscrowCompleted():
            return Completed(core=state.core, money=done, outcome=event.outcome, tx_hash=event.tx_hash)
        case e.EscrowRefunded():
            return Refunded(core=state.core, money=done, tx_hash=event.tx_hash)
        case e.LeftoverPaid() | e.ArbiterFeePaid():
            return with_money(state, done)
        case _:
            assert_never(event)


def _how_ended(payout: Payout, tx_hash: TxHash) -> str:
    return "final" if tx_hash in payout.signed else "overtaken"


# -- small replacements --------------------------------------------------------------------------------------


def with_core(state: Escrow, core: Core) -> Escrow:
    """Replaces what every state knows."""
    return replace(state, core=core)


def with_money(state: Escrow, money: Money) -> Escrow:
    """Replaces the escrow's wallet; only of a state that has one."""
    return replace(state, money=money)


def took_turn(state: Escrow, money: Money, role: Role) -> Escrow:
    """Replaces the wallet and settles what its seat had announced."""
    return with_core(with_money(state, money), turn_taken(state.core, role))


def turn_taken(core: Core, role: Role) -> Core:
    """Forgets a seat's announced call and its last failure."""
    if role not in core.intents and role not in core.failures:
        return core
    intents = {other: intent for other, intent in core.intents.items() if other is not role}
    failures = {other: reason for other, reason in core.failures.items() if other is not role}
    return replace(core, intents=intents, failures=failures)


def with_payout(money: Money, payout: Payout) -> Money:
    """Replaces the payout of the same number."""
    return replace(money, payouts=tuple([payout if each.number == payout.number else each for each in money.payouts]))


def payout_of(money: Money, number: int) -> Payout:
    """Finds a payout; raises `KeyError` when there is none."""
    for payout in money.payouts:
        if payout.number == number:
            return payout
    raise KeyError(number)


def epoch_of(money: Money, payout: int, number: int) -> Epoch:
    """Finds an epoch of a payout; raises `KeyError` when there is none."""
    for epoch in payout_of(money, payout).epochs:
        if epoch.number == number:
            return epoch
    raise KeyError(number)


def with_epoch(money: Money, epoch: Epoch, *, payout: int | None = None) -> Money:
    """Replaces the epoch of the same number, of the latest payout unless one is named."""
    owner = payout_of(money, payout) if payout is not None else money.payouts[-1]
    epochs = tuple([epoch if each.number == epoch.number else each for each in owner.epochs])
    return with_payout(money, replace(owner, epochs=epochs))
