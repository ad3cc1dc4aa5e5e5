"""`thirdkey demo`: one real escrow on a private chain, played through the HTTP API by three people with tokens."""

import asyncio
import os
import secrets
import shutil
import sys
import time
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.markup import escape

from domain.ids import Address, TxHash, UserId
from domain.roles import THREE, Role
from schemas.answers import EscrowFacts, PayoutFacts, WaitingFor
from service.auth import issue_token
from service.commands.stage import Ear, Outside, Person, Refusal, StageFailed, outside, service_process
from service.embedded import FolderInUse, folder_lock
from service.keys import issuer_key
from service.settings import Settings

NAMES = {Role.BUYER: "alice", Role.VENDOR: "bob", Role.ARBITER: "judy"}
AMOUNT = 500_000_000_000
"""0.5 XMR."""
ARBITER_PPM = 20_000
TOKEN_S = 3_600
STEP_LIMIT_S = 150.0
BLOCK_S = 0.25
"""Between two blocks, while nothing happens."""
BRIEF = 16
"""Characters of a value that a line shows."""
PROGRAMS = ("monerod", "monero-wallet-rpc")


class Ending(StrEnum):
    """How the demonstration ends."""

    RELEASE = "release"
    REFUND = "refund"


async def demo(settings: Settings, *, ending: Ending, console: Console) -> int:
    """Plays an escrow to its end and tells its story; returns the exit code."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        console.print(f"missing: {', '.join(missing)}; `make setup` installs them")
        return 1
    try:
        with folder_lock(settings.thirdkey_home):
            pass  # only to say at once that another service is there
        return await _play_and_tell(settings, ending, console)
    except (StageFailed, FolderInUse, Refusal, NotAsPlanned) as failed:
        console.print(f"[red]{failed}[/red]")
        return 1


class NotAsPlanned(Exception):
    """The escrow did not go the way the demonstration expects."""


async def _play_and_tell(settings: Settings, ending: Ending, console: Console) -> int:
    home = settings.thirdkey_home
    environment = {
        "THIRDKEY_HOME": str(home),
        "SERVER_PORT": "0",
        "METRICS_PORT": "0",
        "ARBITER_USER_ID": NAMES[Role.ARBITER],
        # What arrives is checked in one transaction.
        "FEE_SETTLEMENT": "single",
        # A demonstration may be repeated any number of times a month.
        "MAX_BETA_VOLUME_ATOMIC": str(10**18),
        "MAX_CONCURRENT_ESCROWS": "1000",
    }
    progress = Progress(console)
    async with AsyncExitStack() as stack:
        progress.say("starting Postgres, a private chain, three wallet slots and the service")
        where = await stack.enter_async_context(service_process(home, environment=environment))
        world = await stack.enter_async_context(outside(home, daemon_url=where.daemon))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        people = {
            role: Person(name, token=_token(settings, name), api=where.api, session=session)
            for role, name in NAMES.items()
        }
        progress.say("an ordinary wallet mines itself some money")
        await world.have(2 * AMOUNT)
        ears = {role: await stack.enter_async_context(people[role].listening()) for role in THREE}
        progress.say("alice, bob and judy listen to the stream")
        play = Play(people, ears, world, progress)
        facts = await (play.release() if ending is Ending.RELEASE else play.refund())
        await play.check(facts)
        code = await _story(home, facts.escrow_id, console)
    progress.say("everything is stopped")
    return code


def _token(settings: Settings, name: str) -> str:
    return issue_token(issuer_key(settings), sub=UserId(name), ttl_s=TOKEN_S)


async def _story(home: Path, escrow_id: str, console: Console) -> int:
    """Prints what an auditor would read, by the commands an auditor would use."""
    console.rule("the story, from the log: thirdkey replay")
    replayed = await _run(home, "replay", escrow_id)
    console.rule("thirdkey audit verify")
    verified = await _run(home, "audit", "verify")
    return replayed or verified


async def _run(home: Path, *command: str) -> int:
    process = await asyncio.create_subprocess_exec(*(sys.executable, "-m", "service", *command), env=_environment(home))
    return await process.wait()


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "THIRDKEY_HOME": str(home)}


class Progress:
    """Says what happens, with the seconds each step took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Prints one line: seconds since the beginning, seconds since the line before."""
        now = time.monotonic()
        times = f"[dim]{now - self._begun:6.1f} s  +{now - self._last:4.1f}[/dim]"
        self._console.print(f"{times}  {text}", highlight=False, soft_wrap=True)
        self._last = now


class Play:
    """The three people and the world around them, going through one escrow."""

    def __init__(self, people: dict[Role, Person], ears: dict[Role, Ear], world: Outside, progress: Progress) -> None:
        self._people, self._ears, self._world, self._progress = people, ears, world, progress
        self._told = 0
        self._payout: dict[Role, Address] = {}
        self._path = ""
        self._said: tuple[object, ...] = ()

    async def release(self) -> EscrowFacts:
        """Plays the ordinary ending: shipped, delivered, released."""
        await self._until_funded()
        await self._act(Role.VENDOR, "ship", "ships")
        await self._until("delivering", awaiting="confirm_delivery", only=True)
        await self._act(Role.BUYER, "confirm-delivery", "has the goods and confirms")
        return await self._until_paid("completed")

    async def refund(self) -> EscrowFacts:
        """Plays the other ending: a dispute, decided for the buyer."""
        await self._until_funded()
        await self._act(Role.VENDOR, "ship", "ships")
        await self._until("delivering", awaiting="confirm_delivery")
        opened = await self._people[Role.BUYER].post(
            "/api/disputes/open", {"escrow_id": self._escrow_id, "claim": "The parcel was empty."}
        )
        self._progress.say(f"alice opens a dispute ({opened['case_id']}); judy is asked to decide")
        await self._until("disputed", awaiting="decide")
        decision = {"case_id": opened["case_id"], "decision": "refund", "reason": "The carrier weighed an empty box."}
        await self._people[Role.ARBITER].post("/api/disputes/resolve", decision)
        self._progress.say("judy decides: refund; 2 % go to the arbiter")
        return await self._until_paid("refunded")

    async def check(self, facts: EscrowFacts) -> None:
        """Compares what the wallets outside received with what was decided, to the atomic unit."""
        payout = _paid(facts)
        epoch = payout.epochs[-1]
        expected = {role: 0 for role in THREE}
        for share in epoch.shares:
            expected[Role(share.roles[0])] += share.amount
        received = await self._received(TxHash(str(epoch.tx_hash)))
        if received != expected:
            raise NotAsPlanned("what arrived is not what was decided")
        fee = epoch.network_fee_atomic or 0
        if sum(received.values()) + fee != AMOUNT:
            raise NotAsPlanned("money was lost on the way")
        ruled = AMOUNT * ARBITER_PPM // 1_000_000 if payout.purpose == "ruling" else 0
        if received[Role.ARBITER] != ruled:
            raise NotAsPlanned("the arbiter's part is not the fee")
        told = ", ".join(f"{NAMES[role]} {_xmr(amount)}" for role, amount in received.items() if amount)
        await self._all_heard(facts)
        self._progress.say(f"arrived on chain: {told}; network fee {_xmr(fee)}; together exactly {_xmr(AMOUNT)} XMR")

    @property
    def _escrow_id(self) -> str:
        return self._path.rpartition("/")[2]

    async def _until_funded(self) -> None:
        await self._create()
        await self._until("awaiting_funding", awaiting="pay_in")
        address = (await self._facts()).payin_address
        if address is None:
            raise NotAsPlanned("there is no address to pay to")
        self._progress.say("all three seats confirm one 2-of-3 address; the buyer pays from an ordinary wallet")
        await self._world.pay(Address(address), AMOUNT)
        await self._until("awaiting_funding", awaiting="confirmations")
        await self._until("funded", awaiting="ship", only=True, mining=True)

    async def _create(self) -> None:
        order = {
            "order_id": f"order-{secrets.token_hex(4)}",
            "buyer_id": NAMES[Role.BUYER],
            "vendor_id": NAMES[Role.VENDOR],
            "amount": AMOUNT,
        }
        created = await self._people[Role.BUYER].post("/api/escrows", order)
        self._path = f"/api/escrows/{created['escrow_id']}"
        self._progress.say(f"alice orders from bob for {_xmr(AMOUNT)} XMR: {created['escrow_id']}")
        for role in THREE:
            self._payout[role] = await self._world.wallet.new_address()
            await self._people[role].put(f"{self._path}/payout-address", {"address": self._payout[role]})
        self._progress.say("alice, bob and judy each say where their own money goes")

    async def _act(self, role: Role, action: str, says: str) -> None:
        await self._people[role].post(f"{self._path}/{action}")
        self._progress.say(f"{NAMES[role]} {says}")

    async def _until_paid(self, status: str) -> EscrowFacts:
        await self._until("releasing", "refunding", awaiting="confirmations")
        return await self._until(status, mining=True)

    async def _until(
        self, *statuses: str, awaiting: str | None = None, only: bool = False, mining: bool = False
    ) -> EscrowFacts:
        """Waits for a state in which something is awaited (and nothing else), telling what happens meanwhile."""
        deadline = time.monotonic() + STEP_LIMIT_S
        while time.monotonic() < deadline:
            facts = await self._facts()
            what = {each.what for each in facts.awaited}
            there = awaiting is None or (awaiting in what and (what == {awaiting} or not only))
            if facts.state in statuses and there:
                return facts
            if mining:
                await self._world.mine(1)
            await self._hear(within_s=BLOCK_S if mining else deadline - time.monotonic())
        raise NotAsPlanned(f"still not {' or '.join(statuses)} after {STEP_LIMIT_S:g} s")

    async def _hear(self, *, within_s: float) -> None:
        """Tells what the buyer's stream brings, as it comes."""
        for message in await self._ears[Role.BUYER].more(self._escrow_id, than=self._told, within_s=within_s):
            self._told += 1
            told = ", ".join(f"{field} {_brief(value)}" for field, value in message.data.items())
            self._progress.say(f"[dim]  {message.version:3d} {message.type:<22} {told}[/dim]")

    async def _all_heard(self, facts: EscrowFacts) -> None:
        """Checks that each of the three was told every event once, and in order."""
        happened = [(entry.version, entry.type) for entry in facts.history]
        for role, ear in self._ears.items():
            await ear.more(self._escrow_id, than=len(happened) - 1, within_s=STEP_LIMIT_S)
            if [(each.version, each.type) for each in ear.heard(self._escrow_id)][: len(happened)] != happened:
                raise NotAsPlanned(f"the stream told {NAMES[role]} something else than what happened")
        self._progress.say(f"each of the three heard all {len(happened)} events, once and in order")

    async def _facts(self) -> EscrowFacts:
        facts = msgspec.convert(await self._people[Role.BUYER].get(self._path), EscrowFacts)
        now = (facts.state, tuple((each.who, each.what) for each in facts.awaited))
        if now != self._said:
            self._said = now
            waits = ", ".join(_waits(each) for each in facts.awaited)
            self._progress.say(f"[bold]{facts.state}[/bold]" + (f"  awaiting {waits}" if waits else ""))
        return facts

    async def _received(self, tx_hash: TxHash) -> dict[Role, int]:
        await self._world.wallet.refresh()
        arrived = await self._world.wallet.received(tx_hash)
        return {role: sum(each.amount for each in arrived if each.address == self._payout[role]) for role in THREE}


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return escape(text if len(text) <= BRIEF else f"{text[:BRIEF]}…")


def _waits(each: WaitingFor) -> str:
    return f"{each.who} {'to' if each.who in THREE else 'for'} {each.what.replace('_', ' ')}"


def _paid(facts: EscrowFacts) -> PayoutFacts:
    final = [payout for payout in facts.payouts if payout.ended == "final"]
    if len(final) != 1:
        raise NotAsPlanned(f"{len(final)} payouts are final")
    return final[0]


def _xmr(atomic: int) -> str:
    return f"{atomic // 10**12}.{atomic % 10**12:012d}"
