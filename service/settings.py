"""Settings: everything an operator can set, and what is usual."""

from pathlib import Path
from typing import Literal

import msgspec

from domain.ids import UserId
from domain.money import Atomic
from domain.roles import THREE, Role, SeatKind
from domain.terms import Policy
from schemas.address import Network

DAEMONS_MAX = 2
EMBEDDED_ARBITER = UserId("arbiter")
"""Who arbitrates on a test network when nobody is named."""

ArbiterMode = Literal["single", "pool"]


class Arbiter(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may be assigned as arbiter, and where their fee goes if that is configured."""

    user_id: UserId
    address: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator can set; the names of the environment in lower case."""

    thirdkey_home: Path = Path(".thirdkey")
    """The data folder: embedded database, keys, wallets."""
    database_url: str | None = None
    """None means the embedded Postgres in the data folder."""
    server_host: str = "127.0.0.1"
    server_port: int = 8080
    """0 asks the system for a free port, here and below."""
    public_url: str | None = None
    """Where browsers reach the pages, when that is not `server_host` and `server_port`: a proxy, an onion service."""
    metrics_port: int = 8081
    """On loopback only."""
    monero_network: Network = "regtest"
    monero_rpc_urls: tuple[str, ...] = ()
    monero_rpc_user: str | None = None
    monero_rpc_password: str | None = None
    monero_rpc_wallet_dir: Path | None = None
    """For `monero_rpc_urls`: the folder that holds those of the wallets, `buyer`, `vendor` and `arbiter`."""
    monero_rpc_file: Path | None = None
    """Instead of `monero_rpc_urls`: a JSON file with address, login, certificate and folder of each."""
    monero_daemon_urls: tuple[str, ...] = ()
    """One, or two: then the chain is what both say of it."""
    scanner_silent_s: int = 30
    """How long the scanner's process may be silent while it is waited for, before it is ended and started anew."""
    pool_min: int = 3
    """Wallet processes there are at least and at most; a third of them, in whole slots, for each role."""
    pool_max: int = 30
    pool_scale_up_s: int = 60
    """For how long use must be high before three more are started."""
    pool_scale_down_s: int = 600
    """For how long three fewer must have been enough before three are ended."""
    encryption_key: bytes | None = None
    encryption_key_old: tuple[bytes, ...] = ()
    """What was `ENCRYPTION_KEY` before: still opens, wraps nothing new."""
    encryption_key_next: bytes | None = None
    """What will be `ENCRYPTION_KEY`: opens already what nodes that have it wrap with it."""
    key_cache_s: int = 60
    """How long an opened key is used before it is read again, at the longest after it was shredded elsewhere."""
    secrets_retention_days: int = 1_095
    """How long after the last that happened an ended escrow's secrets are kept; only then can they be shredded."""
    head_signing_key: bytes | None = None
    """Ed25519 private key that signs the log's heads, 32 bytes; None means the one in the data folder."""
    heads_file: Path | None = None
    """Where signed heads are written outside the database; None means `heads.jsonl` in the data folder."""
    head_interval_s: int = 60
    """A partition's new events are signed when its newest head is this old, or at once at `head_events_max` of them."""
    head_events_max: int = 1_000
    reconcile_every_s: int = 3_600
    """How often one node has every escrow's log compared with a fresh scan of the chain."""
    issuer_public_key: bytes | None = None
    """Ed25519 key of who issues tokens, 32 bytes; None means the one in the data folder."""
    log_partitions: int = 4
    arbiter_mode: ArbiterMode = "single"
    arbiters: tuple[Arbiter, ...] = (Arbiter(user_id=EMBEDDED_ARBITER),)
    arbiter_delegates: tuple[UserId, ...] = ()
    """Who may stand in for an arbiter on holiday, beside the other arbiters."""
    arbiter_ready_s: int = 0
    """Only an arbiter seen within so long is given new escrows; 0 asks nobody to be seen."""
    default_seats: dict[Role, SeatKind] = msgspec.field(default_factory=lambda: dict.fromkeys(THREE, SeatKind.POOL))
    allow_hosted_seats: bool = True
    max_escrow_amount_atomic: Atomic = Atomic(5_000_000_000_000)
    max_beta_volume_atomic: Atomic = Atomic(50_000_000_000_000)
    max_concurrent_escrows: int = 20
    figures: Policy = Policy()
    """Deadlines and bounds of the rules themselves."""
    body_max: int = 65_536
    """Bytes of a request's body."""
    body_timeout_s: int = 30
    ipfs_api_url: str | None = None
    """RPC of an IPFS node that keeps evidence; None keeps it beside the log."""
    evidence_bytes_max: int = 10 << 20
    """Bytes of a picture's file, and of the picture made of it."""
    evidence_pixels_max: int = 25_000_000
    evidence_timeout_s: int = 120
    """How long a picture may take to arrive, or to be taken."""
    evidence_transfers_max: int = 8
    """Pictures that come or go at once on this node; a quarter of them, but two at least, of one user."""
    page_max: int = 100
    history_max: int = 1_000
    """Events shown in an escrow's history."""
    own_writes_wait_s: int = 1
    """How long a list waits for the read model to pass what was written before."""
    idempotency_key_max: int = 128
    """Characters."""
    token_max: int = 4_096
    """Characters of a bearer token."""
    retry_after_s: int = 1
    """What a caller is told to wait after a 503."""
    batch_orders_max: int = 100
    """Orders in one batch."""
    init_wait_s: int = 25
    """How long a request waits for the set-ups that it began; they go on behind it."""
    init_waiting_max: int = 10_000
    """Set-ups that requests on this node wait for at once; beyond them a request is answered without waiting."""
    slot_lease_s: int = 60
    """How long a node that stands still keeps others from a wallet slot."""
    seat_lease_s: int = 30
    """How long it keeps others from a seat's turns."""
    slot_call_max_s: int = 300
    """How long a call to a wallet process that is not ours may take; it rests as long when its holder was lost."""
    node_lease_s: int = 15
    """How long its name is refused to a node in another folder."""
    session_s: int = 43_200
    """How long a web login lasts at most, and no longer than the token it was made with."""
    login_failures_max: int = 30
    """Failed web logins of one sender in a minute; beyond them it is told to wait."""
    page_wait_s: int = 20
    """How long a page waits for its case to move before it asks again."""
    page_waits_max: int = 1_000
    """Pages of this node that wait so; beyond them a page asks every few seconds."""
    stream_sockets_max: int = 2_000
    """Sockets of the stream on this node."""
    stream_user_sockets_max: int = 20
    """Of one user."""
    stream_slow_s: int = 30
    """How long a socket may take nothing of what waits for it before it is cut."""
    stream_heartbeat_s: int = 20
    stream_queue_max: int = 256
    """Messages that wait for one socket; beyond them it goes back to the log."""
    stream_page_max: int = 500
    """Events of its history that are read at once for one socket."""

    def policy(self) -> Policy:
        """Returns what is written into each new escrow: the figures by which it will be judged for ever."""
        return self.figures

    @property
    def slots_per_role_min(self) -> int:
        """Slots of a role at least: enough for `pool_min`."""
        return -(-self.pool_min // len(THREE))

    @property
    def slots_per_role_max(self) -> int:
        """Slots of a role at most: within `pool_max`."""
        return self.pool_max // len(THREE)

    @property
    def slots_given(self) -> bool:
        """Whether the wallet processes are somebody else's."""
        return bool(self.monero_rpc_urls) or self.monero_rpc_file is not None

    def seat_kinds(self) -> frozenset[SeatKind]:
        """Names the kinds of seats that somebody could take today: hosted ones, where they are allowed."""
        return frozenset({SeatKind.POOL}) if self.allow_hosted_seats else frozenset()

    def __repr__(self) -> str:
        """Shows nothing but the network: addresses of databases and keys are secrets."""
        return f"Settings(network={self.monero_network!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Keeps secrets out of pretty tracebacks as well."""
        return [("network", self.monero_network)]
