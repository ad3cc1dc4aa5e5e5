"""given(events).when(command).then(events) / .refused(code), and ready-made lives up to each state."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from domain import commands as c
from domain import events as e
from domain.chain import ChainView, SeenOutput, SeenSpend
from domain.commands import AnyCommand
from domain.decide import decide
from domain.events import AnyEvent
from domain.evolve import fold
from domain.ids import (
    Address,
    Cid,
    EscrowId,
    KeyImage,
    Micros,
    OneTimeKey,
    OrderId,
    PhotoId,
    Sealed,
    TxHash,
    UserId,
    WalletId,
)
from domain.money import Atomic
from domain.refusals import Refused
from domain.roles import THREE, Role, SeatKind
from domain.setup import message_digest
from domain.states import Escrow, Money, money_of
from domain.steps import ROUNDS, Round, Step
from domain.terms import Policy, Terms
from domain.turns import turn_of

BUYER, VENDOR, ARBITER = UserId("alice"), UserId("bob"), UserId("judy")
USERS = {Role.BUYER: BUYER, Role.VENDOR: VENDOR, Role.ARBITER: ARBITER}
AMOUNT = Atomic(2_000_000_000_000)
ADDRESS = Address("47ZJB4B5j9tjnq6VbYu8sMHamSQYoM6QgbWs28JQL17iKVr2iVztbtobP1XxNZe4LmSF9Xp3NniUJbnWVcFZ5FeFBw2j9Qa")
NETWORK_FEE = Atomic(2_632_800_000)
"""Recorded for two destinations at priority 1 on a private chain, wallet 0.18.0.0."""
START = Micros(1_795_000_000_000_000)
SECOND = 1_000_000
HOUR = 3_600 * SECOND


def terms(*, amount: int = AMOUNT, seats: SeatKind = SeatKind.POOL, policy: Policy | None = None) -> Terms:
    """The terms of an order between alice and bob with judy as arbiter."""
    return Terms(
        escrow_id=EscrowId("esc_1"),
        order_id=OrderId("order-1"),
        buyer_id=BUYER,
        vendor_id=VENDOR,
        arbiter_id=ARBITER,
        amount=Atomic(amount),
        network="regtest",
        seats=dict.fromkeys(THREE, seats),
        policy=policy or Policy(),
    )


def add_evidence(*, at: Micros, by: UserId, number: int = 1) -> c.AddEvidence:
    """A picture laid before the arbiter; equal numbers are equal pictures of whoever lays them."""
    return c.AddEvidence(
        at=at,
        by=by,
        photo_id=PhotoId(f"photo-{by}-{number}"),
        cid=Cid(f"cid-{number}"),
        sha256=f"hash-{number}",
        media_type="image/jpeg",
        size=1_000,
        width=40,
        height=30,
        description=Sealed(f"picture {number}"),
    )


@dataclass
class Life:
    """One escrow driven by commands; `refused` commands change nothing."""

    events: list[AnyEvent] = field(default_factory=list)
    now: Micros = START
    answer: tuple[AnyEvent, ...] | Refused = ()
    counter: Iterable[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def state(self) -> Escrow:
        state = fold(self.events)
        assert state is not None
        return state

    @property
    def money(self) -> Money:
        money = money_of(self.state)
        assert money is not None
        return money

    def when(self, command: AnyCommand) -> "Life":
        """Gives a command to the escrow as it is now."""
        self.answer = decide(fold(self.events), command)
        if not isinstance(self.answer, Refused):
            self.events += self.answer
        return self

    def then(self, *kinds: type[AnyEvent]) -> "Life":
        """Checks the kinds of the events that the last command led to, in order."""
        assert not isinstance(self.answer, Refused), self.answer
        assert tuple(type(event) for event in self.answer) == kinds
        return self

    def then_among(self, kind: type[AnyEvent]) -> "Life":
        """Checks that the last command led to an event of this kind."""
        assert not isinstance(self.answer, Refused), self.answer
        assert kind in [type(event) for event in self.answer], self.answer
        return self

    def refused(self, code: str) -> "Life":
        """Checks that the last command was refused with this code."""
        assert isinstance(self.answer, Refused), self.answer
        assert self.answer.code == code, self.answer
        return self

    def later(self, seconds: float) -> "Life":
        """Lets time go by without telling the escrow."""
        self.now = Micros(self.now + int(seconds * SECOND))
        return self

    def passes(self, seconds: float, *, outages: tuple[tuple[Micros, Micros], ...] = ()) -> "Life":
        """Lets time go by and asks for what is due."""
        self.later(seconds)
        return self.when(c.PassTime(at=self.now, outages=outages))

    def sees(self, view: ChainView) -> "Life":
        """Shows the chain to the escrow."""
        return self.when(c.ObserveChain(at=self.now, view=view, version=self.state.core.version))

    def give_export(self, role: Role, *, covers: Iterable[OneTimeKey] | None = None) -> "Life":
        """Lets a seat hand out a fresh export of all known deposits."""
        covered = tuple(self.money.deposits if covers is None else covers)
        digest = f"export-{role}-{len(self.events)}"
        return self.when(c.GiveExport(at=self.now, role=role, export=Sealed("x"), digest=digest, covers=covered))

    def tell_key_images(self, role: Role, *, of: Iterable[OneTimeKey] | None = None) -> "Life":
        """Lets a seat tell the key images of all known deposits."""
        told = {key: KeyImage(f"image-{key}") for key in (self.money.deposits if of is None else of)}
        return self.when(c.TellKeyImages(at=self.now, role=role, key_images=told))

    def give_proposal(self, role: Role, *, network_fee: int = NETWORK_FEE) -> "Life":
        """Lets a seat hand out a transaction set for the running epoch."""
        payout = self.money.payout
        assert payout and payout.epoch
        return self.when(
            c.GiveProposal(
                at=self.now,
                role=role,
                payout=payout.number,
                epoch=payout.epoch.number,
                tx_set=Sealed("set"),
                digest="set",
                network_fee=Atomic(network_fee),
                export_digest=self.money.exports[payout.cosigner].digest,
                key_images={key: KeyImage(f"image-{key}") for key in payout.epoch.inputs},
            )
        )

    def give_signature(self, role: Role, *, tx_hash: str = "payout-tx") -> "Life":
        """Lets the cosigner report its signature."""
        payout = self.money.payout
        assert payout and payout.epoch
        return self.when(
            c.GiveSignature(
                at=self.now,
                role=role,
                payout=payout.number,
                epoch=payout.epoch.number,
                tx_hash=TxHash(tx_hash),
                signed=Sealed("signed"),
                digest="signed",
            )
        )

    def broadcasts(self, role: Role, *, tx_hash: str = "payout-tx") -> "Life":
        """Lets the cosigner report that the network took the transaction."""
        payout = self.money.payout
        assert payout and payout.epoch
        return self.when(
            c.ReportBroadcast(
                at=self.now, role=role, payout=payout.number, epoch=payout.epoch.number, tx_hash=TxHash(tx_hash)
            )
        )

    def fails(self, role: Role, *, reason: str = "wallet_behind") -> "Life":
        """Lets a seat report that it could not take its present turn."""
        turn = turn_of(self.state, role)
        assert turn is not None
        return self.when(c.FailTurn(at=self.now, role=role, step=turn.step, turn_id=turn.turn_id, reason=reason))

    def intends(self, role: Role) -> "Life":
        """Lets a seat announce the wallet call of its present turn."""
        turn = turn_of(self.state, role)
        assert turn is not None
        return self.when(
            c.IntendCall(
                at=self.now,
                role=role,
                step=turn.step,
                turn_id=turn.turn_id,
                wallet_id=self.state.core.seats[role].wallet_id,
            )
        )


def given(*events: AnyEvent) -> Life:
    """Starts from events that happened."""
    life = Life(events=list(events))
    if events:
        life.now = events[-1].at
    return life


def created(**changes: object) -> Life:
    """An escrow that was just created; hosted seats are setting up at once."""
    return Life().when(c.CreateEscrow(at=START, terms=terms(**changes), by=BUYER))  # type: ignore[arg-type]


def with_addresses(life: Life, *roles: Role) -> Life:
    """Lets the three (or those named) say where their money goes."""
    for role in roles or THREE:
        life.when(c.SetPayoutAddress(at=life.now, by=USERS[role], tag=f"tag-{role}", address=Sealed(f"sealed-{role}")))
    return life


def claim(life: Life, role: Role) -> Life:
    """Gives a hosted seat its wallet."""
    return life.when(
        c.ClaimWallet(
            at=life.now, role=role, wallet_id=WalletId(f"wallet-{role}"), identity_key="key", secrets=Sealed("s")
        )
    )


def give_message(life: Life, role: Role, round_: Round) -> Life:
    """Lets a seat end a round."""
    text = f"{role}-{round_}"
    return life.when(
        c.GiveSetupMessage(
            at=life.now,
            role=role,
            round=round_,
            message=Sealed(text),
            digest=message_digest(text),
            signature="sig",
        )
    )


def confirm(life: Life, role: Role, **changes: object) -> Life:
    """Lets a seat report the address it arrived at."""
    facts: dict[str, object] = {
        "at": life.now,
        "role": role,
        "address": ADDRESS,
        "threshold": 2,
        "total": 3,
        "ready": True,
        "signature": "sig",
        "view_key": Sealed("view"),
        "view_key_tag": "view-tag",
        "height": 100,
    }
    return life.when(c.ConfirmAddress(**(facts | changes)))  # type: ignore[arg-type]


def all_rounds(life: Life) -> Life:
    """Brings a set-up to the point where only the address is to be confirmed."""
    for role in THREE:
        claim(life, role)
    for round_ in ROUNDS:
        for role in THREE:
            give_message(life, role, round_)
    return life


def awaiting_funding(**changes: object) -> Life:
    """An escrow with an agreed address and all payout addresses."""
    life = all_rounds(with_addresses(created(**changes)))
    for role in THREE:
        confirm(life, role)
    return life


def output(key: str = "out-1", *, amount: int = AMOUNT, height: int | None = 101, unlocked: bool = True) -> SeenOutput:
    """One deposit as the chain shows it."""
    return SeenOutput(
        one_time_key=OneTimeKey(key),
        tx_hash=TxHash(f"tx-{key}"),
        amount=Atomic(amount),
        height=height,
        unlocked=unlocked,
    )


def view(*outputs: SeenOutput, height: int = 111, spends: tuple[SeenSpend, ...] = ()) -> ChainView:
    """The chain at a height."""
    return ChainView(height=height, outputs=outputs, spends=spends)


def spend(key: str = "out-1", *, tx_hash: str = "payout-tx", height: int | None = 120) -> SeenSpend:
    """One deposit used as an input."""
    return SeenSpend(one_time_key=OneTimeKey(key), tx_hash=TxHash(tx_hash), height=height)


def funded(*outputs: SeenOutput, **changes: object) -> Life:
    """An escrow whose deposits are unlocked, whose seats' exports are in and whose key images are known."""
    life = awaiting_funding(**changes).sees(view(*(outputs or (output(),))))
    for role in THREE:
        life.give_export(role)
    return life.tell_key_images(Role.VENDOR)


def delivering(**changes: object) -> Life:
    """An escrow whose vendor shipped and proposed the release."""
    life = funded(**changes)
    return life.when(c.Ship(at=life.now, by=VENDOR)).give_proposal(Role.VENDOR)


def releasing(**changes: object) -> Life:
    """An escrow whose buyer confirmed the delivery."""
    life = delivering(**changes)
    return life.when(c.ConfirmDelivery(at=life.now, by=BUYER))


def disputed(**changes: object) -> Life:
    """An escrow whose buyer asked for the arbiter after shipping."""
    life = delivering(**changes)
    return life.when(c.OpenDispute(at=life.now, by=BUYER, case_id="case-1", claim=Sealed("claim")))  # type: ignore[arg-type]


def completed(**changes: object) -> Life:
    """An escrow whose release is final."""
    life = releasing(**changes).give_signature(Role.BUYER).broadcasts(Role.BUYER)
    return life.sees(view(output(), height=130, spends=(spend(),)))


def steps(life: Life) -> dict[Role, Step]:
    """What each seat's wallet is asked for now."""
    from domain.turns import turns

    return {turn.role: turn.step for turn in turns(life.state)}


def event_kinds(life: Life) -> list[type[e.Event]]:
    """The kinds of all events so far."""
    return [type(event) for event in life.events]
