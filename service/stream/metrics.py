"""Figures of the stream; labels never name a user or an escrow."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class StreamMetrics:
    """Counts sockets, messages and cuts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sockets = Gauge("stream_sockets", "Open sockets of the stream.", registry=registry)
        self.messages = Counter("stream_messages_total", "Events handed to sockets.", registry=registry)
        self.behind = Counter(
            "stream_behind_total", "Times a socket fell behind and went back to the log.", registry=registry
        )
        self.closed = Counter("stream_closed_total", "Sockets closed by the service.", ("why",), registry=registry)
        self.lag = Histogram(
            "stream_delivery_seconds",
            "Seconds from an event's record to its hand-over to all its sockets.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
