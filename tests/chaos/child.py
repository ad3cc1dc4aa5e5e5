"""A service process that is killed again and again, and the three people who use it, who remember nothing."""

import asyncio
import os
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET

from actors.clock import SystemClock
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.events import Verdict
from domain.ids import Address, CaseId, EscrowId
from domain.payout import fee_paid_by
from domain.roles import THREE, Role
from domain.setup import payin_address
from domain.states import Completed, Escrow, Refunded, name
from domain.terms import FeeSettlement, Policy
from eventstore.api import Append, Appended, Outcome
from eventstore.memory import MemoryLog
from eventstore.opening import Store, open_store
from schemas.sealing import SealedKind
from service.node import Node
from tests.backups import BACKUP_KEY
from tests.chaos.remote import RemoteWorld
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.patience import PATIENT
from tests.sim_world import FAST, create, moment, payout_address, set_addresses, tell

ESCROW = EscrowId("esc_killed")
PARTITIONS = 4
SPLIT_BP = 3_000

Moment = Literal["never", "before", "during", "after"]


class Ending(StrEnum):
    """How the three let an escrow end."""

    RELEASE = "release"
    REFUND = "refund"
    """By a ruling."""
    SWEEP = "sweep"
    """A ruling divides, and the arbiter is paid afterwards by a payout of its own."""
    AGREEMENT = "agreement"


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do: on which database and world, to which ending, and when it dies.

    `folder` holds what outlives it: `kills` (the signatures at which one died) and `acknowledged` (each append that
    was answered as durable).
    """

    dsn: str
    url: str
    folder: Path
    ending: Ending = Ending.RELEASE
    kill: Moment = "never"


def run(orders: Orders) -> None:
    """Lives until the escrow has ended, or until it is killed."""
    asyncio.run(_live(orders))


async def open_killed_store(dsn: str) -> Store:
    """Opens the store as every child does."""
    return await open_store(dsn=dsn, encryption_key=bytes(32), partitions=PARTITIONS, node_id="node-1", limits=PATIENT)


async def _live(orders: Orders) -> None:
    store = await open_killed_store(orders.dsn)
    store = msgspec.structs.replace(store, log=cast(MemoryLog, DeadlyLog(store.log, orders)))
    world = RemoteWorld(orders.url)
    node = Node(
        store=store,
        clock=SystemClock(),
        network="regtest",
        slots=world.slots,
        daemon=world.daemon,
        watch=world,
        limits=FAST,
    )
    await node.start()
    await _play(node, world, orders.ending)
    assert node.problems == []
    await node.stop()
    await world.aclose()
    await store.aclose()


# -- dying -------------------------------------------------------------------------------------------------------


class DeadlyLog:
    """A log whose process dies around an append, once for each kind of append that the file `kills` does not name."""

    def __init__(self, log: Any, orders: Orders) -> None:
        self._log, self._orders = log, orders
        self._kills = orders.folder / "kills"
        self._seen = set(self._kills.read_text().splitlines()) if self._kills.exists() else set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, item: Append) -> Outcome:
        """Appends, and dies before, while or after that."""
        signature = signature_of(item)
        doomed = self._orders.kill if signature not in self._seen else "never"
        if doomed == "before":
            self._die(signature)
        if doomed == "during":
            asyncio.get_running_loop().call_later(_soon(item), self._die, signature)
        outcome: Outcome = await self._log.append(item)
        if isinstance(outcome, Appended):
            _write(self._orders.folder / "acknowledged", f"{item.stream_id} {outcome.version} {item.command_id}")
        if doomed == "after":
            self._die(signature)
        return outcome

    def _die(self, signature: str) -> None:
        _write(self._kills, signature)
        os.kill(os.getpid(), signal.SIGKILL)


def signature_of(item: Append) -> str:
    """Says what kind of append it is: the types of its events, whose they are and at which step."""
    return " ".join(_named(event.type, msgspec.json.decode(event.body)) for event in item.events) or "receipt"


def _named(kind: str, body: dict[str, Any]) -> str:
    return "/".join(str(part) for part in (kind, body.get("role"), body.get("step"), body.get("round")) if part)


def _soon(item: Append) -> float:
    """Seconds within the two or three milliseconds that an append takes, different from one to the next."""
    return int(item.command_id[:4], 16) % 30 / 10_000


def _write(path: Path, line: str) -> None:
    # One write to the page cache: a killed process loses nothing of it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


# -- the people --------------------------------------------------------------------------------------------------


async def _play(node: Node, world: RemoteWorld, ending: Ending) -> None:
    settlement = FeeSettlement.SWEEP if ending is Ending.SWEEP else UNSET
    policy = Policy(fee_settlement=settlement, arbiter_backup_key=BACKUP_KEY)
    while True:
        state = await node.desk.state(ESCROW)
        if state is not None and _is_over(state, ending):
            return
        await do_what_is_awaited(node, state, ending=ending, policy=policy)
        if state is not None and (address := payin_address(state)):
            await world.pay_once(address, AMOUNT)
            await world.mine(1)
        await asyncio.sleep(0.01)


def _is_over(state: Escrow, ending: Ending) -> bool:
    if not isinstance(state, (Completed, Refunded)):
        return False
    return ending is not Ending.SWEEP or fee_paid_by(state.money) is not None


async def do_what_is_awaited(
    node: Node,
    state: Escrow | None,
    *,
    ending: Ending,
    escrow_id: EscrowId = ESCROW,
    addresses: Callable[[Role], Address] = payout_address,
    policy: Policy | None = None,
) -> None:
    """Does what the state calls for on the part of the three; it may be told again and again."""
    if state is None:
        await create(node, escrow_id=escrow_id, policy=policy)
    elif missing := [role for role in THREE if role not in state.core.addresses]:
        await set_addresses(node, escrow_id, roles=missing, to=addresses)
    elif name(state) == "funded":
        await tell(node, escrow_id, c.Ship(at=moment(node), by=VENDOR), key="ship")
    elif name(state) == "delivering":
        await _end(node, state, escrow_id, ending)
    elif name(state) == "disputed" and (state.core.case is None or state.core.case.verdict is None):
        await tell(node, escrow_id, await _verdict(node, escrow_id, ending), key="decide")


async def _end(node: Node, state: Escrow, escrow_id: EscrowId, ending: Ending) -> None:
    match ending:
        case Ending.RELEASE:
            await tell(node, escrow_id, c.ConfirmDelivery(at=moment(node), by=BUYER), key="confirm")
        case Ending.REFUND | Ending.SWEEP:
            await tell(node, escrow_id, await _complaint(node, escrow_id), key="dispute")
        case Ending.AGREEMENT if not state.core.offers:
            offer = c.ProposeAgreement(at=moment(node), by=VENDOR, buyer_share_bp=SPLIT_BP)
            await tell(node, escrow_id, offer, key="offer")
        case Ending.AGREEMENT:
            await tell(node, escrow_id, c.AcceptAgreement(at=moment(node), by=BUYER, number=1), key="accept")


async def _complaint(node: Node, escrow_id: EscrowId) -> c.OpenDispute:
    claim = await EscrowSecrets(node.store.vault, escrow_id).seal(SealedKind.CLAIM, "buyer", "an empty box")
    return c.OpenDispute(at=moment(node), by=BUYER, case_id=CaseId("case-1"), claim=claim)


async def _verdict(node: Node, escrow_id: EscrowId, ending: Ending) -> c.ResolveDispute:
    reason = await EscrowSecrets(node.store.vault, escrow_id).seal(SealedKind.DECISION_REASON, "", "it was empty")
    verdict, share = (Verdict.SPLIT, SPLIT_BP) if ending is Ending.SWEEP else (Verdict.REFUND, None)
    return c.ResolveDispute(at=moment(node), by=ARBITER, verdict=verdict, buyer_share_bp=share, reason=reason)
