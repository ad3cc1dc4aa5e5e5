"""The reading side of the memory twin: the same answers as the SQL gives, by looking through everything."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast

from msgspec.structs import replace

from domain.ids import CaseId, EscrowId, Micros, UserId
from domain.roles import Role, SeatKind
from projections.api import ALL_CASES, EscrowQuery, Moved, Place
from projections.memory import Shelf
from projections.rows import (
    DeadlineRow,
    DisputeRow,
    EscrowRow,
    MessageRow,
    PhotoRow,
    RecoveryRow,
    Row,
    StoppedRow,
    TurnRow,
    WalletRow,
)

_R = TypeVar("_R", bound=Row)


class MemoryReader:
    """`ModelReader` over a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def escrow_page(self, query: EscrowQuery) -> Sequence[EscrowRow]:
        """Lists escrows, newest first."""
        found = [row for row in self._all("escrows", EscrowRow) if _fits(row, query)]
        return sorted(found, key=lambda row: (row.created_at, row.escrow_id), reverse=True)[: query.limit]

    async def escrow(self, escrow_id: EscrowId) -> EscrowRow | None:
        """Reads the line of one escrow."""
        return next((row for row in self._all("escrows", EscrowRow) if row.escrow_id == escrow_id), None)

    async def escrows_of(self, user: UserId) -> Sequence[EscrowId]:
        """Names every escrow in which a user has a seat."""
        return sorted(row.escrow_id for row in self._all("escrows", EscrowRow) if _role_of(row, user))

    async def unready(self, *, after: EscrowId | None, limit: int) -> Sequence[EscrowRow]:
        """Lists escrows whose arbiter is awaited, by name."""
        found = [row for row in self._all("escrows", EscrowRow) if row.unready and row.escrow_id > (after or "")]
        return sorted(found, key=lambda row: row.escrow_id)[:limit]

    async def watched(self, partition: int, *, after_position: int, limit: int) -> Sequence[Moved]:
        """Names escrows with an address whose last event lies after a position."""
        rows = self._shelf.rows.get(self._shelf.live("escrows"), {})
        found = [cast(EscrowRow, row) for (where, _), own in rows.items() if where == partition for row in own]
        moved = sorted((row.position, row) for row in found if row.watched and row.position > after_position)
        return [Moved(escrow_id=row.escrow_id, version=row.version, position=row.position) for _, row in moved[:limit]]

    async def case(self, case_id: CaseId) -> DisputeRow | None:
        """Reads one case."""
        row = next((row for row in self._all("disputes", DisputeRow) if row.case_id == case_id), None)
        return self._touched(row) if row is not None else None

    async def cases_of(
        self,
        arbiter: UserId,
        *,
        after: Place | None,
        limit: int,
        status: str | None = None,
        text: str | None = None,
    ) -> Sequence[DisputeRow]:
        """Lists an arbiter's cases, newest first."""
        found = {
            (row.opened_at, row.case_id): row
            for row in self._all("disputes", DisputeRow)
            if row.arbiter_id == arbiter and _is_asked(row, status) and _is_named(row, text)
        }
        keys = sorted((key for key in found if after is None or key < (after.at, after.id)), reverse=True)
        return [self._touched(found[key]) for key in keys[:limit]]

    async def messages(self, escrow_id: EscrowId, *, after: int, limit: int) -> Sequence[MessageRow]:
        """Lists the messages of an escrow's case whose number lies above one, in order."""
        found = [row for row in self._all("messages", MessageRow) if row.escrow_id == escrow_id and row.number > after]
        return sorted(found, key=lambda row: row.number)[:limit]

    async def photos(self, escrow_id: EscrowId) -> Sequence[PhotoRow]:
        """Lists the pictures of an escrow's case."""
        found = [row for row in self._all("photos", PhotoRow) if row.escrow_id == escrow_id]
        return sorted(found, key=lambda row: row.number)

    async def recovery(self, *, after: Place | None, limit: int) -> Sequence[RecoveryRow]:
        """Lists escrows that people must look at, oldest activity first."""
        found = {(row.active_at, row.escrow_id): row for row in self._all("recovery", RecoveryRow)}
        keys = sorted(key for key in found if after is None or key > (after.at, after.id))
        return [found[key] for key in keys[:limit]]

    async def recovery_count(self) -> int:
        """Counts escrows that people must look at."""
        return sum(1 for _ in self._all("recovery", RecoveryRow))

    async def wallets(self, escrow_id: EscrowId) -> WalletRow | None:
        """Reads the wallets of one escrow."""
        return next((row for row in self._all("wallets", WalletRow) if row.escrow_id == escrow_id), None)

    async def open_turns(self, kind: SeatKind, *, after: tuple[EscrowId, Role] | None, limit: int) -> Sequence[TurnRow]:
        """Lists turns of one kind of seat that may be taken now."""
        found = {
            (row.escrow_id, row.role): row
            for row in self._all("turns", TurnRow)
            if row.kind is kind and row.in_line and (after is None or (row.escrow_id, row.role) > after)
        }
        return [found[key] for key in sorted(found)[:limit]]

    async def due(self, now: Micros, *, after: DeadlineRow | None, limit: int) -> Sequence[DeadlineRow]:
        """Lists deadlines up to a moment, soonest first."""
        found = {_due_key(row): row for row in self._all("deadlines", DeadlineRow) if row.due <= now}
        keys = sorted(key for key in found if after is None or key > _due_key(after))
        return [found[key] for key in keys[:limit]]

    async def stopped(self, *, limit: int) -> Sequence[StoppedRow]:
        """Lists escrows that stand still."""
        found = self._all("stopped", StoppedRow)
        return sorted(found, key=lambda row: (row.position, row.escrow_id))[:limit]

    async def counts(self) -> Mapping[str, int]:
        """Adds the counts of all partitions."""
        added: Counter[str] = Counter()
        for (_, mark), number in self._shelf.counts.get(self._shelf.live("capacity"), Counter()).items():
            added[mark] += number
        return added

    def _touched(self, row: DisputeRow) -> DisputeRow:
        said = [each.at for each in self._all("messages", MessageRow) if each.escrow_id == row.escrow_id]
        return replace(row, touched_at=max([row.touched_at, *said]))

    def _all(self, model: str, kind: type[_R]) -> Iterator[_R]:
        for own in self._shelf.rows.get(self._shelf.live(model), {}).values():
            for row in own:
                assert isinstance(row, kind)
                yield row


def _is_asked(row: DisputeRow, status: str | None) -> bool:
    return row.awaited if status is None else status in (ALL_CASES, row.status)


def _is_named(row: DisputeRow, text: str | None) -> bool:
    names = (row.case_id, row.escrow_id, row.order_id, row.buyer_id, row.vendor_id)
    return text is None or text.lower() in " ".join(names).lower()


def _fits(row: EscrowRow, query: EscrowQuery) -> bool:
    role = _role_of(row, query.user) if query.user is not None else None
    return (
        (query.user is None or role is not None)
        and query.role in (None, role)
        and query.state in (None, row.state)
        and query.order in (None, row.order_id)
        and (query.after is None or (row.created_at, row.escrow_id) < (query.after.at, query.after.id))
    )


def _role_of(row: EscrowRow, user: UserId) -> Role | None:
    by_user = {row.buyer_id: Role.BUYER, row.vendor_id: Role.VENDOR, row.arbiter_id: Role.ARBITER}
    return by_user.get(user)


def _due_key(row: DeadlineRow) -> tuple[int, str, str]:
    return row.due, row.escrow_id, row.kind
