"""Signs the end of each partition: one node at a time, and only what grew from what was signed before."""

from collections.abc import Mapping
from typing import Protocol

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.ids import MICROS
from eventstore.api import EventLog, Head, Lease, Leases
from eventstore.chain import GENESIS, ChainBroken, verify_chain
from eventstore.heads import GrowingHead, HeadStore, SignedHead, duty_lease_name, sign_head, signature_holds
from eventstore.merkle import Frontier

log = structlog.get_logger(__name__)


class HeadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When and how heads are signed; times in seconds."""

    interval_s: int = 60
    """New events are signed when the newest head is this old."""
    events_max: int = 1_000
    """They are signed sooner when there are this many."""
    look_s: float = 1.0
    """How often the log's end is compared with the newest heads."""
    lease_s: float = 30.0
    page: int = 500
    """Events read and checked at a time."""


class HeadLost(Exception):
    """What was signed is no longer in the log, or what follows it does not grow from it."""

    def __init__(self, *, partition: int, reason: str) -> None:
        super().__init__(f"partition {partition}: {reason}")
        self.partition, self.reason = partition, reason


class Now(Protocol):
    """What tells the present moment."""

    def now(self) -> int: ...


class HeadPlace(Protocol):
    """Where heads are signed: a log, what is kept of it, and who asks; a `Store` is one."""

    @property
    def log(self) -> EventLog: ...

    @property
    def heads(self) -> HeadStore: ...

    @property
    def duty_leases(self) -> Leases: ...

    @property
    def node_id(self) -> str: ...


class HeadSigner:
    """Signs for one node. A partition whose signed head is lost is never signed again: `alarms` says why.

    `remembered` are the newest heads known outside the database: they must be in the log too, so that a database put
    back to an earlier day, its signed heads with it, is not signed on.
    """

    def __init__(
        self,
        store: HeadPlace,
        key: Ed25519PrivateKey,
        *,
        clock: Now,
        limits: HeadLimits | None = None,
        remembered: Mapping[int, SignedHead] | None = None,
    ) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._limits, self._remembered = limits or HeadLimits(), dict(remembered or {})
        self._leases: dict[int, Lease] = {}
        self.alarms: dict[int, str] = {}
        """By partition, for as long as this node runs."""

    async def sign_due(self) -> list[SignedHead]:
        """Signs every partition whose time has come and whose lease can be had; raises `LogUnavailable`."""
        newest, signed = await self._store.heads.newest(), []
        for end in await self._store.log.heads():
            if end.partition not in self.alarms and self._is_due(end, newest.get(end.partition)):
                signed.append(await self.sign(end))
        return [head for head in signed if head is not None]

    async def sign(self, end: Head) -> SignedHead | None:
        """Signs a partition up to a known end; None when another node has the duty, or after an alarm.

        Raises `LogUnavailable`.
        """
        lease = await self._lease(end.partition)
        if lease is None:
            return None
        try:
            # Read under the lease: whoever had it before may have signed meanwhile.
            last = (await self._store.heads.newest()).get(end.partition)
            new = await self._grown(last, end)
        except HeadLost as lost:
            self._alarm(lost)
            return None
        follows = last.head.position if last else 0
        if new is None or not await self._store.heads.add(new, follows=follows, lease=lease):
            self._leases.pop(end.partition, None)
            return None
        self.remember(new.head)
        return new.head

    def remember(self, head: SignedHead) -> None:
        """Takes note of a head that is known outside the database from now on."""
        known = self._remembered.get(head.partition)
        if known is None or known.position < head.position:
            self._remembered[head.partition] = head

    async def release(self) -> None:
        """Gives the duty back, so that another node has it at once."""
        while self._leases:
            _, lease = self._leases.popitem()
            await self._store.duty_leases.release(lease)

    def _is_due(self, end: Head, last: GrowingHead | None) -> bool:
        signed_at, covered = (last.head.signed_at, last.head.position) if last else (0, 0)
        outside = self._remembered.get(end.partition)
        if end.position < covered or (outside is not None and outside.position > covered):
            return True  # looked at, and never signed: that is what raises the alarm
        waiting = end.position - covered
        return waiting >= self._limits.events_max or (waiting > 0 and self._is_old(signed_at))

    def _is_old(self, signed_at: int) -> bool:
        # A head from the future, by a clock that was wrong, is old at once.
        return not 0 <= self._clock.now() - signed_at < self._limits.interval_s * MICROS

    async def _lease(self, partition: int) -> Lease | None:
        held, leases = self._leases.pop(partition, None), self._store.duty_leases
        if held is None or not await leases.renew(held):
            name, holder = duty_lease_name(partition), self._store.node_id
            held = await leases.acquire(name, holder=holder, seconds=self._limits.lease_s)
        if held is not None:
            self._leases[partition] = held
        return held

    async def _grown(self, last: GrowingHead | None, end: Head) -> GrowingHead | None:
        """Checks all that follows the last head and makes the next one; raises `HeadLost`."""
        await self._check_last(last, partition=end.partition)
        position = last.head.position if last else 0
        chain = last.head.chain if last else GENESIS
        frontier = last.frontier if last else Frontier()
        while position < end.position:
            limit = min(self._limits.page, end.position - position)
            page = await self._store.log.read_partition(end.partition, after_position=position, limit=limit)
            if not page or page[0].position != position + 1:
                raise HeadLost(partition=end.partition, reason=f"position {position + 1} is missing")
            try:
                chain = verify_chain(chain, page)
            except ChainBroken as broken:
                raise HeadLost(partition=end.partition, reason=f"position {broken.position}: {broken.reason}") from None
            frontier, position = frontier.extended(event.leaf for event in page), page[-1].position
        if last and position == last.head.position:
            return None  # another node signed as far meanwhile
        end = Head(partition=end.partition, position=position, chain=chain)
        moment = max(self._clock.now(), last.head.signed_at if last else 0)
        return GrowingHead(
            head=sign_head(self._key, end, merkle_root=frontier.root, signed_at=moment), frontier=frontier
        )

    async def _check_last(self, last: GrowingHead | None, *, partition: int) -> None:
        """Sees that what was signed last, here and outside, is still in the log; raises `HeadLost`."""
        outside = self._remembered.get(partition)
        if last is not None:
            if not signature_holds(last.head) or last.frontier.root != last.head.merkle_root:
                raise HeadLost(partition=partition, reason="the last signed head was changed")
            await self._check_there(last.head)
        if outside is not None and outside.position > (last.head.position if last else 0):
            reason = f"a head was signed at position {outside.position}, and the database does not know it"
            raise HeadLost(partition=partition, reason=reason)
        if outside is not None:
            await self._check_there(outside)

    async def _check_there(self, head: SignedHead) -> None:
        at = head.position
        found = await self._store.log.read_partition(head.partition, after_position=at - 1, limit=1)
        if not found or (found[0].position, found[0].chain) != (at, head.chain):
            raise HeadLost(partition=head.partition, reason=f"the head signed at position {at} is not in the log")

    def _alarm(self, lost: HeadLost) -> None:
        if lost.partition not in self.alarms:
            log.error("signed_head_lost", partition=lost.partition, reason=lost.reason)
            self.alarms[lost.partition] = lost.reason
