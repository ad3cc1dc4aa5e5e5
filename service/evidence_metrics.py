"""What became of the pictures that were sent, and how many come and go, for the metrics."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.evidence import EvidenceRoom


class EvidenceMetrics(Collector):
    """Tells of one node's evidence; names nobody."""

    def __init__(self, room: EvidenceRoom) -> None:
        self._room = room

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics as they stand."""
        pictures = CounterMetricFamily(
            "evidence_pictures", "Pictures that were sent, by what became of them.", labels=["result"]
        )
        for result, number in sorted(self._room.results.items()):
            pictures.add_metric([result], number)
        yield pictures
        transfers = GaugeMetricFamily("evidence_transfers", "Pictures that come and go now.")
        transfers.add_metric([], self._room.transfers)
        yield transfers
