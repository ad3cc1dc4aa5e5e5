"""Shows escrows what the chain holds of them, and remembers when our own daemon was down."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from actors.desk import Desk, derived_id
from actors.escrow import Accepted
from actors.ports import Blindness, Clock, DaemonDown, Watch, WatchTarget
from actors.sealed import EscrowSecrets
from actors.seat import LATER
from domain import commands as c
from domain.chain import ChainView
from domain.deadlines import Outages
from domain.ids import EscrowId, Micros
from domain.ledger import observe
from domain.refusals import Refused
from domain.states import Escrow, money_of
from eventstore.api import LogUnavailable, Vault
from schemas.sealing import SealedKind

log = structlog.get_logger(__name__)

MovedSince = Callable[[Mapping[int, int]], AsyncIterator[tuple[EscrowId, int, int]]]
"""Escrow, partition and position of every escrow with an address that had an event after these positions."""
OUTAGES_KEPT = 1_000


@dataclass(kw_only=True, slots=True)
class Watched:
    """One address, and what of the chain the escrow is known to have taken in."""

    target: WatchTarget
    final_confirmations: int
    version: int
    """The escrow's, as far as it was known before the chain was last looked at."""
    settled: tuple[object, ...] | None = None
    """What the chain showed when there was last nothing new in it; None when the escrow has moved since."""


class ChainWatcher:
    """Looks at the chain every `poll_s` seconds and brings each escrow what changed; the escrow itself judges.

    Keeps one target for each escrow with an address: the watch needs them all. States are asked for only where an
    escrow moved, or where the chain shows something else than before.
    """

    def __init__(
        self, *, desk: Desk, moved: MovedSince, watch: Watch, vault: Vault, clock: Clock, poll_s: float = 1.0
    ) -> None:
        self._desk, self._moved_since, self._watch, self._vault = desk, moved, watch, vault
        self._clock, self._poll_s = clock, poll_s
        self._watched: dict[EscrowId, Watched] = {}
        self._seen: dict[int, int] = {}
        """Up to where moved escrows were taken note of, by partition."""
        self._to_read: dict[EscrowId, str] = {}
        """Moved escrows that are still to be read, with what kept them from it the last time."""
        self._outages: list[tuple[Micros, Micros]] = []
        self._down_since: Micros | None = None
        self._has_looked = False
        self._sees = False
        self._behind: Collection[EscrowId] = ()
        """Those that the last look did not show the chain to its end."""
        self._blindness: Blindness | None = None
        self._says = ""

    @property
    def watched(self) -> Collection[EscrowId]:
        """The escrows whose address is watched."""
        return self._watched.keys()

    @property
    def sees(self) -> bool:
        """Whether the last look got an answer, and every escrow that moved was taken note of."""
        return self._sees

    def shows(self, escrow_id: EscrowId) -> bool:
        """Says whether the last look left an escrow nothing to learn; always so of one that is not watched."""
        return self._sees and escrow_id not in self._behind

    @property
    def blindness(self) -> Blindness | None:
        """Why the last look showed nothing; None when it did."""
        return self._blindness

    @property
    def has_looked(self) -> bool:
        """Whether every escrow that is watched was shown the chain since this node started."""
        return self._has_looked

    def outages(self) -> Outages:
        """The intervals in which the daemon did not answer, the present one included."""
        now = Micros(self._clock.now())
        present = [] if self._down_since is None else [(self._down_since, now)]
        return (*self._outages, *present)

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(self._poll_s)

    async def look(self) -> None:
        """Looks once."""
        noted = await self._note_moved()
        await self._read_moved()
        try:
            views = await self._watch.look([each.target for each in self._watched.values()])
        except DaemonDown as down:
            self._note_down(down)
            return
        self._note_up()
        behind = {*self._to_read, *(self._watched.keys() - views.keys())}
        for escrow_id, view in views.items():
            watched = self._watched[escrow_id]
            shown = facts_of(view, watched.final_confirmations)
            if shown == watched.settled:
                continue
            if await self._shown(escrow_id, watched, view):
                watched.settled = shown
            else:
                behind.add(escrow_id)
        self._behind = behind
        self._has_looked = True
        self._sees = noted

    # -- whom to watch -------------------------------------------------------------------------------------------

    async def _note_moved(self) -> bool:
        try:
            async for escrow_id, partition, position in self._moved_since(dict(self._seen)):
                self._to_read.setdefault(escrow_id, "")
                self._seen[partition] = position
        except LogUnavailable as broken:
            log.warning("watched_escrows_not_read", error=type(broken).__name__)
            return False
        return True

    async def _read_moved(self) -> None:
        for escrow_id, before in list(self._to_read.items()):
            try:
                state = await self._desk.state(escrow_id)
                assert state is not None
                if state.core.shredded_at is None:
                    self._watched[escrow_id] = await self._target(escrow_id, state)
                else:  # its view key is gone for good: what is paid to its address from now on, nobody here sees
                    self._watched.pop(escrow_id, None)
                del self._to_read[escrow_id]
            except Exception as broken:  # what is wrong with one escrow must not blind the others
                self._to_read[escrow_id] = error = type(broken).__name__
                if error != before:
                    log.warning("escrow_not_watched", escrow=escrow_id, error=error)

    async def _target(self, escrow_id: EscrowId, state: Escrow) -> Watched:
        money = money_of(state)
        assert money is not None
        known = self._watched.get(escrow_id)
        if known is None or known.target.address != money.address:
            secrets = EscrowSecrets(self._vault, escrow_id)
            view_key = await secrets.open(SealedKind.VIEW_KEY, money.view_key_role, money.view_key)
        else:
            view_key = known.target.view_key
        target = WatchTarget(
            escrow_id=escrow_id,
            address=money.address,
            view_key=view_key,
            since_height=money.since_height,
            key_images=money.key_images,
        )
        final = state.core.terms.policy.final_confirmations
        return Watched(target=target, final_confirmations=final, version=state.core.version)

    # -- what is shown -------------------------------------------------------------------------------------------

    async def _shown(self, escrow_id: EscrowId, watched: Watched, view: ChainView) -> bool:
        """Brings an escrow what is new; True when nothing of it is new any more."""
        try:
            state = await self._desk.state(escrow_id)
            assert state is not None
            command = c.ObserveChain(at=Micros(self._clock.now()), view=view, version=watched.version)
            watched.version = state.core.version  # the next look comes after this
            if command.version != state.core.version:
                return False
            news = observe(state, command)
            if isinstance(news, Refused) or not news:
                return True
            command_id = derived_id(escrow_id, "chain", state.core.version, view.height)
            answer = await self._desk.handle(escrow_id, command, command_id=command_id, actor="watcher")
            if isinstance(answer, Accepted):
                watched.version = answer.version
        except LATER as later:
            log.warning("chain_news_waits", escrow=escrow_id, error=type(later).__name__)
        except Exception as broken:  # what is wrong with one escrow must not blind the others
            log.error("chain_not_shown", escrow=escrow_id, error=type(broken).__name__)
        return False

    def _note_down(self, down: DaemonDown) -> None:
        if (down.why, str(down)) != (self._blindness, self._says):
            log.warning("chain_not_seen", why=down.why, reason=str(down))
        self._sees, self._blindness, self._says = False, down.why, str(down)
        if self._down_since is None:
            self._down_since = Micros(self._clock.now())

    def _note_up(self) -> None:
        if self._down_since is not None:
            self._outages = [*self._outages[-OUTAGES_KEPT:], (self._down_since, Micros(self._clock.now()))]
            self._down_since = self._blindness = None
            self._says = ""
            log.info("chain_seen_again")


def facts_of(view: ChainView, final: int) -> tuple[object, ...]:
    """Picks what an escrow could record: not the height alone, but whether a spend is as deep as it has to be."""
    return view.outputs, view.spends, tuple(_is_final(view.height, each.height, final) for each in view.spends)


def _is_final(height: int, of_spend: int | None, final: int) -> bool:
    return of_spend is not None and height - of_spend >= final
