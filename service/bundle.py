"""Makes bundles: one escrow's events with the proofs that they are in the log, and nobody else's bodies."""

from collections.abc import Sequence
from itertools import pairwise

from domain.ids import Micros
from eventstore.api import EventLog, LogBusy, Recorded
from eventstore.heads import HeadStore, SignedHead
from eventstore.leaf_tree import LeafTree
from schemas.bundle import BUNDLE_FORMAT, Bundle, BundleEvent, Growth
from service.head_signer import Now
from service.heads_file import record_of

PAGE = 1_000
BUNDLE_EVENTS_MAX = 5_000
"""Events of one escrow in a bundle; the longest life seen in the simulations has a few hundred."""
BUNDLES_AT_ONCE_MAX = 4
SINCE_MAX = 100
"""Earlier positions from which one bundle shows that the log only grew."""


class BundleTooLong(Exception):
    """An escrow has more events than a bundle may hold."""


class BundleMaker:
    """Makes bundles of one log; keeps the trees of its partitions, so that only the first bundle reads them whole."""

    def __init__(self, event_log: EventLog, heads: HeadStore, *, clock: Now) -> None:
        self._log, self._heads, self._clock = event_log, heads, clock
        self._trees: dict[int, LeafTree] = {}
        self._making = 0

    async def make(self, escrow_id: str, *, since: Sequence[int] = ()) -> Bundle | None:
        """Makes the bundle of an escrow, None when there is none of that name.

        `since` are positions of its partition at which somebody knows a signed head: for each the bundle shows that the
        log only grew since. Raises `BundleTooLong`, `TreeShort`, `LogBusy` above `BUNDLES_AT_ONCE_MAX` at once,
        `LogUnavailable`.
        """
        if self._making >= BUNDLES_AT_ONCE_MAX:
            raise LogBusy(f"{BUNDLES_AT_ONCE_MAX} bundles are being made already")
        self._making += 1
        try:
            return await self._made(escrow_id, since=since[:SINCE_MAX])
        finally:
            self._making -= 1

    async def _made(self, escrow_id: str, *, since: Sequence[int]) -> Bundle | None:
        partition = self._log.partition_of(escrow_id)
        # The head first: whatever it covers is among the events read after it.
        newest = (await self._heads.newest()).get(partition)
        events = await self._events(escrow_id)
        if not events:
            return None
        size = newest.head.position if newest else 0
        heads = await self._heads.covering(partition, [each.position for each in events if each.position <= size])
        heads = [head for head in heads if head.position < size] + ([newest.head] if newest else [])
        tree = self._trees.setdefault(partition, LeafTree(self._heads, partition))
        return Bundle(
            format=BUNDLE_FORMAT,
            escrow_id=escrow_id,
            partition=partition,
            exported_at=Micros(self._clock.now()),
            events=tuple([await _event(each, tree, size=size) for each in events]),
            heads=tuple(record_of(head) for head in heads),
            growths=await _growths(tree, heads, since=since, size=size),
            keys=tuple(await self._heads.keys()),
        )

    async def _events(self, escrow_id: str) -> list[Recorded]:
        events: list[Recorded] = []
        while page := await self._log.read_stream(escrow_id, after_version=len(events), limit=PAGE):
            events += page
            if len(events) > BUNDLE_EVENTS_MAX:
                raise BundleTooLong(f"{escrow_id} has more than {BUNDLE_EVENTS_MAX} events")
        return events


async def _event(recorded: Recorded, tree: LeafTree, *, size: int) -> BundleEvent:
    path = await tree.inclusion(recorded.position, size=size) if recorded.position <= size else None
    return BundleEvent(
        position=recorded.position,
        version=recorded.version,
        type=recorded.type,
        schema_version=recorded.schema_version,
        command_id=recorded.command_id,
        occurred_at=Micros(recorded.occurred_at),
        recorded_at=Micros(recorded.recorded_at),
        meta=recorded.meta.decode(),
        body=recorded.body.decode(),
        salt=recorded.salt.hex(),
        path=None if path is None else _hex(path),
    )


async def _growths(
    tree: LeafTree, heads: Sequence[SignedHead], *, since: Sequence[int], size: int
) -> tuple[Growth, ...]:
    positions = [head.position for head in heads]
    wanted = {*pairwise(positions), *((old, size) for old in since if 0 < old < size)}
    return tuple([Growth(old=old, new=new, path=_hex(await tree.growth(old, size=new))) for old, new in sorted(wanted)])


def _hex(hashes: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(each.hex() for each in hashes)
