"""`thirdkey serve`: the service on its embedded defaults, or on the database it is given."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
from aiohttp import web
from rich.console import Console

from actors.clock import SystemClock
from actors.daemon_rpc import HttpDaemon
from actors.ipfs import EvidenceMoved, IpfsEvidence
from actors.processes import ProgramFailed
from actors.scan.process import ScannerLimits, ScannerProcess
from actors.slot_messages import SupervisorLimits
from actors.slots import Slot
from actors.turn_finder import FinderLimits
from domain.ids import UserId
from eventstore.api import LogUnavailable, SealBroken
from eventstore.embedded_os import EmbeddedFailed
from eventstore.evidence import EvidenceStore
from eventstore.grouped import LogLimits
from eventstore.migrations import DatabaseNewer, MigrationChanged, PartitionsFixed, RolesMissing
from eventstore.opening import Store, StoreUnsafe, open_store
from service.api.stream import HUB
from service.app import make_app
from service.auth import Right, issue_token
from service.embedded import (
    FolderInUse,
    JoinedWorld,
    NoWorld,
    embedded_world,
    folder_lock,
    joined_world,
    node_home,
    node_id,
    own_slots,
)
from service.given_slots import GivenSlot, GivenSlotsWrong, given_slots, slot_of
from service.heads import HeadMetrics, kept_heads
from service.heads_file import HeadsUnreadable, heads_path
from service.house import House
from service.keys import KeyFileWrong, encryption_key, issuer_key, other_keys
from service.logs import configure_logs
from service.node import Node, NodeLimits
from service.own_slots import OwnSlots
from service.pool_scaler import GivenAdviser, OwnScaler, PoolUse, ScalingMetrics, scaling
from service.pool_size import NoPool, PoolFile
from service.presence import NameTaken, present
from service.reconcile import Compared, ReconcileLimits
from service.reconcile_apart import compared_apart, job_of
from service.reconcile_duty import DutyLimits, ReconcileDuty, ReconcileMetrics, on_duty
from service.scaling import ScalingLimits
from service.settings import DAEMONS_MAX, Settings
from service.slot_pool import SlotPool
from service.telemetry import Telemetry
from service.watch_metrics import WatchMetrics
from service.whole_files import write_whole

RUN_FILE = "service.json"
"""In the data folder while the service runs: where it answers."""
SCANNED_FILE = "scanned.seen"
"""In a node's own folder: what its scanner would else have to read again; may be deleted while no service runs."""
ADMIN_TOKEN_S = 12 * 3_600
SETTLE_S = 60.0
"""How long a difference must stand before the service tells it: nobody waits for it, nobody is called for nothing."""
ENDED_BLOCKS = 720
"""Blocks that a node's first comparison scans for escrows that have ended: a day. Later ones go on from there."""
REGTEST_POLL_S = 0.5
"""On a private chain blocks come as fast as somebody mines them."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running service and its chain answer."""

    api: str
    metrics: str
    daemon: str


async def serve(settings: Settings, *, console: Console, node: str | None = None) -> int:
    """Runs the service until SIGINT or SIGTERM and returns 0, or says why it cannot and returns 1.

    With `node` it joins, under that name, the world that runs in the data folder; else it runs a world of its own.
    """
    try:
        await _until_told(settings, console, node)
    except CANNOT_SERVE as wrong:
        print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
        return 1
    return 0


async def _until_told(settings: Settings, console: Console, node: str | None) -> None:
    configure_logs()
    refuse_unsupported(settings)
    given_slots(settings)  # said before anything is started
    home, stop, lost = node_home(settings.thirdkey_home, node), told_to_stop(), asyncio.Event()

    def name_is_lost() -> None:
        lost.set()
        stop.set()

    with folder_lock(home):
        async with running(settings, node=node, on_name_lost=name_is_lost) as where:
            announce(settings, where, console=console)
            run_file = home / RUN_FILE
            write_whole(run_file, msgspec.json.encode(where))
            await stop.wait()
            run_file.unlink(missing_ok=True)
            console.print("stopping")
    if lost.is_set():
        raise NameTaken("another node took this one's name while it did not answer")


def told_to_stop() -> asyncio.Event:
    """Returns an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


class SettingsUnsupported(Exception):
    """Settings that are right but that this version cannot serve yet."""


CANNOT_SERVE = (
    *(FolderInUse, SettingsUnsupported, KeyFileWrong, ProgramFailed, EmbeddedFailed, LogUnavailable, StoreUnsafe),
    *(DatabaseNewer, MigrationChanged, PartitionsFixed, RolesMissing, asyncpg.PostgresError, asyncpg.InterfaceError),
    *(SealBroken, NoWorld, NoPool, NameTaken, HeadsUnreadable, GivenSlotsWrong),
    OSError,  # a port in use, a database that is not there
)
"""What an operator can mend; anything else shows where it came from."""


def refuse_unsupported(settings: Settings) -> None:
    """Refuses what is not built yet, rather than doing something else; raises `SettingsUnsupported`."""
    if settings.monero_network != "regtest":
        raise SettingsUnsupported("this version serves a private chain only (MONERO_NETWORK=regtest)")


@asynccontextmanager
async def running(
    settings: Settings, *, node: str | None = None, on_name_lost: Callable[[], None]
) -> AsyncIterator[Running]:
    """Runs everything for as long as the block lasts; ends it in the opposite order."""
    home = settings.thirdkey_home
    async with AsyncExitStack() as stack:
        telemetry = Telemetry()
        world = await _world(stack, settings, node=node)
        name = node or node_id(home)
        store = await _store(settings, settings.database_url or world.dsn, name=name)
        stack.push_async_callback(store.aclose)
        await store.vault.check()
        here = present(
            store.seat_leases,
            name=name,
            home=node_home(home, node),
            seconds=settings.node_lease_s,
            on_lost=on_name_lost,
        )
        await stack.enter_async_context(here)
        given = [(each, _slot(settings, each, telemetry)) for each in given_slots(settings)]
        own = own_slots(home, world, observer=telemetry.observe_wallet_call)
        slots = [slot for _, slot in given] or [own.slot(name) for name in PoolFile(home).read().names()]
        watch = _scanner(settings, daemon_url=world.daemon_url, file=node_home(home, node) / SCANNED_FILE)
        stack.push_async_callback(watch.aclose)
        daemon = HttpDaemon(world.daemon_url)
        stack.push_async_callback(daemon.aclose)
        built = await _node(stack, settings, store=store, slots=slots, daemon=daemon, watch=watch, telemetry=telemetry)
        pool = SlotPool(
            built.supervisors,
            given,
            read=(lambda: given_slots(settings)) if given else None,
            make=lambda each: _slot(settings, each, telemetry),
            scaler=await _scaler(stack, settings, node=built, own=own, telemetry=telemetry),
        )
        evidence = _evidence(stack, settings, store)
        heads = heads_path(settings, home=node_home(home, node))
        dsn = settings.database_url or world.dsn or ""
        await _reconciling(stack, settings, node=built, dsn=dsn, daemon_url=world.daemon_url, telemetry=telemetry)
        yield await doors(
            stack,
            settings,
            node=built,
            telemetry=telemetry,
            daemon=world.daemon_url,
            heads_file=heads,
            pool=pool,
            evidence=evidence,
        )


def _scanner(settings: Settings, *, daemon_url: str, file: Path) -> ScannerProcess:
    witness = settings.monero_daemon_urls[1:DAEMONS_MAX]
    limits = ScannerLimits(silent_s=settings.scanner_silent_s)
    return ScannerProcess((daemon_url, *witness), network=settings.monero_network, file=file, limits=limits)


def _slot(settings: Settings, given: GivenSlot, telemetry: Telemetry) -> Slot:
    return slot_of(given, call_max_s=settings.slot_call_max_s, observer=telemetry.observe_wallet_call)


async def _scaler(
    stack: AsyncExitStack, settings: Settings, *, node: Node, own: OwnSlots, telemetry: Telemetry
) -> OwnScaler | GivenAdviser:
    """Has the number of slots follow their use for as long as the stack lasts."""
    limits = ScalingLimits(up_s=settings.pool_scale_up_s, down_s=settings.pool_scale_down_s)
    use = PoolUse(node.supervisors, leases=node.store.slot_leases, limits=limits)
    scaler = (
        GivenAdviser(use, least=settings.slots_per_role_min, most=settings.slots_per_role_max)
        if settings.slots_given
        else OwnScaler(
            use,
            file=PoolFile(settings.thirdkey_home),
            fleet=own,
            node_id=node.store.node_id,
            lease_s=settings.slot_lease_s,
        )
    )
    telemetry.registry.register(ScalingMetrics(scaler))
    await stack.enter_async_context(scaling(scaler, limits=limits))
    return scaler


async def _reconciling(
    stack: AsyncExitStack, settings: Settings, *, node: Node, dsn: str, daemon_url: str, telemetry: Telemetry
) -> None:
    """Has log and chain compared for as long as the stack lasts."""
    job = job_of(settings, dsn=dsn, daemon_url=daemon_url, ended_blocks=ENDED_BLOCKS)

    def compare(ended_from: int | None) -> AsyncGenerator[Compared, None]:
        limits = ReconcileLimits(settle_s=SETTLE_S, ended_from=ended_from)
        return compared_apart(msgspec.structs.replace(job, limits=limits))

    duty = ReconcileDuty(
        compare,
        desk=node.desk,
        leases=node.store.duty_leases,
        node_id=node.store.node_id,
        clock=node.clock,
        ready=lambda: node.watcher.has_looked,
        limits=DutyLimits(every_s=settings.reconcile_every_s),
    )
    telemetry.registry.register(ReconcileMetrics(duty))
    await stack.enter_async_context(on_duty(duty))


async def _world(stack: AsyncExitStack, settings: Settings, *, node: str | None) -> JoinedWorld:
    if node is not None:
        return joined_world(settings.thirdkey_home)
    return (await stack.enter_async_context(embedded_world(settings))).joining()


async def _store(settings: Settings, dsn: str | None, *, name: str) -> Store:
    if dsn is None:
        raise NoWorld("the world of this data folder has no database of its own: set DATABASE_URL as it is set there")
    return await open_store(
        dsn=dsn,
        encryption_key=encryption_key(settings),
        other_keys=other_keys(settings),
        partitions=settings.log_partitions,
        node_id=name,
        limits=LogLimits(key_cache_s=settings.key_cache_s),
    )


def _evidence(stack: AsyncExitStack, settings: Settings, store: Store) -> EvidenceStore:
    """Finds where pictures go: into IPFS where a node is named, else beside the log."""
    if settings.ipfs_api_url is None:
        return store.evidence
    ipfs = IpfsEvidence(settings.ipfs_api_url)
    stack.push_async_callback(ipfs.aclose)
    return EvidenceMoved(ipfs, before=store.evidence)


async def _node(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    store: Store,
    slots: Sequence[Slot],
    daemon: HttpDaemon,
    watch: ScannerProcess,
    telemetry: Telemetry,
) -> Node:
    node = Node(
        store=store,
        clock=SystemClock(),
        network=settings.monero_network,
        slots=slots,
        daemon=daemon,
        watch=watch,
        limits=node_limits(settings),
        observe_step=telemetry.observe_step,
    )
    telemetry.registry.register(WatchMetrics(node.watcher, scanner=watch.counts))
    await node.start()
    stack.push_async_callback(node.stop)
    return node


def node_limits(settings: Settings) -> NodeLimits:
    """Derives a node's bounds from its leases: each is renewed four times in its length."""
    slot_s, seat_s = settings.slot_lease_s, settings.seat_lease_s
    usual = SupervisorLimits()
    return NodeLimits(
        supervisor=SupervisorLimits(
            slot_lease_s=slot_s,
            renew_s=slot_s / 4,
            recheck_s=min(usual.recheck_s, slot_s / 4),
            quarantine_s=settings.slot_call_max_s,
        ),
        finder=FinderLimits(seat_lease_s=seat_s, renew_s=seat_s / 4),
        watch_poll_s=REGTEST_POLL_S,
    )


async def doors(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    node: Node,
    telemetry: Telemetry,
    daemon: str,
    heads_file: Path | None = None,
    pool: SlotPool | None = None,
    evidence: EvidenceStore | None = None,
) -> Running:
    """Opens the API and the metrics over a node for as long as the stack lasts; without a heads file it signs none."""
    house = House(
        settings=settings,
        store=node.store,
        clock=node.clock,
        desk=node.desk,
        models=node.models,
        runner=node.runner,
        evidence=evidence,
        pool=pool,
        problems=node.problems,
    )
    metrics = await telemetry.serve(
        house, port=settings.metrics_port, slots=node.slot_counts, actors=node.directory.counts
    )
    stack.push_async_callback(metrics.close)
    app = make_app(house, telemetry=telemetry)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    if heads_file is not None:
        keeper = await stack.enter_async_context(kept_heads(house, file=heads_file, announce=app[HUB].announce))
        telemetry.registry.register(HeadMetrics(keeper))
    await web.TCPSite(runner, settings.server_host, settings.server_port).start()
    return Running(
        api=f"http://{settings.server_host}:{runner.addresses[0][1]}",
        metrics=f"http://127.0.0.1:{metrics.socket.port}/metrics",
        daemon=daemon,
    )


def announce(settings: Settings, where: Running, *, console: Console) -> None:
    """Says where the service answers, and prints an admin's token: at the first start of a data folder only."""
    console.print(f"Thirdkey serves at {where.api}", soft_wrap=True)
    console.print(f"metrics at {where.metrics}, private chain at {where.daemon}", soft_wrap=True)
    console.print(f"pages at {settings.public_url or where.api}/login: thirdkey login-link --sub NAME", soft_wrap=True)
    marker = settings.thirdkey_home / "admin_token_shown"
    if settings.issuer_public_key is not None or marker.exists():
        console.print("tokens: thirdkey token issue --sub NAME [--right admin]")
        return
    rights = frozenset({Right.ADMIN})
    token = issue_token(issuer_key(settings), sub=UserId("admin"), rights=rights, ttl_s=ADMIN_TOKEN_S)
    marker.touch(mode=0o600)
    console.print(f"admin token, shown once, good for {ADMIN_TOKEN_S // 3_600} hours:")
    console.print(token, soft_wrap=True, highlight=False)
