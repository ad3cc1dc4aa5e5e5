"""What the chain's watching shows of itself: whether it sees, why not, how far behind it is, what it left out."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.ports import Blindness
from actors.scan.process import WatchCounts
from actors.scan.reports import ReportKind
from actors.watcher import ChainWatcher

OURS = frozenset({Blindness.READING, Blindness.SCANNER})
"""Where no daemon is to blame."""


class WatchMetrics(Collector):
    """Figures of one node's watcher and of its scanner."""

    def __init__(self, watcher: ChainWatcher, *, scanner: Callable[[], WatchCounts]) -> None:
        self._watcher, self._scanner = watcher, scanner

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics as they are now."""
        blindness, scanner = self._watcher.blindness, self._scanner()
        daemon_up = blindness is None or blindness in OURS
        yield GaugeMetricFamily("monero_daemon_up", "1 while the daemons answer and agree.", value=daemon_up)
        blind = GaugeMetricFamily("chain_watch_blind", "1 for the reason why nothing is seen.", labels=["why"])
        for why in Blindness:
            blind.add_metric([why], why is blindness)
        yield blind
        yield GaugeMetricFamily("chain_watched_addresses", "Addresses watched.", value=len(self._watcher.watched))
        yield GaugeMetricFamily("chain_scanner_up", "1 while the scanner's process runs.", value=scanner.up)
        yield GaugeMetricFamily(
            "chain_scanner_lag_blocks", "Blocks that are still to be read.", value=scanner.lag_blocks
        )
        yield CounterMetricFamily("chain_scanner_restarts_total", "Scanners started anew.", value=scanner.restarts)
        left_out = CounterMetricFamily("chain_left_out_total", "Things left out of every view.", labels=["kind"])
        for kind in ReportKind:
            left_out.add_metric([kind], scanner.left_out.get(kind, 0))
        yield left_out
