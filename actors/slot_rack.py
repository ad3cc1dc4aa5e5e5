"""The slots of one role as one node knows them: who may have which, which need a look, which may leave."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from actors.slot_line import bound_to
from actors.slots import Slot, SlotState
from domain.roles import Role
from eventstore.api import LeaseRow

_IN_HAND = (SlotState.PREPARING, SlotState.LEASED)


class SlotRack:
    """Slots, and what their lease rows say of them. Only reads and remembers; the supervisor acts."""

    def __init__(self, role: Role, slots: Sequence[Slot], *, node_id: str, look_s: float) -> None:
        self._role, self._node_id, self._look_s = role, node_id, look_s
        self._slots: list[Slot] = []
        for slot in slots:
            self.add(slot)

    def __iter__(self) -> Iterator[Slot]:
        return iter(tuple(self._slots))

    def add(self, slot: Slot) -> None:
        """Takes a slot in; one of its name that was to leave stays instead."""
        assert slot.role is self._role
        for known in self._slots:
            if known.name == slot.name:
                known.leaving = False
                return
        slot.leaving = False  # one that left while it was asked for again
        self._slots.append(slot)

    def drain(self, name: str) -> bool:
        """Has a slot leave once it is given back, its priming given up; False when there is none of that name."""
        leaving = [slot for slot in self._slots if slot.name == name]
        for slot in leaving:
            slot.leaving = True
            if slot.wanted is not None:
                slot.wanted.set()
        return bool(leaving)

    def forget_who_left(self, rows: Mapping[str, LeaseRow]) -> list[str]:
        """Forgets slots that were to leave and in which nobody's wallet can be open; returns their names."""
        left = [slot for slot in self._slots if slot.leaving and slot.state not in _IN_HAND and _over(rows, slot)]
        self._slots = [slot for slot in self._slots if slot not in left]
        return [slot.name for slot in left]

    def open_to(self, seat: str, rows: Mapping[str, LeaseRow], *, best: Collection[str] = ()) -> list[Slot]:
        """Lists the slots that a seat may have now: the best by name first, among these the one used longest ago.

        Where its wallet may be open it may have no other, even if this node does not know that slot.
        """
        bound = bound_to(seat, rows)
        fit = (slot for slot in self._slots if slot.state is SlotState.FREE and self.takeable(rows.get(slot.name)))
        if bound:
            return [slot for slot in fit if slot.name in bound]
        unused = (slot for slot in fit if not slot.leaving and _over(rows, slot) and not slot.host.silent())
        return sorted(unused, key=lambda slot: (slot.name not in best, slot.turn))

    def at_rest(self, rows: Mapping[str, LeaseRow], *, since: float) -> list[Slot]:
        """Lists the slots that nobody used since then and nobody has to look at, the one used last first."""
        unused = (slot for slot in self._slots if slot.state is SlotState.FREE and slot.used_until <= since)
        free = (slot for slot in unused if not slot.leaving)
        return sorted((slot for slot in free if slot.name in rows and _over(rows, slot)), key=lambda slot: -slot.turn)

    def hurry(self, seat: str, rows: Mapping[str, LeaseRow]) -> None:
        """Has one slot more given up by its priming, for a seat that waits."""
        bound = bound_to(seat, rows)
        for slot in self._slots:
            if slot.wanted is not None and not slot.wanted.is_set() and (not bound or slot.name in bound):
                slot.wanted.set()
                return

    def in_need(self, rows: Mapping[str, LeaseRow], *, now: float) -> Iterator[Slot]:
        """Yields what nobody uses and somebody must look at: broken, silent, left behind, or not seen for long."""
        for slot in self:
            if slot.state in _IN_HAND or slot.rests_until > now or not self.takeable(rows.get(slot.name)):
                continue
            fine = slot.state is SlotState.FREE and not slot.host.silent() and _over(rows, slot)
            if not fine or slot.looked_at <= now - self._look_s:
                yield slot

    def in_other_hands(self, rows: Mapping[str, LeaseRow]) -> Iterator[Slot]:
        """Yields slots that another node has leased and looks after."""
        return (each for each in self if each.state not in _IN_HAND and not self.takeable(rows.get(each.name)))

    def takeable(self, row: LeaseRow | None) -> bool:
        """Says whether this node may take a lease now."""
        return row is None or row.expired or row.holder == self._node_id


def _over(rows: Mapping[str, LeaseRow], slot: Slot) -> bool:
    row = rows.get(slot.name)
    return row is None or row.released
