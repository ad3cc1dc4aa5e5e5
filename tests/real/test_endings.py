"""Every way an escrow's money can leave it, on real wallets and a real chain, to the atomic unit.

The seat that a payout does not need is stopped since the set-up: its wallet is opened for nobody.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import pytest

from actors.ailments import Ailment, SlotUnusable
from actors.escrow import Accepted
from actors.jsonrpc import ErrorAnswer
from actors.monero_programs import WalletProgram, launch_wallet, reserved_port
from actors.ports import Destination, WalletRpc, WalletUnknown
from actors.processes import ProcessKeeper
from actors.sealed import EscrowSecrets
from actors.slot_messages import SupervisorLimits
from actors.slots import Slot, SlotHost
from domain import commands as c
from domain.commands import AnyCommand
from domain.dispute import fee_tx_hash
from domain.events import PayoutProposed, Verdict
from domain.ids import Address, CaseId, EscrowId, Sealed, TxHash
from domain.money import Atomic
from domain.roles import THREE, Role
from domain.setup import payin_address
from domain.states import Completed, Escrow, Money, Refunded, money_of, name
from domain.steps import Step
from domain.terms import FeeSettlement, Policy, arbiter_fee
from domain.turns import awaited
from service.embedded import CHAIN, PROGRAMS, WALLETS
from service.node import NodeLimits
from tests import soak
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.real.child import mining_helps
from tests.real.stage import LIFE_S, Stage, pids_of, stage_running
from tests.real_world import RichChain
from tests.sim_world import create, moment, set_addresses, tell

pytestmark = [pytest.mark.timeout(1200)]

LIMITS = NodeLimits(watch_poll_s=0.2, supervisor=SupervisorLimits(recheck_s=0.5))
DUST = 1_000_000
SMALL = (1_500_000_000, 4_000_000_000, 7_000_000_000)
EPOCHS_OF_DEATHS = 4
"""One more for each signature whose announcement stands without an outcome, and for each export that was lost."""
FEE = AMOUNT * Policy().arbiter_fee_ppm // 1_000_000
SWEEP = Policy(fee_settlement=FeeSettlement.SWEEP)
OLD = 1_440 if soak.SECONDS else 60
"""Blocks between an export and its signature: two days of them, two hours where time is short."""


@dataclass(frozen=True)
class AbsentHost:
    """A slot's host that reaches nothing while its role is absent."""

    slot: Slot
    host: SlotHost
    absent: set[Role]
    deaths: "list[Death]"
    home: Path

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> WalletRpc:
        if self.slot.role in self.absent:
            raise SlotUnusable(Ailment.REFUSED, ended=True)
        rpc = await self.host.reach(fence=fence, clean=clean, before_call=before_call)
        return cast(WalletRpc, MortalWallet(rpc, self.slot.name, self.deaths, home=self.home))

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        await self.host.make_wallet(rpc, name, password=password, wanted=wanted)

    def shows(self, name: str) -> None:
        self.host.shows(name)

    def silent(self) -> bool:
        return self.host.silent()


class Death(msgspec.Struct, frozen=True):
    """A kill -9 before a wallet call, or after it: then its answer is lost as well."""

    method: str
    when: Literal["before", "after"]
    of: Literal["wallet", "daemon"]


class MortalWallet:
    """A slot's wallet around whose calls its process, or the daemon, dies."""

    def __init__(self, rpc: WalletRpc, slot: str, deaths: list[Death], *, home: Path) -> None:
        self._rpc, self._slot, self._deaths, self._home = rpc, slot, deaths, home

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._rpc, name)
        return partial(self._around, name, found) if any(each.method == name for each in self._deaths) else found

    async def _around(self, method: str, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        due = next(each for each in self._deaths if each.method == method)
        self._deaths.remove(due)
        if due.when == "before":
            self._kill(due.of)
            return await call(*args, **kwargs)
        await call(*args, **kwargs)
        self._kill(due.of)
        raise WalletUnknown(method=method, reason="died")

    def _kill(self, victim: str) -> None:
        of = {
            "wallet": ("monero-wallet-rpc", self._home / PROGRAMS / self._slot),
            "daemon": ("monerod", self._home / CHAIN),
        }
        program, folder = of[victim]
        (pid,) = pids_of(program, folder=folder)
        os.kill(pid, signal.SIGKILL)


@dataclass
class Player:
    """Plays escrows on a stage; each has receivers of its own."""

    stage: Stage
    absent: set[Role]
    deaths: list[Death]
    receivers: dict[EscrowId, Mapping[Role, Address]] = field(default_factory=dict)

    async def set_up(self, *names: str, policy: Policy | None = None) -> list[EscrowId]:
        """Creates escrows and waits until all have an address."""
        made = [EscrowId(f"esc_{each}") for each in names]
        for escrow_id in made:
            self.receivers[escrow_id] = {role: await self.stage.funder.new_address() for role in THREE}
            await create(self.stage.node, escrow_id=escrow_id, policy=policy)
            await set_addresses(self.stage.node, escrow_id, to=self.receivers[escrow_id].__getitem__)
        for escrow_id in made:
            await self.until(escrow_id, lambda state: payin_address(state) is not None, mine=False)
        return made

    async def pay(self, escrow_id: EscrowId, *amounts: int) -> None:
        """Pays an escrow from outside, each amount in a transaction of its own."""
        address = payin_address(await self.state(escrow_id))
        assert address is not None
        await self.stage.funder.refresh()
        for amount in amounts:
            await self.stage.funder.pay(address, amount)

    async def say(self, escrow_id: EscrowId, *commands: AnyCommand) -> None:
        """Brings what people say to an escrow; each must be accepted."""
        for number, command in enumerate(commands):
            answer = await tell(self.stage.node, escrow_id, command, key=f"{type(command).__name__}-{number}")
            assert isinstance(answer, Accepted), answer

    async def state(self, escrow_id: EscrowId) -> Escrow:
        state = await self.stage.node.desk.state(escrow_id)
        assert state is not None
        return state

    async def until(self, escrow_id: EscrowId, holds: Callable[[Escrow], bool], *, mine: bool = True) -> Escrow:
        """Waits until something holds of an escrow, mining while blocks are what it waits for."""
        state = await self.state(escrow_id)
        try:
            async with asyncio.timeout(LIFE_S):
                while not holds(state):
                    if mine and (mining_helps(state) or _is_locked(state)):
                        await self.stage.mine()
                    await asyncio.sleep(0.05)
                    state = await self.state(escrow_id)
        except TimeoutError as late:
            late.add_note(f"{name(state)}, {state.core.recovery}, {state.core.failures}, waits for {awaited(state)}")
            late.add_note(f"{getattr(state, 'money', None)}")
            raise
        return state

    async def ready(self, *escrow_ids: EscrowId) -> None:
        """Waits until escrows are funded, and every payout of theirs would be recognised."""
        for escrow_id in escrow_ids:
            await self.until(escrow_id, _is_ready)

    async def ended(self, escrow_id: EscrowId) -> Escrow:
        """Waits until an escrow is over and nothing is left to be paid; what left is on chain as it was signed."""
        state = await self.until(escrow_id, _is_over)
        assert "payout_differs" not in state.core.recovery
        money = money_of(state)
        assert money is not None and all(spend.facts for spend in money.spends.values())
        return state

    async def held(self, escrow_id: EscrowId) -> dict[Role, int]:
        """What the three receivers of an escrow hold, in atomic units."""
        await self._refreshed()
        held = {each.address: each.balance for each in (await self.stage.funder.balance()).per_subaddress}
        return {role: held.get(address, 0) for role, address in self.receivers[escrow_id].items()}

    async def _refreshed(self) -> None:
        """Refreshes the ordinary wallet, whose connection a daemon that died has taken with it."""
        async with asyncio.timeout(LIFE_S):
            while True:
                with contextlib.suppress(ErrorAnswer):
                    return await self.stage.funder.refresh()
                await asyncio.sleep(0.5)

    async def network_fees(self, escrow_id: EscrowId) -> list[int]:
        """Lists the network fees of an escrow's payouts, one a payout."""
        proposed = [each for each in await self.stage.events(escrow_id) if isinstance(each, PayoutProposed)]
        return list({each.payout: each.network_fee for each in proposed}.values())

    @asynccontextmanager
    async def without(self, role: Role) -> AsyncIterator[None]:
        """Keeps a role's wallets from being opened; an open one goes on to its seat's next turn, so that is awaited."""
        self.absent.add(role)
        async with asyncio.timeout(LIFE_S):
            while self.stage.node.slot_counts()[role].busy:
                await asyncio.sleep(0.05)
        yield
        self.absent.discard(role)


@pytest.fixture
async def player(home: Path, rich_chain: RichChain) -> AsyncIterator[Player]:
    absent: set[Role] = set()
    deaths: list[Death] = []
    async with stage_running(
        home, rich_chain, host=lambda slot: AbsentHost(slot, slot.host, absent, deaths, home), limits=LIMITS
    ) as stage:
        yield Player(stage, absent, deaths)
        assert stage.node.problems == []


async def test_release_refund_and_agreement_pay_while_the_arbiter_is_away(player: Player) -> None:
    released, refunded, agreed = await player.set_up("released", "refunded", "agreed")
    async with player.without(Role.ARBITER):
        await player.pay(released, DUST, AMOUNT)  # too little to be spent, and it must not be in the way
        # In two parts, and with what strangers may add: more than dust, and less than a trial's guess of the fee.
        await player.pay(refunded, AMOUNT // 3, AMOUNT - AMOUNT // 3, *SMALL)
        await player.pay(agreed, AMOUNT)
        await player.ready(released, refunded, agreed)
        await player.stage.mine(OLD)
        at = moment(player.stage.node)
        await player.say(released, c.Ship(at=at, by=VENDOR), c.ConfirmDelivery(at=at, by=BUYER))
        await player.say(refunded, c.GrantRefund(at=at, by=VENDOR))
        offer = c.ProposeAgreement(at=at, by=VENDOR, buyer_share_bp=6_000)
        await player.say(agreed, offer, c.AcceptAgreement(at=at, by=BUYER, number=1))
        ends = [await player.ended(each) for each in (released, refunded, agreed)]
    assert [type(each) for each in ends] == [Completed, Refunded, Completed]
    assert [getattr(each, "outcome", None) for each in ends] == ["released", None, "agreed"]
    (fee,), (other_fee,), (third_fee,) = [await player.network_fees(each) for each in (released, refunded, agreed)]
    assert await player.held(released) == _held(vendor=AMOUNT - fee)
    assert await player.held(refunded) == _held(buyer=AMOUNT + sum(SMALL) - other_fee)
    buyers = (AMOUNT - third_fee) * 6_000 // 10_000
    assert await player.held(agreed) == _held(buyer=buyers, vendor=AMOUNT - third_fee - buyers)
    assert [_seats(end) for end in ends] == [{Role.VENDOR, Role.BUYER}] * 3


async def test_rulings_pay_while_the_loser_is_away_and_the_arbiter_is_paid_with_the_winner_or_after(
    player: Player,
) -> None:
    vendors, buyers = await player.set_up("vendor_wins", "buyer_wins")
    (split,) = await player.set_up("split", policy=SWEEP)
    async with player.without(Role.BUYER):
        await player.pay(vendors, AMOUNT)
        await player.ready(vendors)
        await player.say(vendors, *_ruling(player, by=VENDOR, verdict=Verdict.RELEASE))
        vendor_won = await player.ended(vendors)
    async with player.without(Role.VENDOR):
        await player.pay(buyers, AMOUNT)
        await player.ready(buyers)
        async with player.without(Role.BUYER):
            await player.say(buyers, *_ruling(player, by=BUYER, verdict=Verdict.REFUND))
            await player.stage.mine(OLD)  # the winner stays away: the decision stands, and waits for it to propose
            waiting = await player.state(buyers)
            assert (Role.BUYER, Step.PROPOSE.value) in [(each.who, each.what) for each in awaited(waiting)]
            assert _payouts_of(waiting) == []
        buyer_won = await player.ended(buyers)
    await player.pay(split, AMOUNT)
    await player.ready(split)
    await player.say(split, *_ruling(player, by=BUYER, verdict=Verdict.SPLIT, buyer_share_bp=3_000))
    confirmed = await player.until(split, _payout_confirmed)
    # The payout falls out of its block, the change with it, and out of the pool: left there, a private chain never
    # mined it again (400 s of blocks). It has to be sent once more.
    await player.stage.chain.pop(3)
    await player.stage.chain.flush_pool(_payouts_of(confirmed))
    divided = await player.ended(split)
    assert [type(each) for each in (vendor_won, buyer_won, divided)] == [Completed, Refunded, Completed]
    (fee,), (other_fee,) = await player.network_fees(vendors), await player.network_fees(buyers)
    assert await player.held(vendors) == _held(vendor=AMOUNT - FEE - fee, arbiter=FEE)
    assert await player.held(buyers) == _held(buyer=AMOUNT - FEE - other_fee, arbiter=FEE)
    first, second = await player.network_fees(split)
    rest = AMOUNT - FEE - first
    share = rest * 3_000 // 10_000
    assert await player.held(split) == _held(buyer=share, vendor=rest - share, arbiter=FEE - second)
    assert fee_tx_hash(divided) not in (None, getattr(divided, "tx_hash", None))
    assert arbiter_fee(divided.core.terms) == FEE
    assert _seats(vendor_won) == {Role.VENDOR, Role.ARBITER}
    assert _seats(buyer_won) == {Role.BUYER, Role.ARBITER}


async def test_a_payout_survives_the_death_of_its_wallets_and_of_the_daemon_around_each_once_call(
    player: Player,
) -> None:
    (escrow_id,) = await player.set_up("killed")
    await player.pay(escrow_id, AMOUNT)
    await player.ready(escrow_id)
    player.deaths += [
        Death("sign_multisig", "before", "wallet"),
        Death("sign_multisig", "after", "wallet"),
        Death("export_multisig_info", "after", "wallet"),
        Death("submit_multisig", "before", "daemon"),
        Death("submit_multisig", "after", "wallet"),
    ]
    at = moment(player.stage.node)
    await player.say(escrow_id, c.Ship(at=at, by=VENDOR), c.ConfirmDelivery(at=at, by=BUYER))
    state = await player.ended(escrow_id)
    assert player.deaths == []
    money = money_of(state)
    assert isinstance(state, Completed) and money is not None
    assert [spend.tx_hash for spend in money.spends.values()] == [state.tx_hash]
    assert len(money.payouts[0].epochs) <= EPOCHS_OF_DEATHS
    assert await player.held(escrow_id) == _held(vendor=AMOUNT - await _fee_of_last(player, escrow_id))


async def _fee_of_last(player: Player, escrow_id: EscrowId) -> int:
    proposed = [each for each in await player.stage.events(escrow_id) if isinstance(each, PayoutProposed)]
    return proposed[-1].network_fee


async def test_two_pay_out_without_us_and_it_is_found_and_ends_the_escrow(player: Player) -> None:
    with_buyer, with_vendor = await player.set_up("with_buyer", "with_vendor")
    for escrow_id, cosigner in ((with_buyer, Role.BUYER), (with_vendor, Role.VENDOR)):
        await player.pay(escrow_id, AMOUNT)
        await player.ready(escrow_id)
        tx_hash, fee = await _pay_without_us(player, escrow_id, proposer=Role.ARBITER, cosigner=cosigner)
        state = await player.ended(escrow_id)
        assert isinstance(state, Completed)
        assert (state.tx_hash, state.outcome) == (tx_hash, "agreed")
        assert "spent_by_others" in state.core.recovery
        assert await player.held(escrow_id) == {**_held(), cosigner: AMOUNT - fee}


async def _pay_without_us(player: Player, escrow_id: EscrowId, *, proposer: Role, cosigner: Role) -> tuple[TxHash, int]:
    """Lets two seats' wallets, in processes of their owners' own, pay everything to the cosigner."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(_own_process(player, escrow_id, proposer))
        other = await stack.enter_async_context(_own_process(player, escrow_id, cosigner))
        export = await other.export_multisig_info()
        await other.store()
        await one.import_multisig_info([export])
        to, fee = player.receivers[escrow_id][cosigner], 0
        trial = await one.transfer([Destination(address=to, amount=Atomic(AMOUNT // 2))])
        made = await one.transfer([Destination(address=to, amount=Atomic(AMOUNT - trial.fee))])
        fee = made.fee
        assert fee == trial.fee
        signed = await other.sign_multisig(made.tx_set)
        await other.store()
        (tx_hash,) = await other.submit_multisig(signed.tx_hex)
    return tx_hash, fee


@asynccontextmanager
async def _own_process(player: Player, escrow_id: EscrowId, role: Role) -> AsyncIterator[WalletRpc]:
    """Opens a seat's wallet beside the service, once no slot has it open."""
    stage, state = player.stage, await player.state(escrow_id)
    secrets = await EscrowSecrets(stage.node.store.vault, escrow_id).wallet(state, role)
    files = next(slot.files for slot in stage.slots if slot.role is role)
    async with asyncio.timeout(LIFE_S):
        while files.in_use(secrets.file):
            await asyncio.sleep(0.1)
    with reserved_port() as port:
        program = WalletProgram(
            name=f"own-{role}",
            folder=stage.home / f"own-{role}",
            port=port,
            daemon_address=stage.daemon_url.removeprefix("http://"),
            wallets=stage.home / WALLETS / role.value,
        )
        process, rpc = await launch_wallet(ProcessKeeper(stage.home / "outside"), program)
    try:
        await rpc.open_wallet(secrets.file, password=secrets.password)
        await rpc.refresh()
        yield rpc
        await rpc.close_wallet()
    finally:
        await rpc.aclose()
        await process.stop()


def _ruling(player: Player, *, by: str, verdict: Verdict, buyer_share_bp: int | None = None) -> Iterable[AnyCommand]:
    at = moment(player.stage.node)
    yield c.OpenDispute(at=at, by=by, case_id=CaseId("case-1"), claim=Sealed("claim"))  # type: ignore[arg-type]
    yield c.ResolveDispute(at=at, by=ARBITER, verdict=verdict, buyer_share_bp=buyer_share_bp, reason=Sealed("because"))


def _is_ready(state: Escrow) -> bool:
    money = money_of(state)
    return name(state) == "funded" and money is not None and _spendable_keys(money) <= money.key_images.keys()


def _spendable_keys(money: Money) -> set[str]:
    return {key for key, deposit in money.deposits.items() if deposit.amount > DUST}


def _is_locked(state: Escrow) -> bool:
    # Blocks that were taken back have locked a deposit again.
    money = money_of(state)
    there = [each for each in money.deposits.values() if not each.lost] if money else []
    return any(not each.unlocked for each in there)


def _is_over(state: Escrow) -> bool:
    money = money_of(state)
    over = isinstance(state, Completed | Refunded) and money is not None and money.payout is None
    return over and "fee_unpaid" not in state.core.recovery


def _payout_confirmed(state: Escrow) -> bool:
    money = money_of(state)
    return money is not None and any(spend.height is not None for spend in money.spends.values())


def _payouts_of(state: Escrow) -> list[TxHash]:
    money = money_of(state)
    assert money is not None
    return list(money.spends)


def _seats(state: Escrow) -> set[Role]:
    """Names the seats whose wallets signed the escrow's last payout."""
    money = money_of(state)
    assert money is not None
    payout = money.payouts[-1]
    signed = [epoch for epoch in payout.epochs if epoch.signature and epoch.proposal]
    return {payout.cosigner, *(epoch.proposal.proposer for epoch in signed if epoch.proposal)}


def _held(*, buyer: int = 0, vendor: int = 0, arbiter: int = 0) -> dict[Role, int]:
    return {Role.BUYER: buyer, Role.VENDOR: vendor, Role.ARBITER: arbiter}
