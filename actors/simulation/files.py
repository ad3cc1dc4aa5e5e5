"""A folder of wallet files in memory, shared by processes: `.keys` files, caches, and the lock an open wallet holds."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum

import msgspec

from actors.ports import KeysFileUnreadable, WalletUnknown
from domain.ids import KeyImage, OneTimeKey, TxHash
from domain.money import Atomic


class Stage(IntEnum):
    """How far the key exchange has come; `.keys` and the cache must agree on it for the wallet to open."""

    ORDINARY = 0
    MADE = 1
    EXCHANGED = 2
    READY = 3


class KeysFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `NAME.keys` holds."""

    seed: str
    password: str
    stage: Stage = Stage.ORDINARY
    experimental: bool = False
    group: tuple[str, ...] = ()
    """The signers, sorted, once made."""
    restore_height: int


class KnownOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output as a wallet remembers it."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    amount: Atomic
    height: int
    block_hash: str
    unlock_time: int = 0
    key_image: KeyImage | None = None
    spent: bool = False
    frozen: bool = False
    own_nonce: str = ""
    """What this wallet's last export promised for this output; empty once signed with."""
    peer_nonces: Mapping[str, str] = {}
    """What imported exports promised, by signer."""


class CacheFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file `NAME` holds: everything a refresh or an import learned, and the nonces."""

    password: str
    stage: Stage
    height: int = 1
    tip_hash: str = ""
    outputs: tuple[KnownOutput, ...] = ()


class SimFolder:
    """The wallet files that one or more simulated processes work on."""

    def __init__(self) -> None:
        self.keys: dict[str, KeysFile] = {}
        self.caches: dict[str, CacheFile] = {}
        self.copies: dict[tuple[str, str], tuple[KeysFile, CacheFile | None]] = {}
        self.readable = True
        """Whether a backup can be read from it."""
        self._holders: dict[str, object] = {}

    def lock(self, name: str, *, holder: object) -> bool:
        """Locks a wallet for one process; False when another holds it."""
        return self._holders.setdefault(name, holder) is holder

    def unlock(self, holder: object) -> None:
        """Lets go of everything a process holds, as its end does."""
        self._holders = {name: each for name, each in self._holders.items() if each is not holder}

    def locked(self, name: str) -> bool:
        """Says whether a process has the wallet open."""
        return name in self._holders

    def replaced(self, name: str) -> None:
        """Forgets the lock: it lies on the old inode, which is why a wallet in use is never replaced."""
        self._holders.pop(name, None)


class SimFiles:
    """The `WalletFolder` of a simulated folder."""

    def __init__(self, folder: SimFolder) -> None:
        self._folder = folder

    def exists(self, name: str) -> bool:
        """Says whether the wallet has a keys file."""
        return name in self._folder.keys

    def save(self, name: str, *, label: str) -> None:
        """Copies both files under a label."""
        self._folder.copies[(name, label)] = (self._folder.keys[name], self._folder.caches.get(name))

    def saved(self, name: str, *, label: str) -> bool:
        """Says whether there is a copy of that label."""
        return (name, label) in self._folder.copies

    def restore(self, name: str, *, label: str) -> None:
        """Puts the copy in place of the wallet's files."""
        keys, cache = self._folder.copies[(name, label)]
        self.drop_cache(name)
        self._folder.keys[name] = keys
        if cache is not None:
            self._folder.caches[name] = cache
        self._folder.replaced(name)

    def drop_saved(self, name: str) -> None:
        """Deletes every copy of the wallet."""
        for key in [key for key in self._folder.copies if key[0] == name]:
            del self._folder.copies[key]

    def remove(self, name: str) -> None:
        """Deletes both files."""
        self._folder.keys.pop(name, None)
        self.drop_cache(name)

    def drop_cache(self, name: str) -> None:
        """Deletes the cache file."""
        if self._folder.locked(name):
            raise WalletUnknown(method="files", reason="locked by another process")
        self._folder.caches.pop(name, None)

    def keys(self, name: str) -> bytes:
        """Returns the keys file; raises `KeysFileUnreadable` when there is none.

        As bytes it is framed like a real one: eight for the IV, the length as a varint, and what follows.
        """
        if name not in self._folder.keys:
            raise KeysFileUnreadable("keys_file_missing")
        if not self._folder.readable:
            raise KeysFileUnreadable("keys_file_unreadable")
        inner = msgspec.json.encode(self._folder.keys[name])
        return bytes(8) + bytes((len(inner) & 0x7F | 0x80, len(inner) >> 7)) + inner

    def lost(self, name: str) -> bool:
        """Says whether neither keys nor cache of the wallet are there."""
        return name not in self._folder.keys and name not in self._folder.caches

    def put_back(self, name: str, keys: bytes) -> None:
        """Makes the keys file of a lost wallet; raises `FileExistsError` unless it is lost."""
        if not self.lost(name):
            raise FileExistsError(f"{name} has files here")
        self._folder.keys[name] = msgspec.json.decode(keys[10:], type=KeysFile)

    def in_use(self, name: str) -> bool:
        """Says whether a process has the wallet open."""
        return self._folder.locked(name)

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Locks nothing: a change in memory is whole before anybody else runs."""
        return nullcontext()
