"""Waiting for set-ups to end, whichever node ends them: one reader a node for all who wait."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from domain import events as e
from domain.ids import EscrowId
from eventstore.api import EventLog, LogUnavailable
from eventstore.subscription import Rest

log = structlog.get_logger(__name__)

LOOK_S = 0.05
"""At least so long between two looks: a busy log wakes far more often than anybody waits for."""
POLL_S = 1.0
"""At most so long between two looks: wakes may be lost."""
PAGE_MAX = 1_000
ENDS = frozenset(str(kind.__struct_config__.tag) for kind in (e.AddressAgreed, e.SetupFailed, e.Cancelled))
"""The types of the events by which a set-up ends."""


class SetupWaits:
    """Tells who waits when set-ups end; one in a node.

    Nobody holds a connection meanwhile: the reader asks for the new events of all awaited escrows together, one query
    for each partition, when the log has grown, and rests while nobody waits.
    """

    def __init__(self, event_log: EventLog, *, waiting_max: int) -> None:
        self._log, self._waiting_max = event_log, waiting_max
        self._waits: list[_Wait] = []
        self._rest: Rest | None = None
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def reading(self) -> bool:
        """Whether somebody waits, so that the log is read."""
        return self._reader is not None and not self._reader.done()

    @property
    def waiting(self) -> int:
        """How many set-ups are waited for now."""
        return sum(len(wait.after) for wait in self._waits)

    async def ended(self, after: Mapping[EscrowId, int], *, timeout_s: float) -> None:
        """Returns when the set-ups of all these escrows have ended or time is up; at once when too many wait already.

        `after` names for each escrow a position, in its partition, before its set-up's end.
        """
        if self._stopped or not after or self.waiting + len(after) > self._waiting_max:
            return
        wait = _Wait(after)
        self._waits.append(wait)
        self._start()
        try:
            async with asyncio.timeout(timeout_s):
                await wait.over.wait()
        except TimeoutError:
            pass
        finally:
            self._waits.remove(wait)

    async def stop(self) -> None:
        """Lets everybody go who waits, now and later: the service ends."""
        self._stopped = True
        for wait in self._waits:
            wait.over.set()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    # -- the reader ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._rest is None:
            self._rest = Rest(self._log, poll_s=POLL_S)
            self._reader = asyncio.get_running_loop().create_task(self._read_on(self._rest))
        self._rest.notify()

    async def _read_on(self, rest: Rest) -> None:
        try:
            while self._waits:
                await asyncio.sleep(LOOK_S)
                await rest.wait()
                try:
                    await self._look(tuple(self._waits))
                except LogUnavailable as broken:
                    log.warning("setup_waits_wait", error=type(broken).__name__)
        finally:
            self._rest = None
            rest.close()

    async def _look(self, waits: "Sequence[_Wait]") -> None:
        for partition in range(self._log.partitions):
            after: dict[EscrowId, int] = {}
            for wait in waits:
                for escrow_id, position in wait.after.items():
                    if self._log.partition_of(escrow_id) == partition:
                        after[escrow_id] = min(position, after.get(escrow_id, position))
            if after:
                read_to, ended = await self._read(partition, after)
                # Only of those who waited before the read: who came meanwhile may have to hear what it passed.
                for wait in waits:
                    wait.pass_on(after, read_to=read_to, ended=ended)

    async def _read(self, partition: int, after: Mapping[EscrowId, int]) -> tuple[int, set[str]]:
        """Reads on in the streams; returns up to where, and whose set-ups have ended."""
        position, ended = min(after.values()), set[str]()
        while True:
            page = await self._log.read_streams(
                list(after), partition=partition, after_position=position, limit=PAGE_MAX
            )
            ended |= {recorded.stream_id for recorded in page if recorded.type in ENDS}
            position = page[-1].position if page else position
            if len(page) < PAGE_MAX:
                return position, ended


class _Wait:
    """One who waits for some escrows: from where on each is still to be read."""

    def __init__(self, after: Mapping[EscrowId, int]) -> None:
        self.after = dict(after)
        self.over = asyncio.Event()

    def pass_on(self, read: Mapping[EscrowId, int], *, read_to: int, ended: set[str]) -> None:
        """Takes what was read: an ended set-up is waited for no longer, the others' events are not read again."""
        for escrow_id in read:
            if escrow_id in ended:
                self.after.pop(escrow_id, None)
            elif escrow_id in self.after:
                self.after[escrow_id] = max(self.after[escrow_id], read_to)
        if not self.after:
            self.over.set()
