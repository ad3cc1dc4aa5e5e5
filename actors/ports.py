"""The ports through which actors reach wallets, the daemon and the chain.

Each port has a real adapter and a memory twin in this package; one contract suite runs on both.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from domain.chain import ChainView
from domain.ids import Address, EscrowId, KeyImage, OneTimeKey, TxHash
from domain.money import Atomic


class WalletFault(StrEnum):
    """What kind of refusal a wallet gave, from its code and (where one code means several things) its text."""

    NO_WALLET_OPEN = "no_wallet_open"  # -13
    EXISTS = "exists"  # -21
    OPEN_FAILED = "open_failed"  # -1 Failed to open wallet: missing, locked, torn or another password
    NOT_MULTISIG = "not_multisig"  # -31
    ALREADY_MULTISIG = "already_multisig"  # -28
    ROUND_ALREADY_DONE = "round_already_done"  # -1 ... expected kex round number
    NEEDS_MORE_INFOS = "needs_more_infos"  # -33
    DISABLED = "disabled"  # -48
    STALE = "stale"  # -35
    UNREADABLE_SET = "unreadable_set"  # -34, -26: wallet not refreshed, or not a transaction set
    REJECTED = "rejected"  # -36
    CANNOT_SPEND = "cannot_spend"  # -16, -17, -4, -46, -2 on transfer
    NO_DAEMON = "no_daemon"  # -38, and the texts monero.md lists for a daemon that is down
    OTHER = "other"


class WalletRefused(Exception):
    """The wallet answered with an error: the call had no effect."""

    def __init__(self, *, method: str, fault: WalletFault, code: int, message: str) -> None:
        super().__init__(f"{method}: {fault} ({code})")
        self.method, self.fault, self.code, self.message = method, fault, code, message


class WalletUnknown(Exception):
    """No answer came (time-out, connection lost, garbage): the call may or may not have had its effect."""

    def __init__(self, *, method: str, reason: str) -> None:
        super().__init__(f"{method}: {reason}")
        self.method, self.reason = method, reason


class KexResult(msgspec.Struct, frozen=True):
    """The answer of one key exchange: the next round's message, and the address once it is the last."""

    info: str
    address: Address | None


class MultisigStatus(msgspec.Struct, frozen=True):
    """What `is_multisig` says."""

    multisig: bool
    ready: bool
    threshold: int
    total: int


class WalletOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output as an open wallet lists it (`incoming_transfers`, verbose)."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    amount: Atomic
    key_image: KeyImage | None
    """None until another seat's export was imported."""
    unlocked: bool
    spent: bool
    height: int


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver of a transaction."""

    address: Address
    amount: Atomic


class TxProposal(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction set made by its proposer: unsigned by anyone else, not broadcast."""

    tx_set: str
    fee: Atomic
    amount: Atomic
    key_images: tuple[KeyImage, ...]


class TxDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What `describe_transfer` says of one transaction in a set."""

    amount_in: Atomic
    amount_out: Atomic
    recipients: tuple[Destination, ...]
    change_amount: Atomic
    change_address: str
    fee: Atomic
    unlock_time: int
    payment_id: str
    dummy_outputs: int
    ring_size: int


class SignedTx(msgspec.Struct, frozen=True):
    """A fully signed transaction set and the hashes of its transactions; not broadcast."""

    tx_hex: str
    tx_hashes: tuple[TxHash, ...]


class WalletRpc(Protocol):
    """One `monero-wallet-rpc` process: one wallet open at most, calls answered one after another.

    Every method raises `WalletRefused` when the wallet says no and `WalletUnknown` when it does not answer.
    Names follow the wallet's own methods.
    """

    called_s: float
    """Seconds that the calls of this client took so far."""

    async def get_version(self) -> int: ...
    async def auto_refresh(self, *, enable: bool) -> None: ...
    async def create_wallet(self, name: str, *, password: str) -> None: ...
    async def open_wallet(self, name: str, *, password: str) -> None: ...
    async def close_wallet(self) -> None:
        """Saves and closes; always sends `{"autosave_current": true}` (without it nonces come back)."""

    async def store(self) -> None: ...
    async def prepare_multisig(self) -> str:
        """Returns this seat's first message; always sets the experimental flag (else a later round is stuck)."""

    async def make_multisig(self, infos: Sequence[str], *, password: str) -> str:
        """Makes the wallet 2-of-3 and returns its second message; the placeholder address is dropped here."""

    async def exchange_multisig_keys(self, infos: Sequence[str], *, password: str) -> KexResult: ...
    async def is_multisig(self) -> MultisigStatus: ...
    async def get_address(self) -> Address: ...
    async def view_key(self) -> str:
        """Returns the secret view key, 64 hex digits."""

    async def refresh(self) -> int:
        """Reads new blocks; returns how many."""

    async def get_height(self) -> int: ...
    async def incoming_transfers(self) -> tuple[WalletOutput, ...]: ...
    async def export_multisig_info(self) -> str: ...
    async def import_multisig_info(self, infos: Sequence[str]) -> int:
        """Imports other seats' exports; returns the number of outputs known with key images."""

    async def freeze(self, image: KeyImage) -> None:
        """Keeps the output of this key image out of every transfer, across store and close, until it is thawed."""

    async def thaw(self, image: KeyImage) -> None: ...
    async def transfer(self, destinations: Sequence[Destination]) -> TxProposal:
        """Makes a multisig transaction set at priority 1; reserves nothing."""

    async def describe_transfer(self, tx_set: str) -> tuple[TxDescription, ...]: ...
    async def sign_multisig(self, tx_set: str) -> SignedTx: ...
    async def submit_multisig(self, tx_hex: str) -> tuple[TxHash, ...]: ...
    async def aclose(self) -> None:
        """Closes the connection, not the wallet."""


class KeysFileUnreadable(Exception):
    """A wallet's keys file cannot be had from its folder: `reason` is a word, no path and nothing of the file."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WalletFiles(Protocol):
    """The folder in which a slot keeps its wallet files; copies are for set-up only, never after an export.

    `save` and `restore` copy `NAME` and `NAME.keys` (temporary name, then rename); labels name rounds. `restore` and
    `drop_cache` raise `WalletUnknown` while a process has the wallet open.
    """

    def exists(self, name: str) -> bool: ...
    def save(self, name: str, *, label: str) -> None: ...
    def saved(self, name: str, *, label: str) -> bool: ...
    def restore(self, name: str, *, label: str) -> None: ...
    def drop_saved(self, name: str) -> None: ...
    def remove(self, name: str) -> None:
        """Deletes a wallet that no escrow ever had, keys and all."""

    def drop_cache(self, name: str) -> None:
        """Deletes the cache file (`NAME`, not `NAME.keys`): repairs a torn wallet before funding."""

    def keys(self, name: str) -> bytes:
        """Returns `NAME.keys`, for a backup; raises `KeysFileUnreadable` unless all of it is there."""

    def in_use(self, name: str) -> bool:
        """Says whether a process has the wallet open, by the lock that it holds on its files."""

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Locks a wallet's files against other processes; raises `WalletUnknown` while another has them locked."""


class WalletFolder(WalletFiles, Protocol):
    """A folder of wallet files in the hands of an operator, who alone puts a lost wallet back: no agent does."""

    def lost(self, name: str) -> bool:
        """Says whether neither keys nor cache of the wallet are there."""

    def put_back(self, name: str, keys: bytes) -> None:
        """Makes `NAME.keys` of a lost wallet, whole or not at all; raises `FileExistsError` unless it is lost.

        Never its cache: without one a wallet scans anew and has no nonces, from an older one it would have used ones.
        """


class Blindness(StrEnum):
    """Why nothing can be said of the chain just now."""

    DOWN = "down"
    """A daemon does not answer, or says that it is not to be trusted."""
    SYNCHRONISING = "synchronising"
    BEHIND = "behind"
    """One of two daemons has far fewer blocks than the other."""
    FORKED = "forked"
    """Two daemons hold different blocks at one height."""
    DIFFERENT = "different"
    """Two daemons say different things of the same block or transaction: one of them lies or is broken."""
    CONTRADICTORY = "contradictory"
    """A daemon contradicts itself at every attempt: its chain never rests, or it lies about a block."""
    READING = "reading"
    """The scanner works, and has not caught up."""
    SCANNER = "scanner"
    """The scanner's process does not answer, or was ended and starts again."""


class DaemonDown(Exception):
    """The daemon did not answer, or what it says is not to be trusted; `why` is for metrics, the text for people.

    The text names no address, and stays the same as long as the same is wrong.
    """

    def __init__(self, reason: str, *, why: Blindness = Blindness.DOWN) -> None:
        super().__init__(reason)
        self.why = why


class DaemonInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What `get_info` says."""

    height: int
    top_hash: str
    synchronized: bool
    nettype: str


class BlockFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One block: its place and the transactions in it, the miner's first."""

    height: int
    hash: str
    prev_hash: str
    timestamp: int
    tx_hashes: tuple[TxHash, ...]


class ChainTx(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as the daemon holds it; `body` is its decoded JSON (monerod's `as_json`)."""

    tx_hash: TxHash
    body: Mapping[str, Any]
    height: int | None
    """None while in the pool."""
    relayed: bool = True
    """False for one that waits in this daemon's pool and was never told to anybody: no miner has it, and none will.

    monerod leaves such a one behind when it is ended between taking a transaction and relaying it; it neither relays
    it later nor mines it itself, until somebody sends it again (tried on 0.18.0.0). A restricted port hides it.
    """


class KeyImageStatus(StrEnum):
    """What `is_key_image_spent` says of one key image."""

    UNSPENT = "unspent"
    IN_CHAIN = "in_chain"
    IN_POOL = "in_pool"


class DaemonRpc(Protocol):
    """One `monerod`. Every method raises `DaemonDown` when it does not answer or answers `untrusted`."""

    async def info(self) -> DaemonInfo: ...
    async def block(self, height: int) -> BlockFacts: ...
    async def transactions(self, tx_hashes: Sequence[TxHash]) -> tuple[ChainTx, ...]:
        """Returns those the daemon knows, in chain or pool; asks 100 at a time."""

    async def pool_hashes(self) -> tuple[TxHash, ...]: ...
    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]: ...
    async def fee_per_byte(self) -> Atomic:
        """Returns what a byte of a transaction costs now at the lowest priority, in atomic units."""

    async def aclose(self) -> None: ...


class WatchTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One address to watch."""

    escrow_id: EscrowId
    address: Address
    view_key: str
    since_height: int
    key_images: Mapping[OneTimeKey, KeyImage] = {}

    def __repr__(self) -> str:
        return f"WatchTarget({self.escrow_id}, …)"


class Watch(Protocol):
    """Shows what the chain holds for many escrows, with view keys alone and no wallet open."""

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        """Returns one view per target, all at the same height; raises `DaemonDown`."""


class Timer(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """Calls it off; without effect once it has happened."""


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> int:
        """Microseconds since the Unix epoch."""

    async def sleep(self, seconds: float) -> None:
        """Returns once `seconds` have passed."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Calls `callback` on the event loop, in an empty context, once `seconds` have passed; costs no task."""
