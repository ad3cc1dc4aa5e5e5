"""Settings read from the environment: once, checked as a whole, every mistake named at once."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from domain.ids import UserId
from domain.money import ATOMIC_MAX
from domain.roles import THREE, SeatKind
from domain.terms import FeeSettlement, Policy
from eventstore.migrations import PARTITIONS_MAX
from schemas.address import BadAddress, Network, parse_address
from service import setting_values as v
from service.settings import DAEMONS_MAX, EMBEDDED_ARBITER, Arbiter, ArbiterMode, Settings

YEAR_S = 366 * 24 * 3_600
_T = TypeVar("_T")


class SettingsWrong(Exception):
    """The environment does not make sense; `mistakes` lists every sentence about it."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Reads settings; raises `SettingsWrong` with all mistakes."""
    read = _Reader(environ)
    settings = _with_numbers(_with_words(read), read)
    mistakes = (*read.mistakes, *_contradictions(settings, environ))
    if mistakes:
        raise SettingsWrong(mistakes)
    return settings


_NETWORKS = ("mainnet", "stagenet", "testnet", "regtest")
_BOUNDS: dict[str, tuple[int, int]] = {
    "server_port": (0, v.PORT_MAX),
    "metrics_port": (0, v.PORT_MAX),
    "pool_min": (3, 3_000),
    "pool_max": (3, 3_000),
    "pool_scale_up_s": (1, 14_400),
    "pool_scale_down_s": (1, 14_400),
    "log_partitions": (1, PARTITIONS_MAX),
    "max_escrow_amount_atomic": (1, ATOMIC_MAX),
    "max_beta_volume_atomic": (1, ATOMIC_MAX),
    "max_concurrent_escrows": (1, 1_000_000),
    "arbiter_ready_s": (0, 30 * 86_400),
    "body_max": (1_024, 16 * 1_048_576),
    "body_timeout_s": (1, 600),
    "evidence_bytes_max": (1_024, 16 * 1_048_576),
    "evidence_pixels_max": (1_024, 25_000_000),
    "evidence_timeout_s": (1, 3_600),
    "evidence_transfers_max": (1, 1_000),
    "page_max": (1, 1_000),
    "history_max": (1, 10_000),
    "own_writes_wait_s": (0, 30),
    "idempotency_key_max": (16, 1_024),
    "token_max": (512, 16_384),
    "retry_after_s": (1, 3_600),
    "key_cache_s": (1, 3_600),
    "secrets_retention_days": (30, 36_500),
    "batch_orders_max": (1, 1_000),
    "init_wait_s": (0, 300),
    "init_waiting_max": (0, 1_000_000),
    "slot_lease_s": (1, 3_600),
    "seat_lease_s": (1, 3_600),
    "slot_call_max_s": (5, 3_600),
    "node_lease_s": (1, 3_600),
    "scanner_silent_s": (5, 3_600),
    "session_s": (60, 604_800),
    "login_failures_max": (1, 100_000),
    "page_wait_s": (0, 300),
    "page_waits_max": (0, 100_000),
    "stream_sockets_max": (1, 100_000),
    "stream_user_sockets_max": (1, 100_000),
    "stream_slow_s": (1, 600),
    "stream_heartbeat_s": (1, 600),
    "stream_queue_max": (1, 10_000),
    "stream_page_max": (1, 10_000),
    "head_interval_s": (1, 86_400),
    "head_events_max": (1, 1_000_000),
    "reconcile_every_s": (1, 604_800),
}
_FIGURES: dict[str, tuple[int, int]] = {
    "dust_atomic": (1, ATOMIC_MAX),
    "network_fee_max_atomic": (1, ATOMIC_MAX),
    "final_confirmations": (1, 1_000),
    "epochs_max": (1, 100),
} | dict.fromkeys(
    (
        *("pending_s", "setup_s", "setup_relay_s", "funding_remind_s", "funding_s", "ship_s"),
        *("dispute_untouched_s", "dispute_undecided_s"),
    ),
    (1, YEAR_S),
)


class _Reader:
    """Reads one variable after another and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.mistakes: list[str] = []

    def __call__(self, variable: str, parse: Callable[[str], _T], default: _T) -> _T:
        text = self._environ.get(variable, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except v.BadValue as bad:
            self.mistakes.append(f"{variable}: {bad}")
            return default

    def numbers(self, bounds: Mapping[str, tuple[int, int]], usual: msgspec.Struct) -> dict[str, int]:
        """Reads whole numbers by the names of a record's fields."""
        return {
            field: self(field.upper(), v.whole(least=least, most=most), getattr(usual, field))
            for field, (least, most) in bounds.items()
        }


def _with_words(read: _Reader) -> Settings:
    network = cast(Network, read("MONERO_NETWORK", v.choice(*_NETWORKS), "regtest"))
    hosted = network != "mainnet"
    return Settings(
        thirdkey_home=read("THIRDKEY_HOME", Path, Path(".thirdkey")),
        database_url=read("DATABASE_URL", v.database, None),
        server_host=read("SERVER_HOST", str, "127.0.0.1"),
        public_url=read("PUBLIC_URL", v.origin, None),
        monero_network=network,
        monero_rpc_urls=read("MONERO_RPC_URLS", v.urls, ()),
        monero_rpc_user=read("MONERO_RPC_USER", str, None),
        monero_rpc_password=read("MONERO_RPC_PASSWORD", str, None),
        monero_rpc_wallet_dir=read("MONERO_RPC_WALLET_DIR", Path, None),
        monero_rpc_file=read("MONERO_RPC_FILE", Path, None),
        monero_daemon_urls=read("MONERO_DAEMON_URLS", v.urls, ()),
        ipfs_api_url=read("IPFS_API_URL", v.url, None),
        encryption_key=read("ENCRYPTION_KEY", v.hex_bytes, None),
        encryption_key_old=read("ENCRYPTION_KEY_OLD", v.hex_keys, ()),
        encryption_key_next=read("ENCRYPTION_KEY_NEXT", v.hex_bytes, None),
        head_signing_key=read("HEAD_SIGNING_KEY", v.hex_bytes, None),
        heads_file=read("HEADS_FILE", Path, None),
        issuer_public_key=read("ISSUER_PUBLIC_KEY", v.hex_bytes, None),
        arbiter_mode=cast(ArbiterMode, read("ARBITER_MODE", _arbiter_mode, "single")),
        arbiters=_arbiters(read, network),
        arbiter_delegates=read("ARBITER_DELEGATE_IDS", v.users, ()),
        allow_hosted_seats=read("ALLOW_HOSTED_SEATS", v.yes_no, hosted),
        default_seats=read(
            "DEFAULT_SEATS", v.seat_kinds, dict.fromkeys(THREE, SeatKind.POOL if hosted else SeatKind.RELAY)
        ),
    )


def _with_numbers(settings: Settings, read: _Reader) -> Settings:
    usual = Policy()
    figures = msgspec.structs.replace(
        usual,
        arbiter_fee_ppm=read("ARBITER_FEE_PERCENTAGE", v.ppm, usual.arbiter_fee_ppm),
        stuck_s=read("STUCK_S", v.seconds_four, usual.stuck_s),
        arbiter_backup_key=read("ARBITER_BACKUP_KEY", v.backup_key, usual.arbiter_backup_key),
        fee_settlement=read("FEE_SETTLEMENT", _fee_settlement, usual.fee_settlement),
        **read.numbers(_FIGURES, usual),
    )
    return msgspec.structs.replace(settings, figures=figures, **read.numbers(_BOUNDS, settings))


def _fee_settlement(text: str) -> FeeSettlement:
    return FeeSettlement(v.choice(*FeeSettlement)(text))


def _arbiter_mode(text: str) -> str:
    return "single" if text == "single_admin" else v.choice("single", "pool")(text)


def _arbiters(read: _Reader, network: Network) -> tuple[Arbiter, ...]:
    nobody: tuple[str, ...] = ()
    alone: tuple[UserId, ...] = (EMBEDDED_ARBITER,)
    users = read("ARBITER_USER_ID", v.users, alone)
    addresses = read("ARBITER_ADDRESS", v.text_list, nobody)
    if addresses and len(addresses) != len(users):
        read.mistakes.append("ARBITER_ADDRESS: expected one address for each of ARBITER_USER_ID, or none at all")
        return tuple(Arbiter(user_id=user) for user in users)
    for number, address in enumerate(addresses, start=1):
        _check_address(read, address, number=number, network=network)
    padded: tuple[str | None, ...] = addresses or (None,) * len(users)
    return tuple(Arbiter(user_id=user, address=address) for user, address in zip(users, padded, strict=True))


def _check_address(read: _Reader, address: str, *, number: int, network: Network) -> None:
    try:
        parse_address(address, network=network)
    except BadAddress as bad:
        read.mistakes.append(f"ARBITER_ADDRESS: entry {number} is refused ({bad.code})")


def _contradictions(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    if settings.database_url is not None and not environ.get("ENCRYPTION_KEY", "").strip():
        yield "ENCRYPTION_KEY: expected 64 hex digits beside DATABASE_URL; only the embedded database makes its own key"
    if settings.encryption_key in (*settings.encryption_key_old, settings.encryption_key_next or b""):
        yield "ENCRYPTION_KEY_OLD, ENCRYPTION_KEY_NEXT: expected other keys than ENCRYPTION_KEY"
    if settings.arbiter_mode == "single" and len(settings.arbiters) > 1:
        yield "ARBITER_USER_ID: expected one user in ARBITER_MODE single"
    if settings.monero_network == "mainnet" and not environ.get("ARBITER_USER_ID", "").strip():
        yield "ARBITER_USER_ID: expected on mainnet"
    yield from _slot_contradictions(settings)
    if settings.slots_per_role_min > settings.slots_per_role_max:
        yield "POOL_MIN: expected at most POOL_MAX, and a multiple of three from the one to the other"
    if settings.figures.funding_remind_s > settings.figures.funding_s:
        yield "FUNDING_REMIND_S: expected at most FUNDING_S"


def _slot_contradictions(settings: Settings) -> Iterator[str]:
    if settings.monero_rpc_urls and settings.monero_rpc_file is not None:
        yield "MONERO_RPC_FILE: expected it or MONERO_RPC_URLS, not both"
    if settings.monero_rpc_urls and settings.monero_rpc_wallet_dir is None:
        yield (
            "MONERO_RPC_WALLET_DIR: expected beside MONERO_RPC_URLS; without the wallets' files a round of a set-up "
            "whose answer is lost has no way back"
        )
    if settings.slots_given != bool(settings.monero_daemon_urls):
        yield "MONERO_DAEMON_URLS: expected beside MONERO_RPC_URLS or MONERO_RPC_FILE, and only there"
    daemons = settings.monero_daemon_urls
    if len(daemons) > DAEMONS_MAX or len(set(daemons)) < len(daemons):
        yield "MONERO_DAEMON_URLS: expected one address or two different ones"
    if any(not entry.startswith("http://") for entry in daemons):
        yield "MONERO_DAEMON_URLS: expected http:// in this version"
