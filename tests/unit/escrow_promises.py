"""What holds after every command, judged from commands and events alone, by formulae of the tests' own."""

from dataclasses import dataclass, field

from domain import commands as c
from domain import events as e
from domain.commands import AnyCommand
from domain.deadlines import deadlines
from domain.evolve import fold
from domain.ids import OneTimeKey, UserId
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import PARTIES, Role
from domain.setup import is_placeholder, payin_address
from domain.states import TERMINAL, AwaitingFunding, Epoch, Escrow, Money, Payout, money_of
from domain.steps import Step
from domain.terms import FeeSettlement
from domain.turns import Awaited, awaited, turns
from schemas.codec import decode, encode
from tests.given import USERS

ROLES = {user: role for role, user in USERS.items()}


@dataclass
class Promises:
    """Remembers who said what, and checks each answer against it."""

    addresses: set[Role] = field(default_factory=set)
    confirmed: dict[Role, c.ConfirmAddress] = field(default_factory=dict)
    offers: dict[int, Role] = field(default_factory=dict)
    decided: dict[int, set[Role]] = field(default_factory=dict)
    """By payout: whose explicit command or turn wanted it."""
    signed: dict[str, tuple[OneTimeKey, ...]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    """By transaction: what it leaves at the escrow's address for the arbiter."""
    lost: dict[Role, set[str]] = field(default_factory=dict)
    """By seat: the exports of wallets that were lost and put back."""
    kinds: set[str] = field(default_factory=set)
    stages: set[int] = field(default_factory=set)
    arbiter_ready: bool = False

    def check(
        self, before: Escrow | None, command: AnyCommand, answer: tuple[e.AnyEvent, ...] | Refused, after: Escrow
    ) -> None:
        """Checks everything."""
        if isinstance(answer, Refused):
            assert after == before, "a refusal changed something"
            return
        self._listen(before, command, answer, after)
        for event in answer:
            self.kinds.add(str(event.__struct_config__.tag))
        self._kept(before, answer, after)
        self._money(answer, after)
        self._backups(before, answer)
        self._signatures(answer, after)
        self._cosign_turns(after)
        self._address(after)
        self._stages(answer)
        _ended(before, after)
        _goes_on(after)
        assert len([p for p in _payouts(after) if p.ended is None]) <= 1, "two payouts under way"

    # -- who said what ---------------------------------------------------------------------------------------

    def _listen(
        self, before: Escrow | None, command: AnyCommand, answer: tuple[e.AnyEvent, ...], after: Escrow
    ) -> None:
        role = ROLES.get(getattr(command, "by", UserId("")))
        said = {role} if role else set()
        match command:
            case c.SetPayoutAddress() if role:
                self.addresses.add(role)
            case c.ConfirmAddress():
                self.confirmed[command.role] = command
            case c.ReportArbiterReady() if answer:
                within_s = after.core.terms.policy.arbiter_ready_s
                assert within_s and command.at - command.seen_at <= within_s * 1_000_000, "not seen lately enough"
                self.arbiter_ready = True
            case c.ProposeAgreement() if role:
                self.offers[next(event.number for event in answer if isinstance(event, e.AgreementProposed))] = role
            case c.AcceptAgreement():
                said.add(self.offers[command.number])
            case c.ConfirmDelivery() if role:
                payout = _running(before)
                self.decided.setdefault(payout.number if payout else 0, set()).add(role)
            case c.GiveProposal():
                self.decided.setdefault(command.payout, set()).add(command.role)
            case _:
                pass
        for event in answer:
            if isinstance(event, e.PayoutOpened):
                self.decided[event.number] = said
                if event.purpose is e.Purpose.FEE:  # the ruling said that the arbiter is paid
                    ruling = next(each for each in _payouts(after) if each.purpose is e.Purpose.RULING)
                    self.decided[event.number] = self.decided[ruling.number] & {Role.ARBITER}
            if isinstance(event, e.PayoutSigned):
                payout, epoch = _signed_in(after, event)
                self.signed[event.tx_hash] = epoch.inputs
                self.kept[event.tx_hash] = _kept(after, payout, epoch)

    # -- what holds ------------------------------------------------------------------------------------------

    def _kept(self, before: Escrow | None, answer: tuple[e.AnyEvent, ...], after: Escrow) -> None:
        read = []
        for event in answer:
            kept = encode(event)
            read.append(decode(type=kept.type, schema_version=kept.schema_version, body=kept.body))
        assert tuple(read) == answer, "an event is not read as it was written"
        assert fold(read, start=before) == after, "the log tells another story"

    def _money(self, answer: tuple[e.AnyEvent, ...], after: Escrow) -> None:
        money = money_of(after)
        for event in answer:
            if isinstance(event, e.PayoutProposed):
                assert money is not None
                payout = next(each for each in money.payouts if each.number == event.payout)
                epoch = next(each for each in payout.epochs if each.number == event.epoch)
                inputs = sum(money.deposits[key].amount for key in epoch.inputs)
                kept, paid = _kept(after, payout, epoch), sum(share.amount for share in event.shares)
                assert paid + kept + event.network_fee == inputs, "money made or lost"
                of_arbiter = {money.deposits[key].tx_hash in self.kept for key in epoch.inputs}
                assert of_arbiter == {payout.purpose is e.Purpose.FEE}, "paid with somebody else's money"
                assert all(share.amount > 0 for share in event.shares)
                receivers = [role for share in event.shares for role in share.roles]
                assert len(receivers) == len(set(receivers))
                ruled = payout.purpose in (e.Purpose.RULING, e.Purpose.FEE)
                assert ruled or Role.ARBITER not in receivers, "a fee without a ruling"
                _as_decided(after, payout, event, inputs, kept=kept)

    def _signatures(self, answer: tuple[e.AnyEvent, ...], after: Escrow) -> None:
        for event in answer:
            if isinstance(event, e.PayoutSigned):
                payout = next(each for each in _payouts(after) if each.number == event.payout)
                proposal = next(each for each in payout.epochs if each.number == event.epoch).proposal
                assert proposal is not None
                pair = (proposal.proposer, payout.cosigner)
                assert set(pair) <= self.decided[event.payout], "signed without the word of both"
                assert proposal.export_digest not in self.lost.get(payout.cosigner, ()), "signed with what was lost"
                assert _right_pair(payout, pair), pair

    def _backups(self, before: Escrow | None, answer: tuple[e.AnyEvent, ...]) -> None:
        money = money_of(before) if before else None
        for event in answer:
            if isinstance(event, e.AddressConfirmed) and before and before.core.terms.backup_key(event.role):
                assert event.role in before.core.backups, "an address before the backup"
            if isinstance(event, e.WalletBackedUp):
                assert before is not None and event.role not in before.core.backups, "backed up twice"
            if isinstance(event, e.WalletRestored) and money and event.role in money.exports:
                self.lost.setdefault(event.role, set()).add(money.exports[event.role].digest)

    def _cosign_turns(self, after: Escrow) -> None:
        payout, case = _running(after), after.core.case
        for turn in turns(after):
            if turn.step is Step.COSIGN:
                assert payout is not None
                assert turn.role is payout.cosigner
                assert turn.role in self.decided[payout.number], "asked to sign before it decided"
                assert case is None or not case.undecided, "a dispute is open"
                if case is not None and case.decided_at is not None and not case.over:
                    assert payout.purpose is e.Purpose.RULING, "not what the arbiter ruled"

    def _address(self, after: Escrow) -> None:
        money, shown = money_of(after), payin_address(after)
        if money is None:
            assert shown is None
            return
        reported = {
            (each.address, each.view_key_tag, each.threshold, each.total, each.ready)
            for each in self.confirmed.values()
        }
        assert len(self.confirmed) == 3
        assert len(reported) == 1, "the three differ"
        assert not is_placeholder(money.address)
        assert reported.pop()[0] == money.address
        terms = after.core.terms
        there = [0 if each.lost else each.amount for each in money.deposits.values()]
        paid = sum(amount for amount in there if amount > terms.policy.dust_atomic) >= terms.amount
        waits = isinstance(after, AwaitingFunding) and not paid and not self.arbiter_ready
        ready = not waits or not terms.policy.arbiter_ready_s
        assert (shown is not None) == (set(PARTIES) <= self.addresses and ready)

    def _stages(self, answer: tuple[e.AnyEvent, ...]) -> None:
        announced = [event for event in answer if isinstance(event, e.StuckStageReached) and event.announce]
        assert len(announced) <= 1, "only the highest stage is announced"
        for event in answer:
            if isinstance(event, e.StuckStageReached):
                assert event.stage not in self.stages, "a stage fired twice"
                self.stages.add(event.stage)
            elif not isinstance(event, e.NO_ACTIVITY):
                self.stages.clear()


def _payouts(state: Escrow | None) -> tuple[Payout, ...]:
    money = money_of(state) if state else None
    return money.payouts if money else ()


def _running(state: Escrow | None) -> Payout | None:
    return next((payout for payout in _payouts(state) if payout.ended is None), None)


def _right_pair(payout: Payout, pair: tuple[Role, Role]) -> bool:
    proposer, cosigner = pair
    match payout.purpose:
        case e.Purpose.RELEASE:
            return pair == (Role.VENDOR, Role.BUYER)
        case e.Purpose.REFUND:
            return pair == (Role.BUYER, Role.VENDOR)
        case e.Purpose.RULING | e.Purpose.FEE:
            return proposer in PARTIES and cosigner is Role.ARBITER
        case e.Purpose.AGREEMENT:
            return set(pair) == set(PARTIES)


def _signed_in(state: Escrow, event: e.PayoutSigned) -> tuple[Payout, Epoch]:
    payout = next(each for each in _payouts(state) if each.number == event.payout)
    return payout, next(each for each in payout.epochs if each.number == event.epoch)


def _kept(state: Escrow, payout: Payout, epoch: Epoch) -> int:
    """Computes what has to stay at the address: the fee, where it is swept afterwards and worth it."""
    terms, money, proposal = state.core.terms, money_of(state), epoch.proposal
    assert money is not None and proposal is not None
    if payout.purpose is not e.Purpose.RULING or terms.policy.fee_settlement is not FeeSettlement.SWEEP:
        return 0
    fee, dust = terms.amount * 2 // 100, terms.policy.dust_atomic
    left = sum(money.deposits[key].amount for key in epoch.inputs) - proposal.network_fee - fee
    return fee if fee > dust + proposal.network_fee and left > dust else 0


def _as_decided(state: Escrow, payout: Payout, event: e.PayoutProposed, inputs: int, *, kept: int) -> None:
    """Compares the shares with the decision, where no share is so small that it has to join another."""
    terms, rest = state.core.terms, inputs - event.network_fee
    if payout.purpose is e.Purpose.FEE:
        assert event.shares == (e.Share(roles=(Role.ARBITER,), amount=Atomic(rest)),)
        return
    fee = min(terms.amount * 2 // 100, rest) if payout.purpose is e.Purpose.RULING else 0
    left = rest - fee
    released = payout.purpose is e.Purpose.RELEASE or (payout.purpose is e.Purpose.RULING and payout.surplus_to_buyer)
    surplus = inputs - terms.amount
    if released and surplus > terms.policy.dust_atomic:
        buyer = min(surplus, left)
    else:
        buyer = left * payout.buyer_share_bp // 10_000
    parts = {Role.BUYER: buyer, Role.VENDOR: left - buyer, Role.ARBITER: fee - kept}
    if any(0 < part <= terms.policy.dust_atomic for part in parts.values()):
        return
    wanted: dict[str, int] = {}
    for role, part in parts.items():
        if part:
            tag = state.core.addresses[role].tag
            wanted[tag] = wanted.get(tag, 0) + part
    paid = {state.core.addresses[share.roles[0]].tag: share.amount for share in event.shares}
    assert paid == wanted


def _ended(before: Escrow | None, after: Escrow) -> None:
    if isinstance(before, TERMINAL):
        assert type(after) is type(before), "an end is an end"
        assert getattr(after, "outcome", None) == getattr(before, "outcome", None)
        case = after.core.case
        assert not deadlines(after) or (case is not None and case.late and case.undecided)


def _goes_on(after: Escrow) -> None:
    waits = awaited(after)
    assert waits or isinstance(after, TERMINAL), "nobody is awaited"
    assert all(isinstance(wait.who, (Role, Awaited)) for wait in waits)


def spent_once(money: Money) -> bool:
    """Says whether no deposit is held for spent by two transactions."""
    return all(
        sum(key in spend.inputs and not spend.lost for spend in money.spends.values()) <= 1 for key in money.deposits
    )
