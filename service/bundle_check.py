"""Checks a bundle with nothing but the bundle, and what the reader knows from elsewhere: a key, earlier heads."""

from collections.abc import Iterator

import msgspec

from domain.money import ATOMIC_MAX
from eventstore.api import NewEvent, Recorded
from eventstore.chain import leaf_of
from eventstore.heads import SignedHead, signature_holds
from eventstore.merkle import has_grown, is_included
from schemas.bundle import BUNDLE_FORMAT, Bundle, BundleEvent, Growth
from service.head_checks import Outside
from service.heads_file import head_of
from service.transitions import StreamCheck


class BundleChecked(msgspec.Struct, frozen=True, kw_only=True):
    """What the check of a bundle came to."""

    escrow_id: str
    events: tuple[Recorded, ...]
    """For their story; leaves as computed here."""
    proven_by: SignedHead | None
    uncovered: int
    """Events newer than the newest head: nothing proves them yet."""
    compared: int
    """Heads known from elsewhere that this bundle could be compared with."""
    not_compared: int
    """Heads known from elsewhere, of the same partition, that it proves nothing about."""
    findings: tuple[str, ...]
    """What is wrong; nothing is when there are none."""


def check_bundle(
    content: bytes, *, trusted: frozenset[str] | None = None, outside: Outside | None = None
) -> BundleChecked:
    """Checks leaves, proofs, signatures, versions and transitions.

    `trusted` are the public keys (hex) that its heads must be signed with, None compares no keys; `outside` are heads
    known from elsewhere: the bundle must agree with them. Never raises for what a bundle holds.
    """
    try:
        bundle = msgspec.json.decode(content, type=Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        return _unreadable(f"this cannot be read as a bundle: {type(broken).__name__}")
    if bundle.format != BUNDLE_FORMAT:
        return _unreadable(f"this is a bundle of another format than {BUNDLE_FORMAT!r}")
    checker = _BundleChecker(bundle, trusted)
    findings = [*checker.heads(), *checker.growths(), *checker.events()]
    if outside is not None:
        findings += checker.agrees(outside)
    return BundleChecked(
        escrow_id=bundle.escrow_id,
        events=tuple(checker.recorded),
        proven_by=checker.newest,
        uncovered=sum(event.path is None for event in bundle.events),
        compared=checker.compared,
        not_compared=checker.not_compared,
        findings=tuple(findings),
    )


class _BundleChecker:
    """One bundle, one kind of check after another; each yields sentences."""

    def __init__(self, bundle: Bundle, trusted: frozenset[str] | None) -> None:
        self._bundle, self._trusted = bundle, trusted
        self._heads: list[SignedHead] = []
        self.recorded: list[Recorded] = []
        self.compared = self.not_compared = 0

    @property
    def newest(self) -> SignedHead | None:
        return self._heads[-1] if self._heads else None

    def heads(self) -> Iterator[str]:
        """Says what is wrong with the bundle's signed heads, each by itself and against the one before it."""
        if not self._bundle.heads:
            yield "there is no signed head: nothing proves that these events are in a log"
        before: SignedHead | None = None
        for record in self._bundle.heads:
            try:
                head = head_of(record)
            except ValueError:
                yield f"the head at position {record.position} cannot be one"
                continue
            self._heads.append(head)
            yield from (f"the head at position {head.position} {says}" for says in self._head(head, before))
            before = head

    def _head(self, head: SignedHead, before: SignedHead | None) -> Iterator[str]:
        if not signature_holds(head):
            yield "is not signed by the key it names"
        elif self._trusted is not None and head.key_id not in self._trusted:
            yield f"is signed by a key that is not trusted: {head.key_id}"
        if head.key_id not in self._bundle.keys:
            yield "names a key that the bundle does not list"
        if head.partition != self._bundle.partition:
            yield "is of another partition"
        if before is not None and head.position <= before.position:
            yield "is out of order"
        if before is not None and head.signed_at < before.signed_at:
            yield "was signed before the one before it"

    def growths(self) -> Iterator[str]:
        """Checks that each head's log only grew to the next one's."""
        for old, new in zip(self._heads, self._heads[1:], strict=False):
            growth = self._growth(old.position, new.position)
            if growth is None:
                yield f"nothing shows that the log only grew from position {old.position} to {new.position}"
            elif not _grew(growth, old, new):
                yield f"the log did not only grow from position {old.position} to {new.position}: it was rewritten"

    def _growth(self, old: int, new: int) -> Growth | None:
        return next((each for each in self._bundle.growths if (each.old, each.new) == (old, new)), None)

    def events(self) -> Iterator[str]:
        """Checks each event's leaf against its proof, and that the events make one life."""
        stream, position = StreamCheck(self._bundle.escrow_id), 0
        if not self._bundle.events:
            yield "there is no event"
        for event in self._bundle.events:
            recorded = self._recorded(event)
            if recorded is None:
                yield f"version {event.version}: its salt or a number in it cannot be one"
                continue
            self.recorded.append(recorded)
            if event.position <= position:
                yield f"version {event.version}: its position is not after the one before"
            position = event.position
            yield from (f"version {event.version}: {says}" for says in self._proof(event, recorded.leaf))
            yield from (f"version {event.version}: {says}" for says in stream.take(recorded))

    def _proof(self, event: BundleEvent, leaf: bytes) -> Iterator[str]:
        head = self.newest
        if head is None:
            return
        if event.path is None:
            if event.position <= head.position:
                yield "its proof is missing, although a signed head covers its position"
            return
        try:
            path = [bytes.fromhex(each) for each in event.path]
        except ValueError:
            path = []
        index = event.position - 1
        if not is_included(leaf, index=index, size=head.position, root=head.merkle_root, path=path):
            yield "it is not in the log that was signed: the event or its proof was changed"

    def _recorded(self, event: BundleEvent) -> Recorded | None:
        new = NewEvent(
            type=event.type,
            schema_version=event.schema_version,
            occurred_at=event.occurred_at,
            meta=event.meta.encode(),
            body=event.body.encode(),
        )
        place = {"partition": self._bundle.partition, "position": event.position, "version": event.version}
        try:
            salt = bytes.fromhex(event.salt)
        except ValueError:
            return None
        if not all(0 <= each <= ATOMIC_MAX for each in (*place.values(), event.occurred_at, event.recorded_at)):
            return None
        leaf = leaf_of(new, **place, stream_id=self._bundle.escrow_id, command_id=event.command_id, salt=salt)
        return Recorded(
            **place,
            stream_id=self._bundle.escrow_id,
            type=event.type,
            schema_version=event.schema_version,
            command_id=event.command_id,
            occurred_at=event.occurred_at,
            recorded_at=event.recorded_at,
            meta=new.meta,
            body=new.body,
            salt=salt,
            leaf=leaf,
            chain=b"",
        )

    # -- against what is known from elsewhere ------------------------------------------------------------------

    def agrees(self, outside: Outside) -> Iterator[str]:
        """Checks that heads known from elsewhere are of the same log; a fork shows here."""
        known = outside.of(self._bundle.partition)
        older = [head for head in known if self.newest is not None and head.position <= self.newest.position]
        for head in known:
            if not signature_holds(head):
                yield f"a head of {outside.name} at position {head.position} is not signed by the key it names"
            elif self._trusted is not None and head.key_id not in self._trusted:
                yield f"a head of {outside.name} at position {head.position} is signed by a key that is not trusted"
            else:
                yield from self._agrees(head, name=outside.name)
        if not self.compared:
            ask = f": ask for a bundle with since={older[-1].position}" if older else ""
            yield f"no head of {outside.name} can be compared with this bundle{ask}"

    def _agrees(self, head: SignedHead, *, name: str) -> Iterator[str]:
        same = next((each for each in self._heads if each.position == head.position), None)
        growth = self._growth(head.position, self.newest.position) if self.newest else None
        if same is not None:
            self.compared += 1
            if (same.chain, same.merkle_root) != (head.chain, head.merkle_root):
                yield f"a fork: {name} knows another log at position {head.position}"
        elif growth is not None and self.newest is not None:
            self.compared += 1
            if not _grew(growth, head, self.newest):
                yield f"a fork: the log that {name} knows at position {head.position} did not grow to this one"
        else:
            self.not_compared += 1


def _grew(growth: Growth, old: SignedHead, new: SignedHead) -> bool:
    try:
        path = [bytes.fromhex(each) for each in growth.path]
    except ValueError:
        return False
    return has_grown(old=old.position, old_root=old.merkle_root, size=new.position, root=new.merkle_root, path=path)


def _unreadable(says: str) -> BundleChecked:
    return BundleChecked(
        escrow_id="", events=(), proven_by=None, uncovered=0, compared=0, not_compared=0, findings=(says,)
    )
