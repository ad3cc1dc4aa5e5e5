"""The event log as its callers see it: append, read, receipts, leases, heads."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event before it has a place in the log."""

    type: str
    schema_version: int
    occurred_at: int
    """Microseconds since the Unix epoch, by the actor's clock."""
    meta: bytes
    """Canonical JSON, exactly as hashed."""
    body: bytes
    """Canonical JSON, exactly as hashed."""


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """Proof of a seat lease, checked inside the append: a lower fence than the row's appends nothing."""

    seat: str
    """`<stream_id>/<role>`."""
    fence: int


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """What one command adds to one stream, all or nothing. Without events it records a receipt alone."""

    stream_id: str
    expected_version: int
    events: tuple[NewEvent, ...]
    command_id: str
    """64 hex digits; unique per stream for ever: a second append with it is answered `AlreadyDone`."""
    body_hash: str = ""
    """Hash of the request behind the command, kept in its receipt."""
    outcome: bytes = b""
    """What to answer when the same command comes again."""
    fence: Fence | None = None


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One event with its place in the log.

    In the order of the columns that reads ask for: a row is made a record by position in 0.08 us, by name in 0.32.
    """

    partition: int
    position: int
    stream_id: str
    version: int
    type: str
    schema_version: int
    command_id: str
    occurred_at: int
    recorded_at: int
    """Microseconds since the Unix epoch, by the database's clock; not part of the leaf."""
    meta: bytes
    body: bytes
    salt: bytes
    leaf: bytes
    chain: bytes


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one partition."""

    partition: int
    position: int
    chain: bytes


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command."""

    command_id: str
    stream_id: str
    body_hash: str
    outcome: bytes
    version: int
    """Version of the stream after it."""
    position: int


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """The append is durable."""

    partition: int
    position: int
    version: int
    events: tuple[Recorded, ...]


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else appended to the stream first; nothing was written."""

    actual_version: int


class AlreadyDone(msgspec.Struct, frozen=True, kw_only=True):
    """The command was appended before; nothing was written now."""

    receipt: Receipt


class FencedOff(msgspec.Struct, frozen=True, kw_only=True):
    """The seat lease belongs to somebody else by now; nothing was written."""

    current_fence: int


Outcome = Appended | Conflict | AlreadyDone | FencedOff


class LogBusy(Exception):
    """The append queue is full: try again later; nothing was written."""


class LogUnavailable(Exception):
    """The database does not answer; nothing was written."""


class AppendRejected(Exception):
    """The item itself cannot be written (its bytes, not its version); nothing was, and repeating it is no use."""

    def __init__(self, *, stream_id: str, reason: str) -> None:
        super().__init__(f"cannot be appended: {reason}")
        self.stream_id, self.reason = stream_id, reason


class OutcomeUnknown(Exception):
    """The answer to an append was lost: it is durable or it is not. Ask for its receipt before anything else."""

    def __init__(self, *, stream_id: str, command_id: str) -> None:
        super().__init__(f"outcome unknown in {stream_id}")
        self.stream_id, self.command_id = stream_id, command_id


class EventLog(Protocol):
    """An append-only log of streams, ordered without gaps per partition."""

    partitions: int

    def partition_of(self, stream_id: str) -> int:
        """Names the partition a stream lies in, the same for ever."""

    async def append(self, item: Append) -> Outcome:
        """Appends one item; returns after it is durable.

        Raises `LogBusy`, `LogUnavailable`, `AppendRejected` (nothing written in these three) or `OutcomeUnknown`.
        """

    async def read_stream(self, stream_id: str, *, after_version: int = 0, limit: int = 1000) -> Sequence[Recorded]: ...

    async def read_partition(self, partition: int, *, after_position: int, limit: int = 1000) -> Sequence[Recorded]: ...

    async def read_streams(
        self, stream_ids: Sequence[str], *, partition: int, after_position: int, limit: int = 1000
    ) -> Sequence[Recorded]:
        """Reads several streams of one partition together, in order of position."""

    async def read_firsts(self, stream_ids: Sequence[str], *, partition: int) -> Sequence[Recorded]:
        """Reads the first event of each of several streams of one partition, in any order; none of those without."""

    async def heads(self) -> Sequence[Head]: ...

    async def receipt(self, *, stream_id: str, command_id: str) -> Receipt | None: ...

    def subscribe_wake(self, wake: "Wake") -> None:
        """Calls `wake.notify()` after commits of this process, and of others where it hears of them.

        Wakes may be late, doubled or lost: polling alone is right without them.
        """

    def unsubscribe_wake(self, wake: "Wake") -> None:
        """Ends a `subscribe_wake`; a wake that is not subscribed is left alone."""


class Wake(Protocol):
    """Something that wants to know that the log has grown."""

    def notify(self) -> None: ...


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right of one holder to use one thing until a moment by the database's clock."""

    name: str
    holder: str
    fence: int
    seconds: float


class Leases(Protocol):
    """Fenced leases as rows; the clock is the database's. One instance serves one table (seats or slots)."""

    async def acquire(self, name: str, *, holder: str, seconds: float, detail: str = "") -> Lease | None:
        """Takes a free, expired or own lease with a higher fence; None while another holder has it.

        One that its last holder did not give back goes on saying `detail` of what it was used for.
        """

    async def renew(self, lease: Lease) -> bool:
        """Prolongs a lease; False when it is no longer ours."""

    async def release(self, lease: Lease) -> None: ...

    async def held(self) -> Mapping[str, "LeaseRow"]:
        """All rows, held or expired, by name."""


class LeaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the database knows of one lease."""

    holder: str
    fence: int
    expired: bool
    """By the database's clock, or given back."""
    released: bool
    """Given back by its holder, who had nothing left to tidy up."""
    detail: str


class Vault(Protocol):
    """Seals fields with a key per escrow, each key wrapped by `ENCRYPTION_KEY`."""

    async def seal(self, stream_id: str, *, event: str, field: str, plain: bytes) -> str:
        """Returns base64 of nonce and ciphertext (AES-256-GCM, associated data stream, event, field)."""

    async def open(self, stream_id: str, *, event: str, field: str, sealed: str) -> bytes:
        """Returns the plain bytes; raises `SealBroken` when key, place or bytes are not those sealed."""

    async def seal_bytes(self, stream_id: str, *, event: str, field: str, plain: bytes) -> bytes:
        """Returns nonce and ciphertext as they are, for what is stored outside the log."""

    async def open_bytes(self, stream_id: str, *, event: str, field: str, sealed: bytes) -> bytes:
        """Returns the plain bytes of a `seal_bytes`; raises as `open` does."""

    async def tag(self, stream_id: str, *, field: str, plain: bytes) -> str:
        """Returns a keyed fingerprint (32 hex digits): equal fields of one stream have equal tags."""

    async def check(self) -> None:
        """Raises `SealBroken` when a key is kept here that no given `ENCRYPTION_KEY` wraps."""

    async def shred(self) -> Sequence[str]:
        """Blanks the key of every stream that has a `key_shredded` event; returns those that still had one.

        May be repeated at any time: the event is the decision, this only its effect.
        """


class SealBroken(Exception):
    """A sealed field cannot be opened: another key, another place, changed bytes, or a shredded key."""


class Shredded(SealBroken):
    """The stream's key was shredded: nothing sealed under it is ever opened again, and nothing new is sealed."""
