"""Compares the draws of a whole log with the links that were taken for them, which no stream can show by itself.

A link says whose it is before that escrow exists. So links are walked when all else was read, and looked for in the
first events of their escrows, a page at a time; draws to which no link led are counted, and named only where there are
any.
"""

from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec

from domain.arbiters import DRAWS_STREAM, TAKEN_KEPT_MAX, ChainCommitted, LinkTaken
from domain.draw import ArbiterDraw
from domain.events import EscrowCreated
from domain.ids import EscrowId
from domain.limits import AnyLimitEvent
from eventstore.api import EventLog, Recorded
from projections.folds import ESCROW_STREAM
from schemas.codec import UnknownEvent, decode
from schemas.limit_codec import decode_limit

PAGE = 1_000
PAGES_KEPT = 8
"""Pages of links kept while draws are named: the draws of a partition come nearly in the order of their links."""

Find = Callable[[Recorded, str], None]
"""Told of an event that is not as it must be, in a sentence."""
Turn = tuple[int, int]
"""Number of a chain and of its link: each is taken after all that are lower."""


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """How many escrows of a partition were created with a draw."""

    partition: int
    position: int
    """Up to which it was read."""
    draws: int


class DrawComparison:
    """One comparison; `drawn` says which draws there are, `told` is told how many more of them are compared."""

    def __init__(self, event_log: EventLog, drawn: Sequence[Drawn], *, find: Find, told: Callable[[int], None]) -> None:
        self._log, self._find, self._told = event_log, find, told
        self._links = _Links(event_log, find)
        self._drawn = {each.partition: each for each in drawn}
        self._met = dict.fromkeys(self._drawn, 0)
        self.links = 0
        """Links that were taken in turn."""
        self.unused = 0
        """Those with which no escrow was created."""

    async def run(self) -> None:
        """Compares all links and draws; raises `LogUnavailable`."""
        while (page := await self._links.next_page()) is not None:
            await self._look_for(page)
        for drawn in self._drawn.values():
            if self._met[drawn.partition] < drawn.draws:
                await self._name(drawn)
                self._told(drawn.draws - self._met[drawn.partition])

    async def _look_for(self, page: Sequence["_Link"]) -> None:
        """Compares a page of links with the first events of the escrows they were taken for."""
        parts = defaultdict[int, list[_Link]](list)
        for link in page:
            parts[self._log.partition_of(link.escrow_id)].append(link)
        for partition, links in parts.items():
            before = self._met.get(partition, 0)
            firsts = await self._log.read_firsts([each.escrow_id for each in links], partition=partition)
            first_of = {each.stream_id: each for each in firsts}
            for link in links:
                self._compare(link, first_of.get(link.escrow_id))
            if self._met.get(partition, 0) > before:
                self._told(self._met[partition] - before)
        self.links += len(page)

    def _compare(self, link: "_Link", first: Recorded | None) -> None:
        draw = draw_of(first) if first is not None else None
        if first is None or (draw is not None and (draw.chain, draw.link) != link.turn):
            # The creation was refused or never came to its end. Or the escrow was created with another link: then that
            # one meets it, or the escrow is named.
            self.unused += 1
        elif draw is None:
            self._find(first, f"{_named(link.turn)} was taken for it, but it was created without a draw")
        else:
            drawn = self._drawn.get(first.partition)
            if drawn is not None and first.position <= drawn.position:
                self._met[first.partition] += 1
            if draw.anchor != link.anchor:
                self._find(first, f"its draw names another anchor than the one that chain {link.turn[0]} committed to")

    async def _name(self, drawn: Drawn) -> None:
        """Reads a partition again and finds the draws that no link led to."""
        after = 0
        while after < drawn.position:
            page = await self._log.read_partition(drawn.partition, after_position=after, limit=PAGE)
            page = [each for each in page if after < each.position <= drawn.position]
            for recorded in page:
                if (draw := draw_of(recorded)) is not None:
                    await self._find_unmet(recorded, (draw.chain, draw.link))
            after = page[-1].position if page else drawn.position

    async def _find_unmet(self, recorded: Recorded, turn: Turn) -> None:
        owner = await self._links.taken_for(turn)
        if owner != recorded.stream_id:
            of = f"was taken for {owner}" if owner else "was not taken in turn"
            self._find(recorded, f"its arbiter was drawn with {_named(turn)}, which {of}")


def draw_of(recorded: Recorded) -> ArbiterDraw | None:
    """Returns the draw that an escrow begins with; None for any other event, and for one that cannot be read."""
    if recorded.version != 1 or not recorded.stream_id.startswith(ESCROW_STREAM):
        return None
    try:
        event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
    except Exception:
        return None  # Whatever a changed body makes the reading stumble over is found at its place.
    return event.draw if isinstance(event, EscrowCreated) else None


def _named(turn: Turn) -> str:
    return f"link {turn[1]} of chain {turn[0]}"


# -- the stream of draws -----------------------------------------------------------------------------------------


class _Link(msgspec.Struct, frozen=True, kw_only=True):
    """A link that was taken in turn, and the anchor that its chain was committed with before."""

    turn: Turn
    escrow_id: EscrowId
    anchor: str


class _Commitment(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    """Of the stream of draws."""
    anchor: str


_DrawEvent = tuple[Recorded, AnyLimitEvent]


class _Links:
    """The stream of draws, read a page at a time; an anchor of each chain and a mark of each page are all it keeps.

    A link or chain that is missing is found where its version is; those after it are taken as they come.
    """

    def __init__(self, event_log: EventLog, find: Find) -> None:
        self._log, self._find = event_log, find
        self._version, self._last = 0, (0, 0)
        self._commitments: dict[int, _Commitment] = {}
        self._recent: OrderedDict[EscrowId, None] = OrderedDict()
        self._marks: list[tuple[Turn, int]] = []
        """Which link was the last one before each page, and the version after which the page begins."""
        self._kept: OrderedDict[int, dict[Turn, EscrowId]] = OrderedDict()

    async def next_page(self) -> Sequence[_Link] | None:
        """Reads on and finds what is out of turn; returns the links that are not, and None at the stream's end."""
        page = await self._log.read_stream(DRAWS_STREAM, after_version=self._version, limit=PAGE)
        if not page or page[-1].version <= self._version:
            return None
        links: list[_Link] = []
        self._marks.append((self._last, self._version))
        events = _draw_events(page)
        for recorded, event in events:
            if isinstance(event, ChainCommitted):
                self._commit(recorded, event)
        for recorded, judged in self._judged(events, self._last):
            if isinstance(judged, str):
                self._find(recorded, judged)
                continue
            links.append(judged)
            if self._has_one(judged.escrow_id):
                self._find(recorded, f"a second link is taken for {judged.escrow_id}")
        self._version, self._last = page[-1].version, links[-1].turn if links else self._last
        return links

    async def taken_for(self, turn: Turn) -> EscrowId | None:
        """Says for which escrow a link was taken, if it was; reads its page again unless that was lately."""
        number = bisect_left(self._marks, turn, key=lambda mark: mark[0]) - 1
        if number < 0:
            return None
        if number not in self._kept:
            last, version = self._marks[number]
            page = await self._log.read_stream(DRAWS_STREAM, after_version=version, limit=PAGE)
            judged = (each for _, each in self._judged(_draw_events(page), last))
            self._kept[number] = {each.turn: each.escrow_id for each in judged if isinstance(each, _Link)}
            if len(self._kept) > PAGES_KEPT:
                self._kept.popitem(last=False)
        return self._kept[number].get(turn)

    def _commit(self, recorded: Recorded, event: ChainCommitted) -> None:
        if any(event.anchor == each.anchor for each in self._commitments.values()):
            self._find(recorded, f"chain {event.chain} is committed to an anchor that was committed to before")
        self._commitments.setdefault(event.chain, _Commitment(version=recorded.version, anchor=event.anchor))

    def _judged(self, events: Sequence[_DrawEvent], last: Turn) -> Iterator[tuple[Recorded, _Link | str]]:
        """Judges each link that follows a `last` one: it was taken in turn, or a sentence says what is wrong."""
        for recorded, event in events:
            if not isinstance(event, LinkTaken):
                continue
            turn, commitment = (event.chain, event.link), self._commitments.get(event.chain)
            if commitment is None or commitment.version > recorded.version:
                yield recorded, f"{_named(turn)} is taken before its chain is committed"
            elif turn <= last:
                yield recorded, f"{_named(turn)} is taken out of turn"
            else:
                last = turn
                yield recorded, _Link(turn=turn, escrow_id=event.escrow_id, anchor=commitment.anchor)

    def _has_one(self, escrow_id: EscrowId) -> bool:
        """Says whether an escrow has a link that the service remembers: then it takes no second one."""
        if escrow_id in self._recent:
            return True
        self._recent[escrow_id] = None
        if len(self._recent) > TAKEN_KEPT_MAX:
            self._recent.popitem(last=False)
        return False


def _draw_events(page: Sequence[Recorded]) -> Sequence[_DrawEvent]:
    """Reads what can be read; the rest is found at its place."""
    events: list[_DrawEvent] = []
    for each in page:
        with suppress(UnknownEvent):
            event = decode_limit(type=each.type, schema_version=each.schema_version, body=each.body)
            events.append((each, event))
    return events
