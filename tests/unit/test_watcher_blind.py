"""What the watcher says while nothing can be seen: why, once for each change, and from when to when."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from actors.clock import VirtualClock
from actors.desk import Desk
from actors.directory import Directory
from actors.ports import Blindness, DaemonDown, WatchTarget
from actors.scan.process import WatchCounts
from actors.scan.reports import ReportKind
from actors.watcher import ChainWatcher
from domain.chain import ChainView
from domain.ids import EscrowId
from eventstore.opening import memory_store
from service.watch_metrics import WatchMetrics

SECOND = 1_000_000


class Eyes:
    """A watch that sees, or says why it does not."""

    def __init__(self) -> None:
        self.blind: DaemonDown | None = None

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        if self.blind is not None:
            raise self.blind
        return {}


async def nobody(_: Mapping[int, int]) -> AsyncIterator[tuple[EscrowId, int, int]]:
    return
    yield


def never(_: EscrowId) -> Any:
    raise AssertionError("no escrow is watched here")


class Watched:
    def __init__(self) -> None:
        self.clock, self.eyes = VirtualClock(start=SECOND), Eyes()
        desk = Desk(Directory(never, clock=self.clock, on_parked=lambda escrow_id, failure: None))
        vault = memory_store(partitions=1).vault
        self.watcher = ChainWatcher(desk=desk, moved=nobody, watch=self.eyes, vault=vault, clock=self.clock)

    async def look(self, blind: DaemonDown | None = None) -> None:
        self.eyes.blind = blind
        await self.watcher.look()
        await self.clock.advance(1)


async def test_why_nothing_is_seen_is_said_once_for_each_change():
    world = Watched()
    with capture_logs() as logs:
        for _ in range(3):
            await world.look(DaemonDown("the daemon does not answer"))
        for _ in range(3):
            await world.look(DaemonDown("the daemons are on different branches", why=Blindness.FORKED))
        await world.look()
        await world.look()
        await world.look(DaemonDown("the daemon does not answer"))
    said = [(entry["event"], str(entry.get("why", ""))) for entry in logs]
    assert said == [
        ("chain_not_seen", "down"),
        ("chain_not_seen", "forked"),
        ("chain_seen_again", ""),
        ("chain_not_seen", "down"),
    ]
    assert world.watcher.blindness is Blindness.DOWN


async def test_whatever_kept_the_chain_from_being_seen_is_an_outage_from_its_first_look_to_the_next_that_sees():
    world = Watched()
    await world.look()
    for why in Blindness:
        await world.look(DaemonDown("as arranged", why=why))
    assert world.watcher.outages() == ((2 * SECOND, world.clock.now()),)
    await world.look()
    ended = (2 + len(Blindness)) * SECOND
    assert world.watcher.outages() == ((2 * SECOND, ended),)
    assert world.watcher.blindness is None


async def test_the_metrics_tell_the_reason_and_blame_no_daemon_for_our_own_scanner():
    world = Watched()
    counts = WatchCounts(up=True, lag_blocks=7, restarts=2, left_out={ReportKind.FALSE_AMOUNT: 3})
    registry = CollectorRegistry()
    registry.register(WatchMetrics(world.watcher, scanner=lambda: counts))

    def shown(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for why, up in ((Blindness.FORKED, 0), (Blindness.READING, 1)):
        await world.look(DaemonDown("as arranged", why=why))
        assert shown("monero_daemon_up") == up
        assert [each for each in Blindness if shown("chain_watch_blind", why=each)] == [why]
    await world.look()
    assert shown("monero_daemon_up") == 1
    assert not any(shown("chain_watch_blind", why=each) for each in Blindness)
    assert (shown("chain_scanner_lag_blocks"), shown("chain_scanner_restarts_total")) == (7, 2)
    assert shown("chain_left_out_total", kind="false_amount") == 3
    assert shown("chain_left_out_total", kind="unreadable") == 0
