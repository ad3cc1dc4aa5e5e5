"""Compares escrows with the chain: each folded from the log alone, its address scanned afresh from its set-up on.

Nothing of the service's own watcher is used, so that what it missed is found. Escrows are taken in batches, each with
a watch of its own, so that memory grows with neither the log nor the chain.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from itertools import islice
from typing import TypeVar

import msgspec

from actors.ports import ChainTx, Clock, DaemonDown, DaemonRpc, KeyImageStatus, Watch, WatchTarget
from actors.scan.transactions import Transaction, read_transaction
from actors.sealed import EscrowSecrets
from domain.chain import ChainView
from domain.difference import Difference
from domain.ids import EscrowId
from domain.reconcile import Evidence, SeenTransaction, as_logged, differences, hashes_to_ask
from domain.states import TERMINAL, Escrow, Money, money_of
from eventstore.api import EventLog, SealBroken, Vault
from projections.folds import ESCROW_STREAM, Standing, advance
from schemas.sealing import SealedKind

PAGE = 1_000
ADDRESS_AGREED = "address_agreed"
"""The event from which on an escrow has an address."""
_T = TypeVar("_T")
_KEY_IMAGE = re.compile("[0-9a-f]{64}").fullmatch


class Unchecked(StrEnum):
    """Why an escrow could not be compared."""

    SHREDDED = "shredded"
    """Its view key is gone for good: nobody here sees its address any more."""
    SEALED = "sealed"
    """Its view key cannot be opened with the keys that were given."""
    VIEW_KEY = "view_key"
    """Its view key and its address do not belong together."""
    STANDS_STILL = "stands_still"
    """Its history cannot be read to its end."""
    UNKNOWN = "unknown"
    """There is nothing of it in the log."""
    NO_ADDRESS = "no_address"
    """It has no address yet."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison of one escrow came to."""

    escrow_id: EscrowId
    version: int = 0
    """Of the escrow, when it was last read."""
    height: int = 0
    """Number of blocks, when the chain was last looked at."""
    differences: tuple[Difference, ...] = ()
    unchecked: Unchecked | None = None
    logged: tuple[Difference, ...] = ()
    """What the log says that the last comparison came to."""

    @property
    def is_news(self) -> bool:
        """Whether the log says something else of the comparison."""
        return self.unchecked is None and as_logged(self.differences) != self.logged


class ReconcileLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How escrows are compared."""

    batch: int = 1_000
    """Escrows scanned for at a time: each batch reads the blocks since its oldest set-up once."""
    ended_from: int | None = None
    """Where the scan begins for escrows that have ended, and these then come last; None from the set-up on for all.

    What their logs know from below is looked up by its transaction.
    """
    settle_s: float = 10.0
    """How long a difference must stand: a running service takes in what is new within seconds."""
    looks: int = 3
    """How often one look, or question to the daemon, is tried; a scan goes on where it was when no answer came."""
    retry_s: float = 5.0
    """How long after one that failed."""


class Reconciler:
    """Compares escrows of one log with one daemon's chain.

    A difference is told when it stood at two looks, `settle_s` apart, each with the log read after the chain.
    """

    def __init__(
        self,
        event_log: EventLog,
        vault: Vault,
        daemon: DaemonRpc,
        *,
        watch: Callable[[], Watch],
        clock: Clock,
        limits: ReconcileLimits | None = None,
    ) -> None:
        self._log, self._vault, self._daemon = event_log, vault, daemon
        self._watch, self._clock, self._limits = watch, clock, limits or ReconcileLimits()

    async def all(self) -> AsyncGenerator[Compared, None]:
        """Compares every escrow that has an address; raises `LogUnavailable`, `DaemonDown`."""
        for ended in (None,) if self._limits.ended_from is None else (False, True):
            batch: list[EscrowId] = []
            async for escrow_id in self._with_address(ended=ended):
                batch.append(escrow_id)
                if len(batch) == self._limits.batch:
                    async for each in self._batch(batch):
                        yield each
                    batch = []
            async for each in self._batch(batch):
                yield each

    async def some(self, escrow_ids: Iterable[EscrowId]) -> AsyncIterator[Compared]:
        """Compares these escrows; raises `LogUnavailable`, `DaemonDown`."""
        left = iter(dict.fromkeys(escrow_ids))
        while batch := list(islice(left, self._limits.batch)):
            async for each in self._batch(batch):
                yield each

    async def _with_address(self, *, ended: bool | None) -> AsyncIterator[EscrowId]:
        """Names escrows that have ended, that have not, or all."""
        for partition in range(self._log.partitions):
            after = 0
            while page := await self._log.read_partition(partition, after_position=after, limit=PAGE):
                for recorded in page:
                    if recorded.type == ADDRESS_AGREED and recorded.stream_id.startswith(ESCROW_STREAM):
                        escrow_id = EscrowId(recorded.stream_id)
                        if ended is None or _has_ended(await self._money(escrow_id)) is ended:
                            yield escrow_id
                after = page[-1].position

    # -- a batch -------------------------------------------------------------------------------------------------

    async def _batch(self, escrow_ids: Sequence[EscrowId]) -> AsyncIterator[Compared]:
        doubtful: dict[EscrowId, Compared] = {}
        watch = self._watch()
        async for each in self._looked_at(watch, escrow_ids):
            if each.differences:
                doubtful[each.escrow_id] = each
            else:
                yield each
        if not doubtful:
            return
        await self._clock.sleep(self._limits.settle_s)
        async for each in self._looked_at(watch, list(doubtful)):
            before = doubtful[each.escrow_id].differences
            stood = tuple(found for found in each.differences if found in before)
            yield msgspec.structs.replace(each, differences=stood)

    async def _looked_at(self, watch: Watch, escrow_ids: Sequence[EscrowId]) -> AsyncIterator[Compared]:
        targets: dict[EscrowId, WatchTarget] = {}
        for escrow_id in escrow_ids:
            target = await self._target(escrow_id)
            if isinstance(target, Unchecked):
                yield Compared(escrow_id=escrow_id, unchecked=target)
            else:
                targets[escrow_id] = target
        views = await self._answered(lambda: watch.look(list(targets.values()))) if targets else {}
        for escrow_id, target in targets.items():
            yield await self._compared(escrow_id, views.get(escrow_id), since=target.since_height)

    async def _answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Asks again where no answer came: a run asks thousands of times, and one time-out must not end it."""
        for _ in range(self._limits.looks - 1):
            try:
                return await ask()
            except DaemonDown:
                await self._clock.sleep(self._limits.retry_s)
        return await ask()

    async def _target(self, escrow_id: EscrowId) -> WatchTarget | Unchecked:
        found = await self._money(escrow_id)
        if isinstance(found, Unchecked):
            return found
        _, money = found
        begins = self._limits.ended_from or 0 if _has_ended(found) else 0
        try:
            secrets = EscrowSecrets(self._vault, escrow_id)
            view_key = await secrets.open(SealedKind.VIEW_KEY, money.view_key_role, money.view_key)
        except SealBroken:
            return Unchecked.SEALED
        return WatchTarget(
            escrow_id=escrow_id,
            address=money.address,
            view_key=view_key,
            since_height=max(money.since_height, begins),
            key_images=money.key_images,
        )

    async def _compared(self, escrow_id: EscrowId, view: ChainView | None, *, since: int) -> Compared:
        """Compares with the log as it is now, after the chain was looked at."""
        if view is None:
            return Compared(escrow_id=escrow_id, unchecked=Unchecked.VIEW_KEY)
        found = await self._money(escrow_id)
        if isinstance(found, Unchecked):
            return Compared(escrow_id=escrow_id, unchecked=found)
        state, money = found
        evidence = await self._answered(lambda: self._evidence(money, view, since=since))
        return Compared(
            escrow_id=escrow_id,
            version=state.core.version,
            height=view.height,
            differences=differences(state, evidence),
            logged=state.core.differences,
        )

    async def _evidence(self, money: Money, view: ChainView, *, since: int) -> Evidence:
        # One that is no key image is never asked for: monerod would refuse the whole call.
        images = {key: image for key, image in money.key_images.items() if _KEY_IMAGE(image)}
        statuses = await self._daemon.key_images(list(images.values())) if images else ()
        hashes = hashes_to_ask(money, since=since)
        transactions = await self._daemon.transactions(hashes) if hashes else ()
        return Evidence(
            view=view,
            since=since,
            spent=frozenset(
                key for key, status in zip(images, statuses, strict=True) if status is KeyImageStatus.IN_CHAIN
            ),
            transactions={each.tx_hash: seen_transaction(each) for each in transactions},
        )

    # -- the log -------------------------------------------------------------------------------------------------

    async def _money(self, escrow_id: EscrowId) -> tuple[Escrow, Money] | Unchecked:
        standing = await self._standing(escrow_id)
        state = standing.state
        if standing.stop is not None:
            return Unchecked.STANDS_STILL
        if state is None:
            return Unchecked.UNKNOWN
        if state.core.shredded_at is not None:
            return Unchecked.SHREDDED
        money = money_of(state)
        return Unchecked.NO_ADDRESS if money is None else (state, money)

    async def _standing(self, escrow_id: EscrowId) -> Standing:
        standing = Standing(escrow_id=escrow_id)
        while page := await self._log.read_stream(escrow_id, after_version=standing.read, limit=PAGE):
            for recorded in page:
                standing = advance(standing, recorded)
            if len(page) < PAGE:
                break
        return standing


def _has_ended(found: tuple[Escrow, Money] | Unchecked) -> bool:
    """Says whether nothing of an escrow is under way any more; true of those that cannot be compared."""
    if isinstance(found, Unchecked):
        return True
    state, money = found
    return isinstance(state, TERMINAL) and money.payout is None


def seen_transaction(found: ChainTx) -> SeenTransaction:
    """Reads what a comparison wants of a transaction; never raises."""
    read = read_transaction(found.tx_hash, found.body)
    known = read if isinstance(read, Transaction) else None
    return SeenTransaction(
        height=found.height,
        fee=known.network_fee if known else None,
        key_images=frozenset(known.key_images if known else ()),
        relayed=found.relayed,
    )
