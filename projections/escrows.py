"""The read model of escrows: each one's present state, who belongs to it, what it waits for and when it is due."""

from collections.abc import Iterable, Iterator

from domain.evolve import ImpossibleHistory, evolve
from domain.ids import EscrowId, UserId
from domain.states import TERMINAL, Escrow, money_of
from domain.turns import Turn, turns
from eventstore.api import Recorded
from projections.runner import Poisoned
from schemas.codec import UnknownEvent, decode

ESCROW_STREAM = "esc_"
"""Streams of escrows begin with this; reservations and other streams do not concern this model."""


class Escrows:
    """Folds every escrow's stream; kept in memory, thrown away and rebuilt at each start.

    An escrow with an event that cannot be read or cannot follow stops here alone: it keeps the state before and is
    listed in `stopped`.
    """

    name = "escrows"

    def __init__(self) -> None:
        self._states: dict[EscrowId, Escrow] = {}
        self._by_user: dict[UserId, set[EscrowId]] = {}
        self._live: set[EscrowId] = set()
        self.stopped: dict[EscrowId, str] = {}

    def apply(self, batch: Iterable[Recorded]) -> None:
        """Takes the next events of the log; raises `Poisoned` when an escrow's versions have a hole."""
        for recorded in batch:
            if recorded.stream_id.startswith(ESCROW_STREAM) and recorded.stream_id not in self.stopped:
                self._apply_one(EscrowId(recorded.stream_id), recorded)

    def _apply_one(self, escrow_id: EscrowId, recorded: Recorded) -> None:
        before = self._states.get(escrow_id)
        version = before.core.version if before else 0
        if recorded.version != version + 1:
            raise Poisoned(model=self.name, position=recorded.position)
        try:
            event = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
            after = evolve(before, event)
        except (UnknownEvent, ImpossibleHistory) as broken:
            self.stopped[escrow_id] = str(broken)
            return
        self._keep(escrow_id, after)

    def _keep(self, escrow_id: EscrowId, state: Escrow) -> None:
        if escrow_id not in self._states:
            for user in (state.core.terms.buyer_id, state.core.terms.vendor_id, state.core.terms.arbiter_id):
                self._by_user.setdefault(user, set()).add(escrow_id)
        self._states[escrow_id] = state
        if _needs_nothing(state):
            self._live.discard(escrow_id)
        else:
            self._live.add(escrow_id)

    def get(self, escrow_id: EscrowId) -> Escrow | None:
        """Returns an escrow's state as far as this model is."""
        return self._states.get(escrow_id)

    def all(self) -> Iterator[tuple[EscrowId, Escrow]]:
        """Yields every escrow."""
        yield from self._states.items()

    def live(self) -> list[tuple[EscrowId, Escrow]]:
        """Lists escrows in which something can still happen: not ended, or with an address that can be paid."""
        return [(escrow_id, self._states[escrow_id]) for escrow_id in self._live]

    def of_user(self, user: UserId) -> list[tuple[EscrowId, Escrow]]:
        """Lists the escrows in which a user has a seat."""
        return [(escrow_id, self._states[escrow_id]) for escrow_id in self._by_user.get(user, ())]

    def open_turns(self) -> list[tuple[EscrowId, Escrow, Turn]]:
        """Lists every wallet step that is asked for now."""
        return [(escrow_id, state, turn) for escrow_id, state in self.live() for turn in turns(state)]


def _needs_nothing(state: Escrow) -> bool:
    return isinstance(state, TERMINAL) and money_of(state) is None
