"""An escrow with people, seats, a small chain and a clock around it, and the promises that hold after every command."""

from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from domain import commands as c
from domain import events as e
from domain.backup import box_digest
from domain.commands import AnyCommand
from domain.decide import decide
from domain.difference import CHAIN_DIFFERS, Difference
from domain.difference import DifferenceCode as Code
from domain.events import FeeBand
from domain.evolve import fold
from domain.ids import Address, CaseId, KeyImage, Micros, OneTimeKey, Sealed, TurnId, TxHash, UserId, WalletId
from domain.money import Atomic
from domain.reconcile import Evidence, differences
from domain.refusals import Refused
from domain.roles import THREE, Role, SeatKind
from domain.setup import message_digest
from domain.shredding import unsettled_of
from domain.states import Escrow, money_of, name
from domain.steps import Round, Step
from domain.terms import FeeSettlement, Policy
from domain.turns import Turn, turn_of, turns
from tests.given import ADDRESS, AMOUNT, BUYER, HOUR, SECOND, START, USERS, add_evidence, terms
from tests.unit.escrow_promises import Promises
from tests.unit.small_chain import Chain

PLACEHOLDER = Address("41fJjQDhryD" + "1" * 84)
POLICY = Policy(epochs_max=2)
BACKUP_KEY, BOX = "ab" * 32, "c2VhbGVk"
DUST = 1_000_000_000
PAYMENTS = (AMOUNT, AMOUNT // 2, AMOUNT + 7_000_000_001, DUST // 2, DUST, DUST + 1, 30_000_000_000)
FEES = (2_632_800_000, 1, 100_000_000_000, 0, 100_000_000_001, DUST)
PEOPLE = (*USERS.values(), UserId("eve"))
UNASKED = (
    Step.COSIGN,
    Step.EXPORT,
    Step.KEY_IMAGES,
    Step.PROPOSE,
    Step.BROADCAST,
    Step.JOIN,
    Step.CLAIM_WALLET,
    Step.MAKE,
    Step.CONFIRM_ADDRESS,
)
HOURS = (0, 1, 2, 7, 13, 25, 49, 73, 169)


@dataclass
class World:
    """Gives commands to one escrow and watches that its promises hold."""

    seats: SeatKind = SeatKind.POOL
    amount: int = AMOUNT
    same_address: bool = False
    settlement: FeeSettlement | UnsetType = UNSET
    ready_s: int | UnsetType = UNSET
    backed_up: bool = False
    """Whether the terms ask for a backup of a hosted arbiter's wallet."""
    now: Micros = START
    chain: Chain = field(default_factory=Chain)
    events: list[e.AnyEvent] = field(default_factory=list)
    sent: list[AnyCommand] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    state: Escrow | None = None
    promises: Promises = field(default_factory=Promises)
    count: int = 0

    def __post_init__(self) -> None:
        key = BACKUP_KEY if self.backed_up else UNSET
        policy = replace(POLICY, fee_settlement=self.settlement, arbiter_ready_s=self.ready_s, arbiter_backup_key=key)
        order = terms(amount=self.amount, seats=self.seats, policy=policy)
        self.give(c.CreateEscrow(at=self.now, terms=order, by=BUYER))

    # -- one command -----------------------------------------------------------------------------------------

    def give(self, command: AnyCommand) -> tuple[e.AnyEvent, ...] | Refused:
        before = self.state
        answer = decide(before, command)
        if isinstance(answer, Refused):
            assert fold(self.events) == before
        else:
            self.events += answer
            self.state = fold(answer, start=before)
        assert self.state is not None
        self.reached |= {name(self.state)}
        self.promises.check(before, command, answer, self.state)
        return answer

    @property
    def live(self) -> Escrow:
        assert self.state is not None
        return self.state

    def fresh(self) -> str:
        self.count += 1
        return str(self.count)

    # -- people ----------------------------------------------------------------------------------------------

    def _word(self, by: UserId, n: int) -> AnyCommand:
        """One of the things that people say in a case."""
        case, at = self.live.core.case, self.now
        if n % 2:
            return c.AddClaim(at=at, by=by, claim=Sealed("other"))
        if n % 4 == 0:
            return c.AddMessage(at=at, by=by, message=Sealed("said"), reply_to=n // 2 or None)
        if case is not None and case.evidence and n % 3:
            return c.ShowEvidence(at=at, by=by, photo_id=case.evidence[-1].photo_id)
        return add_evidence(at=at, by=by, number=n)

    def person(self, who: int, what: int, n: int) -> None:
        by, at = PEOPLE[who % len(PEOPLE)], self.now
        number = max(1, self.live.core.offers_made - n % 2)
        bp = (0, 1, 3333, 5000, 9999, 10000, 10001, -1)[n % 8]
        self.give(
            (
                lambda: c.CancelEscrow(at=at, by=by),
                lambda: c.Ship(at=at, by=by),
                lambda: c.ConfirmDelivery(at=at, by=by),
                lambda: c.GrantRefund(at=at, by=by),
                lambda: c.OpenDispute(at=at, by=by, case_id=CaseId("case"), claim=Sealed("claim")),
                lambda: self._word(by, n),
                lambda: c.ReviewDispute(at=at, by=by),
                lambda: c.ResolveDispute(
                    at=at,
                    by=by,
                    verdict=tuple(e.Verdict)[n % 3],
                    buyer_share_bp=bp if n % 3 == 2 else None,
                    reason=Sealed("because" if n % 7 else ""),
                ),
                lambda: c.ProposeAgreement(at=at, by=by, buyer_share_bp=bp),
                lambda: c.ProposeAgreement(at=at, by=by, ship_until=Micros(at + (n - 2) * 30 * HOUR)),
                lambda: c.AcceptAgreement(at=at, by=by, number=number),
                lambda: c.WithdrawAgreement(at=at, by=by, number=number),
                lambda: self._address(by, n),
                lambda: c.ConsentAddress(at=at, by=by, role=THREE[n % 3]),
                lambda: c.RetryTransaction(at=at, by=by, notes=Sealed("notes")),
                lambda: c.NoteRecovery(
                    at=at,
                    by=by,
                    action=("contact_arbiter", "mark_investigated", "pay_me")[n % 3],
                    notes=Sealed("notes"),
                ),
            )[what % 16]()
        )

    def _address(self, by: UserId, n: int) -> AnyCommand:
        tag = "shared" if self.same_address else f"{by}-{n % 2}"
        return c.SetPayoutAddress(at=self.now, by=by, tag=tag, address=Sealed(self.fresh()), is_escrow_address=n == 7)

    def addresses(self) -> None:
        """Lets the three set their payout addresses, as most people do."""
        for user in USERS.values():
            self.give(self._address(user, 0))

    # -- seats -----------------------------------------------------------------------------------------------

    def seat(self, role: Role, manner: int, n: int) -> None:
        turn = turn_of(self.live, role)
        match manner % 8:
            case 0 | 1:
                self._take(role, turn, n)
            case 2:
                self._take(role, turn, n)
                self._repeat(1)
            case 3:
                self._repeat(n)
            case 4 if turn:
                self._intend(role, turn)
            case 5 if turn and n < 8:
                self.give(
                    c.FailTurn(at=self.now, role=role, step=turn.step, turn_id=turn.turn_id, reason=f"why-{n % 2}")
                )
            case 5:
                self._restore(role, n)
            case 6:
                self._unasked(role, n)
            case _:
                self._abandon(role, n)

    def rush(self, most: int) -> None:
        """Lets all seats take their turns honestly, one after the other."""
        for _ in range(most):
            asked = turns(self.live)
            if not asked:
                return
            self._take(asked[0].role, asked[0], 0)

    def _take(self, role: Role, turn: Turn | None, n: int) -> None:
        if turn is not None:
            command = self._result(role, turn, n)
            self.sent.append(command)
            self.give(command)

    def _repeat(self, back: int) -> None:
        if self.sent:
            self.give(self.sent[-1 - back % len(self.sent)] if back > 1 else self.sent[-1])

    def _intend(self, role: Role, turn: Turn) -> None:
        seat = self.live.core.seats.get(role)
        wallet = seat.wallet_id if seat else WalletId("none")
        self.give(c.IntendCall(at=self.now, role=role, step=turn.step, turn_id=turn.turn_id, wallet_id=wallet))

    def _unasked(self, role: Role, n: int) -> None:
        turn = Turn(role=role, step=UNASKED[n], turn_id=TurnId("unasked"), since=self.now)
        if money_of(self.live) is not None or turn.step not in UNASKED[:5]:
            self._take(role, turn, 0)

    def _result(self, role: Role, turn: Turn, n: int) -> AnyCommand:
        at = self.now
        match turn.step:
            case Step.JOIN:
                return c.JoinSeat(at=at, role=role, wallet_id=WalletId(f"w-{role}"), identity_key="key")
            case Step.CLAIM_WALLET:
                wallet = WalletId(f"w-{role}-{self.fresh()}")
                return c.ClaimWallet(at=at, role=role, wallet_id=wallet, identity_key="key", secrets=Sealed("s"))
            case Step.PREPARE | Step.MAKE | Step.EXCHANGE_1 | Step.EXCHANGE_2:
                text = f"{role}-{turn.step}-{self.fresh()}"
                return c.GiveSetupMessage(
                    at=at,
                    role=role,
                    round=Round(turn.step.value),
                    message=Sealed(text),
                    digest=message_digest(text),
                    signature="sig",
                )
            case Step.CONFIRM_ADDRESS if self._backup_is_due(role) and n != 1:
                box = Sealed(BOX if n != 2 else "")
                wallet, digest = self.live.core.seats[role].wallet_id, box_digest(BOX)
                return c.BackUpWallet(at=at, role=role, wallet_id=wallet, key=BACKUP_KEY, digest=digest, box=box)
            case Step.CONFIRM_ADDRESS:
                return self._confirmation(role, n)
            case _:
                return self._signing(role, turn.step, n)

    def _backup_is_due(self, role: Role) -> bool:
        core = self.live.core
        return core.terms.backup_key(role) is not None and role in core.seats and role not in core.backups

    def _restore(self, role: Role, n: int) -> None:
        seat = self.live.core.seats.get(role)
        wallet = seat.wallet_id if seat and n != 6 else WalletId("none")
        self.give(c.RestoreWallet(at=self.now, role=role, wallet_id=wallet, by=UserId("root")))

    def _confirmation(self, role: Role, n: int) -> AnyCommand:
        return c.ConfirmAddress(
            at=self.now,
            role=role,
            address={5: Address("other"), 6: PLACEHOLDER}.get(n, ADDRESS),
            threshold=1 if n == 7 else 2,
            total=3,
            ready=n != 4,
            signature="sig",
            view_key=Sealed("view"),
            view_key_tag="tag" if n != 3 else "other",
            height=90 + n,
        )

    def _signing(self, role: Role, step: Step, n: int) -> AnyCommand:
        at, money = self.now, money_of(self.live)
        assert money is not None
        payout = money.payout or (money.payouts[-1] if money.payouts else None)
        epoch = payout.epochs[-1] if payout and payout.epochs else None
        if step is Step.KEY_IMAGES:
            told = [*money.deposits, *([OneTimeKey("unknown")] if n == 7 else [])]
            return c.TellKeyImages(at=at, role=role, key_images={key: KeyImage(f"image-{key}") for key in told})
        if step is Step.EXPORT or payout is None or epoch is None:
            covers = [*money.deposits, *([OneTimeKey("unknown")] if n == 7 else [])]
            return c.GiveExport(
                at=at, role=role, export=Sealed("x"), digest=f"export-{self.fresh()}", covers=tuple(covers)
            )
        numbers = (payout.number, epoch.number)
        if step is Step.PROPOSE:
            export = money.exports.get(payout.cosigner)
            return c.GiveProposal(
                at=at,
                role=role,
                payout=numbers[0],
                epoch=numbers[1],
                tx_set=Sealed("set"),
                digest=f"set-{self.fresh()}",
                network_fee=Atomic(FEES[n % len(FEES)]),
                export_digest=export.digest if export and n != 6 else "none",
                key_images={key: KeyImage(f"image-{key}") for key in epoch.inputs[: 0 if n == 7 else None]},
            )
        if step is Step.COSIGN and epoch.fee_band is None and n > 3:
            band = FeeBand(Atomic(1), Atomic(FEES[n % len(FEES)]))
            return c.SetFeeBand(at=at, role=role, payout=numbers[0], epoch=numbers[1], band=band)
        if step is Step.COSIGN:
            return c.GiveSignature(
                at=at,
                role=role,
                payout=numbers[0],
                epoch=numbers[1],
                tx_hash=TxHash(f"signed-{numbers[0]}-{numbers[1]}"),
                signed=Sealed("signed"),
                digest="signed",
            )
        tx_hash = epoch.signature.tx_hash if epoch.signature and n != 7 else TxHash("none")
        return c.ReportBroadcast(at=at, role=role, payout=numbers[0], epoch=numbers[1], tx_hash=tx_hash)

    def _abandon(self, role: Role, n: int) -> None:
        money = money_of(self.live)
        payout = money.payout if money else None
        if payout and payout.epochs:
            reason = ("stale", "sign_unknown", "check_failed:fee")[n % 3]
            last = payout.epochs[-1].number
            self.give(c.AbandonEpoch(at=self.now, role=role, payout=payout.number, epoch=last, reason=reason))

    # -- chain and time --------------------------------------------------------------------------------------

    def move_chain(self, what: int, n: int, *, watched: bool) -> None:
        match what % 7:
            case 0:
                self.chain.pay(PAYMENTS[n % len(PAYMENTS)])
            case 1 | 2:
                self.chain.mine((1, 2, 9, 10, 11, 12, 20, 30)[n % 8])
            case 3:
                self.chain.fork((1, 2, 5, 11)[n % 4], drops=n > 3)
            case 4 | 5:
                self._spend_ours(n)
            case _ if n == 7:
                self._spend_foreign(n)
        if watched:
            self.observe()

    def _spend_ours(self, n: int) -> None:
        signed = self.promises.signed
        if signed:
            tx, inputs = list(signed.items())[-1 - (n % len(signed) if n > 5 else 0)]
            self.chain.spend(inputs, tx, change=self.promises.kept.get(tx, 0))

    def _spend_foreign(self, n: int) -> None:
        keys = [k for k in self.chain.outputs if k not in self.chain.spends]
        self.chain.spend(keys[: 1 + n % 2], f"foreign-{self.fresh()}")

    def observe(self) -> None:
        answer = self.give(self._seen())
        if not isinstance(answer, Refused):
            assert self.give(self._seen()) == (), "the same view twice"

    def _seen(self) -> c.ObserveChain:
        return c.ObserveChain(at=self.now, view=self.chain.view(), version=self.live.core.version)

    def compare_with_chain(self) -> None:
        """After a look at the chain the log knows exactly what is there."""
        money = money_of(self.live)
        if money is None:
            return
        known = {k: each for k, each in money.deposits.items() if not each.lost}
        there = self.chain.outputs
        assert {k: (each.amount, each.height) for k, each in known.items()} == there
        assert {k for k, each in known.items() if each.unlocked} == {k for k in there if self.chain.unlocked(k)}
        spent = {k: each.spent_by for k, each in known.items() if each.spent_by}
        assert spent == {k: tx for k, (tx, _) in self.chain.spends.items()}
        self._reconcile()

    def _reconcile(self) -> None:
        """Compares as an auditor does; what was found is told until it is gone."""
        spent = frozenset(OneTimeKey(k) for k, (_, height) in self.chain.spends.items() if height is not None)
        found = differences(self.live, Evidence(view=self.chain.view(), spent=spent))
        # What was never on this chain, what a fork took from under an end, and what a fork cut in two.
        assert {each.code for each in found} <= {Code.PAYOUT_NOT_SENT, Code.PAYOUT_NOT_FINAL, Code.SPEND_INPUTS}, found
        for told in ((Difference(code=Code.DEPOSIT_NOT_LOGGED, about="out"),), ()):
            version = self.live.core.version
            self.give(c.ReportComparison(at=self.now, height=1, differences=told, version=version))
            assert (CHAIN_DIFFERS in self.live.core.recovery) is bool(told)

    def pass_time(self, hours: int, *, outage: bool) -> None:
        before = self.now
        self.now = Micros(self.now + hours * HOUR + SECOND)
        self.give(c.PassTime(at=self.now, outages=((before, self.now),) if outage else ()))
        self.give(c.ReportArbiterReady(at=self.now, seen_at=before))

    def shred(self) -> None:
        """Asks for the secrets to go, as early as an operator may ever promise; nothing is possible afterwards."""
        self.give(c.ShredKey(at=self.now, by=UserId("root"), retention_days=0))
        if self.live.core.shredded_at is not None:
            refused = self.give(c.PassTime(at=self.now))
            assert isinstance(refused, Refused) and refused.code == "secrets_shredded"
            assert unsettled_of(self.live) is None and not turns(self.live)

    # -- what most lives do ----------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Does what brings an ordinary life further."""
        state = self.live
        if turns(state):
            return self.rush(6)
        match name(state):
            case "awaiting_funding":
                if not self.chain.outputs:
                    self.addresses()
                    self.give(c.ReportArbiterReady(at=self.now, seen_at=self.now))
                    self.chain.pay(self.amount)
                self.chain.mine(11)
                self.observe()
            case "funded":
                self.give(c.Ship(at=self.now, by=USERS[Role.VENDOR]))
            case "delivering":
                self.give(c.ConfirmDelivery(at=self.now, by=USERS[Role.BUYER]))
            case "disputed" if len(state.core.case.claims if state.core.case else ()) < 2:
                for by in USERS.values():
                    self.give(c.AddClaim(at=self.now, by=by, claim=Sealed("other")))
                    laid = add_evidence(at=self.now, by=by)
                    self.give(laid)
                    self.give(c.ShowEvidence(at=self.now, by=by, photo_id=laid.photo_id))
            case "disputed":
                self.give(
                    c.ResolveDispute(
                        at=self.now,
                        by=USERS[Role.ARBITER],
                        verdict=e.Verdict.REFUND,
                        buyer_share_bp=None,
                        reason=Sealed("r"),
                    )
                )
            case "completed" | "refunded" | "cancelled" if set(self.chain.outputs) <= set(self.chain.spends):
                self.chain.pay(self.amount)  # late, or once more
                self.chain.mine(11)
                self.observe()
                late = c.OpenDispute(at=self.now, by=USERS[Role.VENDOR], case_id=CaseId("late"), claim=Sealed("late"))
                self.give(late)
            case _:
                self._spend_ours(0)
                self.chain.mine(11)
                self.observe()

    def set_up(self) -> None:
        """Goes through an ordinary set-up and pay-in."""
        for _ in range(10):  # an amount below dust is never there
            if name(self.live) in ("pending", "setting_up", "awaiting_funding"):
                self.go_on()
