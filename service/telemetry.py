"""Metrics: what can be counted without naming anybody, on a loopback port of their own."""

from collections.abc import Callable, Collection, Iterator, Mapping

from aiohttp import web
from prometheus_async.aio.web import MetricsHTTPServer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from actors.ailments import Ailment
from actors.directory import DirectoryCounts
from actors.seat_agent import StepTimes
from actors.slot_status import SlotCounts
from domain.roles import Role
from domain.states import NAMES
from projections.models import MODELS
from service.house import House
from service.stream.metrics import StreamMetrics

LOOPBACK = "127.0.0.1"
"""Metrics are for the machine's own collector; nobody else reaches them."""
APPEND_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
RPC_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120)
HTTP_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)

SlotSource = Callable[[], Mapping[Role, SlotCounts]]
ActorSource = Callable[[], DirectoryCounts]


class Telemetry:
    """The metrics of one node. Labels are states, methods and routes as written in the code: never an id."""

    def __init__(self) -> None:
        # A registry of its own: several nodes may run in one process.
        self.registry = CollectorRegistry()
        self.setups_awaited = Gauge(
            "setups_awaited", "Set-ups that requests on this node wait for.", registry=self.registry
        )
        self._rpc_requests = Counter(
            "monero_rpc_requests_total", "Calls to wallets.", ("method", "status"), registry=self.registry
        )
        self._rpc_seconds = Histogram(
            "monero_rpc_duration_seconds",
            "Seconds of calls to wallets.",
            ("method",),
            buckets=RPC_BUCKETS,
            registry=self.registry,
        )
        self._step_seconds = Histogram(
            "wallet_step_duration_seconds",
            "Seconds of steps of hosted seats: waiting for the slot, in calls to the wallet, all with the slot.",
            ("step", "part"),
            buckets=RPC_BUCKETS,
            registry=self.registry,
        )
        self._append_seconds = Histogram(
            "log_append_seconds",
            "Seconds from queueing an append to its answer.",
            buckets=APPEND_BUCKETS,
            registry=self.registry,
        )
        self._http_seconds = Histogram(
            "http_request_duration_seconds",
            "Seconds of requests.",
            ("method", "route", "status"),
            buckets=HTTP_BUCKETS,
            registry=self.registry,
        )
        self.stream = StreamMetrics(self.registry)
        self._counts: dict[str, int] = {}
        self._lag: dict[str, int] = {}
        self._stopped: set[str] = set()

    def observe_wallet_call(self, method: str, seconds: float, ok: bool) -> None:
        """Counts one call to a wallet."""
        self._rpc_requests.labels(method, "success" if ok else "error").inc()
        self._rpc_seconds.labels(method).observe(seconds)

    def observe_step(self, times: StepTimes) -> None:
        """Counts one step of a hosted seat."""
        for part, seconds in (("slot", times.waited_s), ("calls", times.called_s), ("all", times.took_s)):
            self._step_seconds.labels(times.step, part).observe(seconds)

    def observe_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one request; `route` is the template, never the path."""
        self._http_seconds.labels(method, route, str(status)).observe(seconds)

    def watch(self, house: House, *, slots: SlotSource | None = None, actors: ActorSource | None = None) -> None:
        """Shows a node's escrows, appends and read models, and its slots and actors where their figures are given."""
        house.store.log.observe_append = self._append_seconds.observe
        self.registry.register(_Escrows(self._counts))
        self.registry.register(_Models(self._lag, self._stopped))
        if slots is not None:
            self.registry.register(_Slots(slots))
        if actors is not None:
            self.registry.register(_Actors(actors))

    async def render(self, house: House) -> bytes:
        """Writes all metrics in the text format of Prometheus."""
        self._counts.update(await house.models.rows.counts())
        heads = await house.store.log.heads()
        for model in MODELS:
            at = house.runner.positions(model)
            self._lag[model] = sum(max(0, head.position - at.get(head.partition, 0)) for head in heads)
        self._stopped.clear()
        self._stopped.update(house.runner.stopped())
        return generate_latest(self.registry)

    async def serve(
        self, house: House, *, port: int, slots: SlotSource | None = None, actors: ActorSource | None = None
    ) -> MetricsHTTPServer:
        """Serves `/metrics` on loopback; port 0 asks the system for one, named by the answer's `socket`."""
        self.watch(house, slots=slots, actors=actors)

        async def show(_: web.Request) -> web.Response:
            return web.Response(body=await self.render(house), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.router.add_get("/metrics", show)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port).start()
        return MetricsHTTPServer.from_server(runner=runner, app=app, https=False)


class _Escrows(Collector):
    """Counts from the read model, so that they survive a restart: nothing here is ever taken back."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        by_status = GaugeMetricFamily("escrows_by_status", "Escrows by state.", labels=["status"])
        for status in NAMES.values():
            by_status.add_metric([status], self._counts.get(f"status:{status}", 0))
        yield by_status
        for metric, mark, says in _COUNTED:
            yield CounterMetricFamily(metric, says, value=self._counts.get(mark, 0))
        open_items = self._counts.get("recovery", 0)
        yield GaugeMetricFamily("recovery_cases_open", "Escrows that people must look at.", value=open_items)


_COUNTED = (
    ("escrows_total", "created", "Escrows there are; none is ever removed."),
    ("escrows_created_total", "created", "Escrows created."),
    ("escrow_failures_total", "status:setup_failed", "Escrows whose set-up failed."),
    ("disputes_opened_total", "disputed", "Disputes opened."),
    ("funds_released_total", "status:completed", "Escrows paid out to the vendor, split or as agreed."),
    ("funds_refunded_total", "status:refunded", "Escrows paid back to the buyer."),
)


class _Models(Collector):
    def __init__(self, lag: Mapping[str, int], stopped: Collection[str]) -> None:
        self._lag, self._stopped = lag, stopped

    def collect(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "projection_lag_events", "Events that a read model is behind the log.", labels=["model"]
        )
        stopped = GaugeMetricFamily(
            "projection_stopped", "1 for a read model that its own fault stopped.", labels=["model"]
        )
        for model in MODELS:
            lag.add_metric([model], self._lag.get(model, 0))
            stopped.add_metric([model], 1 if model in self._stopped else 0)
        yield lag
        yield stopped


class _Slots(Collector):
    def __init__(self, slots: SlotSource) -> None:
        self._slots = slots

    def collect(self) -> Iterator[Metric]:
        """Yields the counts of all roles together, then those that an operator needs of each."""
        by_role = self._slots()
        counts = list(by_role.values())
        yield GaugeMetricFamily("rpc_pool_total_slots", "Slots there are.", value=sum(each.total for each in counts))
        yield GaugeMetricFamily("rpc_pool_free_slots", "Slots that wait.", value=sum(each.free for each in counts))
        yield GaugeMetricFamily("rpc_pool_busy_slots", "Slots at work.", value=sum(each.busy for each in counts))
        primed = sum(each.primed for each in counts)
        yield GaugeMetricFamily("rpc_pool_primed_slots", "Free slots with a fresh wallet made and open.", value=primed)
        waits = SummaryMetricFamily("slot_wait_seconds", "How long seats waited for a slot.", labels=["role"])
        waiting = GaugeMetricFamily("slot_queue_length", "Seats that wait for a slot.", labels=["role"])
        up = GaugeMetricFamily("rpc_slot_up", "Slots that can be used.", labels=["role"])
        unusable = GaugeMetricFamily("rpc_slots_unusable", "Slots that cannot, and why.", labels=["role", "reason"])
        for role, each in by_role.items():
            waiting.add_metric([role], each.waiting)
            waits.add_metric([role], each.granted, each.waited_s)
            up.add_metric([role], each.total - sum(each.unusable.values()))
            for reason in Ailment:
                unusable.add_metric([role, reason], each.unusable.get(reason, 0))
        yield from (waiting, waits, up, unusable)


class _Actors(Collector):
    def __init__(self, actors: ActorSource) -> None:
        self._actors = actors

    def collect(self) -> Iterator[Metric]:
        counts = self._actors()
        yield GaugeMetricFamily("escrow_actors_awake", "Escrow actors in memory.", value=counts.resident)
        yield GaugeMetricFamily("escrow_actors_parked", "Escrow actors that crashed too often.", value=counts.parked)
        yield CounterMetricFamily("escrow_actor_wakes_total", "Escrow actors woken.", value=counts.wakes)
        yield CounterMetricFamily("escrow_actor_crashes_total", "Escrow actors that crashed.", value=counts.crashes)
