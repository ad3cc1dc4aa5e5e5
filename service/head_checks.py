"""Compares signed heads with the leaves of one partition, as a check walks along them."""

from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from eventstore.api import Recorded
from eventstore.heads import HeadStore, SignedHead, signature_holds
from eventstore.merkle import Frontier

HEADS_PAGE = 1_000


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """Heads that an auditor has from elsewhere."""

    name: str = ""
    """Where from, for the findings."""
    heads: tuple[SignedHead, ...] = ()

    def of(self, partition: int) -> list[SignedHead]:
        """Returns the heads of one partition in order of position."""
        return sorted((head for head in self.heads if head.partition == partition), key=lambda head: head.position)


class HeadWalk:
    """Checks the heads of one partition: those kept beside the log, and those from outside.

    `trusted` are the public keys (hex) that heads must be signed with; None compares no keys.
    """

    def __init__(
        self, partition: int, *, stored: HeadStore, outside: Outside, trusted: frozenset[str] | None = None
    ) -> None:
        self._partition, self._store, self._trusted = partition, stored, trusted
        self._frontier, self._chain = Frontier(), b""
        self._stored: deque[SignedHead] = deque()
        self._stored_to = self._walked = 0
        self._outside_name, self._outside = outside.name, deque(outside.of(partition))
        self._roots_differ: set[str] = set()
        self.checked = 0
        self.covered = 0
        """Position of the newest head that was passed."""

    async def take(self, page: Sequence[Recorded]) -> list[tuple[int, str]]:
        """Passes consecutive events and says what is wrong with the heads among them: position and sentence."""
        found: list[tuple[int, str]] = []
        if not page:
            return found
        await self._fill(page[-1].position)
        leaves: list[bytes] = []
        for event in page:
            leaves.append(event.leaf)
            self._chain = event.chain
            if self._is_at(event.position):
                self._frontier = self._frontier.extended(leaves)
                leaves.clear()
                found += self._pass(event.position)
        self._frontier = self._frontier.extended(leaves)
        self._walked = page[-1].position
        return found

    async def beyond(self, position: int) -> list[tuple[int, str]]:
        """Finds the heads beyond the log's last event; there are none unless its tail was cut off."""
        stored = await self._store.after(self._partition, position=position, limit=1)
        outside = [head for head in self._outside if head.position > position]
        found = [(head.position, self._source(outside=False)) for head in stored]
        found += [(head.position, self._source(outside=True)) for head in outside[-1:]]
        return [(at, f"{source} reaches to here: events after {position} were cut off") for at, source in found]

    async def _fill(self, position: int) -> None:
        """Reads the stored heads up to a position, and at least one beyond it if there is one."""
        while not self._stored or self._stored[-1].position <= position:
            page = list(await self._store.after(self._partition, position=self._stored_to, limit=HEADS_PAGE))
            if not page:
                return
            if len(page) == HEADS_PAGE:
                # Heads of one position stay together: the page may end between them.
                page = [head for head in page if head.position < page[-1].position] or page
            # One behind was signed while this walk went on and had passed its place: the next check has it.
            self._stored += [head for head in page if head.position > self._walked]
            self._stored_to = page[-1].position

    def _is_at(self, position: int) -> bool:
        return any(heads and heads[0].position <= position for heads in (self._stored, self._outside))

    def _pass(self, position: int) -> list[tuple[int, str]]:
        stored = list(_until(self._stored, position))
        found = [(head.position, says) for head in stored for says in self._check(head, at=position, outside=False)]
        for head in _until(self._outside, position):
            # Most of the file is what is stored as well: then it was checked already.
            if head not in stored:
                found += [(head.position, says) for says in self._check(head, at=position, outside=True)]
                found.append((head.position, f"{self._source(outside=True)} is not among the heads kept by the log"))
        return found

    def _check(self, head: SignedHead, *, at: int, outside: bool) -> Iterator[str]:
        source = self._source(outside=outside)
        self.checked, self.covered = self.checked + 1, max(self.covered, head.position)
        if not signature_holds(head):
            yield f"{source} is not signed by the key it names"
        elif self._trusted is not None and head.key_id not in self._trusted:
            yield f"{source} is signed by a key that is not trusted: {head.key_id}"
        if head.position != at:
            yield f"{source} is at a position that is not in the log"
        elif head.chain != self._chain:
            yield f"{source} has another chain than the log"
        # Once a leaf differs every later root does: it is told once for each source.
        if head.merkle_root != self._frontier.root and source not in self._roots_differ:
            self._roots_differ.add(source)
            yield f"{source} has another Merkle root than the leaves: events up to here were changed"

    def _source(self, *, outside: bool) -> str:
        return f"a signed head of {self._outside_name}" if outside else "a signed head"


def _until(heads: deque[SignedHead], position: int) -> Iterator[SignedHead]:
    while heads and heads[0].position <= position:
        yield heads.popleft()
