"""Shows escrows what the chain holds of them, and remembers when our own daemon was down."""

from collections.abc import Callable, Iterable, Mapping

import structlog

from actors.desk import Desk, derived_id
from actors.ports import Clock, DaemonDown, Watch, WatchTarget
from actors.sealed import EscrowSecrets
from actors.seat import LATER
from domain import commands as c
from domain.chain import ChainView
from domain.deadlines import Outages
from domain.ids import EscrowId, Micros
from domain.ledger import observe
from domain.refusals import Refused
from domain.states import Escrow, money_of
from eventstore.api import LogUnavailable, SealBroken, Vault
from schemas.sealing import SealedKind

log = structlog.get_logger(__name__)

LiveEscrows = Callable[[], Iterable[tuple[EscrowId, Escrow]]]
OUTAGES_KEPT = 1_000


class ChainWatcher:
    """Looks at the chain every `poll_s` seconds and brings each escrow what changed; the escrow itself judges."""

    def __init__(
        self, *, desk: Desk, live: LiveEscrows, watch: Watch, vault: Vault, clock: Clock, poll_s: float = 1.0
    ) -> None:
        self._desk, self._live, self._watch, self._vault = desk, live, watch, vault
        self._clock, self._poll_s = clock, poll_s
        self._view_keys: dict[EscrowId, str] = {}
        self._outages: list[tuple[Micros, Micros]] = []
        self._down_since: Micros | None = None

    @property
    def daemon_up(self) -> bool:
        """Whether the last look got an answer."""
        return self._down_since is None

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
        watched = {escrow_id: state for escrow_id, state in self._live() if money_of(state) is not None}
        try:
            views = await self._watch.look(await self._targets(watched))
        except DaemonDown as down:
            self._note_down(str(down))
            return
        self._note_up()
        for escrow_id, view in views.items():
            try:
                await self._show(escrow_id, watched[escrow_id], view)
            except Exception as broken:  # what is wrong with one escrow must not blind the others
                log.error("chain_not_shown", escrow=escrow_id, error=type(broken).__name__)

    async def _targets(self, watched: Mapping[EscrowId, Escrow]) -> list[WatchTarget]:
        found = []
        for escrow_id, state in watched.items():
            try:
                found.append(await self._target(escrow_id, state))
            except (LogUnavailable, SealBroken) as closed:
                log.warning("view_key_not_opened", escrow=escrow_id, error=type(closed).__name__)
        return found

    async def _target(self, escrow_id: EscrowId, state: Escrow) -> WatchTarget:
        money = money_of(state)
        assert money is not None
        if escrow_id not in self._view_keys:
            secrets = EscrowSecrets(self._vault, escrow_id)
            opened = await secrets.open(SealedKind.VIEW_KEY, money.view_key_role, money.view_key)
            self._view_keys[escrow_id] = opened
        return WatchTarget(
            escrow_id=escrow_id,
            address=money.address,
            view_key=self._view_keys[escrow_id],
            since_height=money.since_height,
            key_images=money.key_images,
        )

    async def _show(self, escrow_id: EscrowId, state: Escrow, view: ChainView) -> None:
        command = c.ObserveChain(at=Micros(self._clock.now()), view=view)
        news = observe(state, command)
        if isinstance(news, Refused) or not news:
            return
        command_id = derived_id(escrow_id, "chain", state.core.version, view.height)
        try:
            await self._desk.handle(escrow_id, command, command_id=command_id, actor="watcher")
        except LATER as later:
            log.warning("chain_news_waits", escrow=escrow_id, error=type(later).__name__)

    def _note_down(self, reason: str) -> None:
        if self._down_since is None:
            self._down_since = Micros(self._clock.now())
            log.warning("daemon_down", reason=reason)

    def _note_up(self) -> None:
        if self._down_since is not None:
            self._outages = [*self._outages[-OUTAGES_KEPT:], (self._down_since, Micros(self._clock.now()))]
            self._down_since = None
            log.info("daemon_up")
