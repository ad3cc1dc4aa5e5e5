"""Checks a whole log: every leaf and chain, every head, every event, every transition of every stream."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from domain import limits
from domain.events import AnyEvent, PayoutProposed, PayoutSigned
from domain.evolve import evolve
from domain.limits import AnyLimitEvent
from domain.payout import inputs_sum
from domain.states import NAMES, TERMINAL, Escrow, Money, Payout, money_of, name
from eventstore.api import EventLog, Head, Recorded
from eventstore.chain import GENESIS, ChainBroken, verify_chain
from projections.escrows import ESCROW_STREAM
from schemas.codec import canonical, decode
from schemas.limit_codec import decode_limit, encode_limit

PAGE = 1_000
CONSENTS_NEEDED = 2
FINDINGS_KEPT = 100
"""Findings kept with their sentence; the others are only counted."""

Progress = Callable[[int, int], None]
"""Told how many events are checked, of how many there were when the check began."""

# Which states can follow which; staying is always possible.
_PAYING = frozenset({"releasing", "refunding", "releasing_recovery_needed", "refunding_recovery_needed"})
_ENDS = frozenset({"completed", "refunded"})
_NEXT: dict[str, frozenset[str]] = {
    "pending": frozenset({"setting_up", "cancelled"}),
    "setting_up": frozenset({"awaiting_funding", "setup_failed", "cancelled"}),
    "awaiting_funding": frozenset({"funded", "cancelled", "disputed", "releasing", "refunding"}) | _ENDS,
    "funded": frozenset({"awaiting_funding", "delivering", "disputed", "releasing", "refunding"}) | _ENDS,
    "delivering": frozenset({"disputed", "releasing", "refunding"}) | _ENDS,
    "disputed": frozenset({"releasing", "refunding"}) | _ENDS,
    **dict.fromkeys(_PAYING, _PAYING | _ENDS | {"disputed"}),
    **dict.fromkeys(("completed", "refunded", "cancelled", "setup_failed"), frozenset()),
}
assert set(_NEXT) == set(NAMES.values())


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it must be, and where."""

    partition: int
    position: int
    stream_id: str
    says: str

    def __str__(self) -> str:
        return f"partition {self.partition}, position {self.position}, {self.stream_id or 'no stream'}: {self.says}"


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a check came to."""

    events: int
    streams: int
    escrows: int
    partitions: int
    count: int
    """Of findings."""
    findings: tuple[Finding, ...]
    """The first of them."""


async def verify(event_log: EventLog, *, progress: Progress | None = None) -> Verified:
    """Reads the whole log once and checks it; appends that happen meanwhile are checked too."""
    checker = _Checker(event_log, progress)
    heads = await event_log.heads()
    checker.total = sum(head.position for head in heads)
    for head in heads:
        await checker.partition(head.partition)
    return checker.result(partitions=len(heads))


class _Checker:
    """Collects findings; holds every stream's last event and state, so memory grows with the number of escrows."""

    def __init__(self, event_log: EventLog, progress: Progress | None) -> None:
        self._log, self._progress = event_log, progress
        self._findings: list[Finding] = []
        self._count = self._events = self.total = 0
        self._streams: dict[str, _Stream] = {}

    def result(self, *, partitions: int) -> Verified:
        return Verified(
            events=self._events,
            streams=len(self._streams),
            escrows=sum(1 for stream in self._streams if stream.startswith(ESCROW_STREAM)),
            partitions=partitions,
            count=self._count,
            findings=tuple(self._findings),
        )

    async def partition(self, partition: int) -> None:
        """Checks one partition to its end: its events one after another, and its head against the last of them."""
        chain, position = GENESIS, 0
        while True:
            page = await self._log.read_partition(partition, after_position=position, limit=PAGE)
            for recorded in page:
                chain = self._place(recorded, partition=partition, position=position + 1, chain=chain)
                position = recorded.position
            self._tell(len(page))
            if not page:
                head = next(head for head in await self._log.heads() if head.partition == partition)
                if not await self._grew(head, position):
                    self._head(head, position=position, chain=chain)
                    return

    async def _grew(self, head: Head, position: int) -> bool:
        """Says whether there is more to read by now; a head that runs ahead of its events is a finding."""
        return head.position > position and bool(
            await self._log.read_partition(head.partition, after_position=position, limit=1)
        )

    def _head(self, head: Head, *, position: int, chain: bytes) -> None:
        if head.position > position:
            self._find(head.partition, position, "", f"events up to {head.position} are missing at the end")
        elif head.position < position:
            self._find(head.partition, position, "", f"the head is at {head.position}, before the last event")
        elif head.chain != chain:
            self._find(head.partition, position, "", "the head's chain is not that of the last event")

    def _place(self, recorded: Recorded, *, partition: int, position: int, chain: bytes) -> bytes:
        """Checks an event's place, leaf and chain; goes on from the chain as stored, so that one fault is one."""
        if recorded.position != position:
            self._find(partition, recorded.position, recorded.stream_id, f"position {position} is missing")
        if self._log.partition_of(recorded.stream_id) != partition:
            self._find(partition, recorded.position, recorded.stream_id, "the stream belongs to another partition")
        try:
            verify_chain(chain, [recorded])
        except ChainBroken as broken:
            self._find(partition, recorded.position, recorded.stream_id, broken.reason)
        stream = self._streams.setdefault(recorded.stream_id, _Stream(recorded.stream_id))
        for says in stream.take(recorded):
            self._find(partition, recorded.position, recorded.stream_id, says)
        return recorded.chain

    def _find(self, partition: int, position: int, stream_id: str, says: str) -> None:
        self._count += 1
        if len(self._findings) < FINDINGS_KEPT:
            finding = Finding(partition=partition, position=position, stream_id=stream_id, says=says)
            self._findings.append(finding)

    def _tell(self, more: int) -> None:
        self._events += more
        if self._progress:
            self._progress(self._events, max(self.total, self._events))


class _Stream:
    """One stream as far as it was read: what its next event must fit to."""

    def __init__(self, stream_id: str) -> None:
        self._id = stream_id
        self._version = self._occurred_at = 0
        self._state: Escrow | None = None
        self._limits: list[AnyLimitEvent] = []
        self._command = ""
        self._commands: set[str] = set()
        self._stopped = False

    def take(self, recorded: Recorded) -> list[str]:
        """Takes the next event and says what is wrong; after a state that cannot be, only places are checked."""
        found = [*self._order(recorded), *self._commands_once(recorded)]
        if not self._stopped:
            try:
                found += self._apply(recorded)
            except Exception as impossible:
                # Whatever a changed body makes the fold stumble over, it stumbles: that is the finding.
                self._stopped = True
                found.append(f"cannot follow: {type(impossible).__name__}")
        return found

    def _order(self, recorded: Recorded) -> list[str]:
        found = []
        if recorded.version != self._version + 1:
            found.append(f"version {self._version + 1} is missing")
        if recorded.occurred_at < self._occurred_at:
            found.append("occurred before the event before it")
        self._version, self._occurred_at = recorded.version, max(recorded.occurred_at, self._occurred_at)
        return found

    def _commands_once(self, recorded: Recorded) -> list[str]:
        if recorded.command_id == self._command:
            return []
        again = recorded.command_id in self._commands
        self._command = recorded.command_id
        self._commands.add(recorded.command_id)
        return ["its command was followed before"] if again else []

    def _apply(self, recorded: Recorded) -> Sequence[str]:
        if self._id.startswith(ESCROW_STREAM):
            return self._apply_escrow(recorded)
        return self._apply_limit(recorded)

    def _apply_escrow(self, recorded: Recorded) -> Sequence[str]:
        event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        before, after = self._state, evolve(self._state, event)
        self._state = after
        found = []
        written = canonical(event, schema_version=recorded.schema_version, body=recorded.body)
        if written != recorded.body or event.__struct_config__.tag != recorded.type:
            found.append("the body is not the canonical form of its event")
        if event.at != recorded.occurred_at:
            found.append("the body's moment is not the event's")
        if after.core.terms.escrow_id != self._id:
            found.append("the terms name another escrow")
        if before is not None and not _may_follow(before, after):
            found.append(f"{name(after)} cannot follow {name(before)}")
        return [*found, *_money_faults(after, event)]

    def _apply_limit(self, recorded: Recorded) -> Sequence[str]:
        event = decode_limit(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
        self._limits.append(event)
        _fold_limit(self._id, self._limits)
        found = []
        if encode_limit(event).body != recorded.body:
            found.append("the body is not the canonical form of its event")
        if event.at != recorded.occurred_at:
            found.append("the body's moment is not the event's")
        return found


def _may_follow(before: Escrow, after: Escrow) -> bool:
    if isinstance(before, TERMINAL):
        return type(after) is type(before)
    return type(after) is type(before) or name(after) in _NEXT[name(before)]


def _money_faults(state: Escrow, event: AnyEvent) -> Iterator[str]:
    """Checks what must hold whenever money is about to move: two of the three agree, and nothing is lost or made."""
    money = money_of(state)
    if isinstance(event, PayoutProposed) and money is not None:
        epoch = next(each for each in _payout(money, event.payout).epochs if each.number == event.epoch)
        if sum(share.amount for share in event.shares) + event.network_fee != inputs_sum(money, epoch):
            yield "the payout's shares and fee are not the sum of its inputs"
    if isinstance(event, PayoutSigned) and money is not None:
        payout = _payout(money, event.payout)
        if not payout.approved or len(payout.consents) < CONSENTS_NEEDED:
            yield "a payout was signed without the consent of two of the three"


def _payout(money: Money, number: int) -> Payout:
    return next(each for each in money.payouts if each.number == number)


def _fold_limit(stream_id: str, events: list[AnyLimitEvent]) -> None:
    if stream_id.startswith("order-"):
        limits.order_of(events)
    elif stream_id.startswith("wallet-"):
        limits.wallet_of(events)
    elif stream_id == limits.LIVE_STREAM:
        limits.live_of(events)
    elif stream_id == limits.MAINTENANCE_STREAM:
        limits.maintenance_of(events)
    elif stream_id.startswith("limits-"):
        limits.volume_of(events)
    else:
        raise limits.ForeignEvent(stream_id)
