"""The wallet files of a slot whose folder we can reach; copies are a way back during set-up, never after an export."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.ports import KeysFileUnreadable, WalletUnknown
from actors.wallet_backup import KEYS_FILE_BYTES_MAX, is_whole

COPIES = "set-up-copies"
"""The folder beside the wallet files that holds copies, one folder a label."""


class FolderFiles:
    """A folder of wallet files on this machine; implements `WalletFolder`.

    Files that a process has open are not put back or dropped: the lock lies on the old file, and a copy renamed over
    it escapes it (measured).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def exists(self, name: str) -> bool:
        """Says whether the wallet has a keys file."""
        return self._keys(name).exists()

    def save(self, name: str, *, label: str) -> None:
        """Copies `NAME.keys` and, where there is one, `NAME`; a copy of that label counts once its keys are there."""
        target = self._copies(name, label)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True, mode=0o700)
        if self._cache(name).exists():
            _copy(self._cache(name), target / name)
        _copy(self._keys(name), target / f"{name}.keys")

    def saved(self, name: str, *, label: str) -> bool:
        """Says whether a whole copy of that label exists."""
        return (self._copies(name, label) / f"{name}.keys").exists()

    def restore(self, name: str, *, label: str) -> None:
        """Puts a copy in place of the wallet's files; raises `FileNotFoundError` when there is none.

        The cache goes first and returns last: with keys alone a wallet opens and scans anew, with a foreign cache not.
        """
        source = self._copies(name, label)
        if not self.saved(name, label=label):
            raise FileNotFoundError(f"no copy {label}")
        with self._closed(name):
            self._drop_cache(name)
            _copy(source / f"{name}.keys", self._keys(name))
            if (source / name).exists():
                _copy(source / name, self._cache(name))

    def drop_saved(self, name: str) -> None:
        """Deletes every copy of the wallet."""
        shutil.rmtree(self._folder / COPIES / _checked(name), ignore_errors=True)

    def remove(self, name: str) -> None:
        """Deletes a wallet that no escrow ever had, keys and all."""
        for path in (self._cache(name), self._keys(name), self._folder / f"{_checked(name)}.address.txt"):
            path.unlink(missing_ok=True)
        _sync_folder(self._folder)

    def drop_cache(self, name: str) -> None:
        """Deletes the cache file."""
        with self._closed(name):
            self._drop_cache(name)

    def keys(self, name: str) -> bytes:
        """Returns `NAME.keys`; raises `KeysFileUnreadable` unless all of it is there."""
        try:
            with self._keys(name).open("rb") as file:
                content = file.read(KEYS_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise KeysFileUnreadable("keys_file_missing") from None
        except OSError:
            raise KeysFileUnreadable("keys_file_unreadable") from None
        if len(content) > KEYS_FILE_BYTES_MAX or not is_whole(content):
            raise KeysFileUnreadable("keys_file_not_whole")
        return content

    def lost(self, name: str) -> bool:
        """Says whether neither keys nor cache of the wallet are there."""
        return not os.path.lexists(self._keys(name)) and not os.path.lexists(self._cache(name))

    def put_back(self, name: str, keys: bytes) -> None:
        """Makes `NAME.keys` of a lost wallet; raises `FileExistsError` unless it is lost."""
        if not self.lost(name):
            raise FileExistsError(f"{name} has files here")
        beside = self._folder / f".{_checked(name)}.{secrets.token_hex(8)}"
        try:
            _write(beside, keys)
            os.link(beside, self._keys(name))  # unlike a rename it replaces nothing that came meanwhile
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(self._folder)

    def in_use(self, name: str) -> bool:
        """Says whether a process holds the lock of the wallet's keys file, as an open wallet does."""
        try:
            with self._closed(name):
                return False
        except WalletUnknown:
            return True

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Locks a wallet's files against other processes; raises `WalletUnknown` while another has them locked."""
        place = self._folder / COPIES / _checked(name)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _lock(descriptor, fcntl.flock)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _closed(self, name: str) -> Iterator[None]:
        """Holds the lock that a wallet process takes on the keys file it opens; raises `WalletUnknown` if one has it.

        For the block no process can open the wallet either.
        """
        try:
            descriptor = os.open(self._keys(name), os.O_RDWR)  # an exclusive record lock asks for it
        except FileNotFoundError:
            yield
            return
        try:
            # The wallet's lock is a record lock (seen in /proc/locks, 0.18.0.0), which `flock` does not meet.
            _lock(descriptor, fcntl.lockf)
            yield
        finally:
            os.close(descriptor)

    def _drop_cache(self, name: str) -> None:
        self._cache(name).unlink(missing_ok=True)
        _sync_folder(self._folder)

    def _keys(self, name: str) -> Path:
        return self._folder / f"{_checked(name)}.keys"

    def _cache(self, name: str) -> Path:
        return self._folder / _checked(name)

    def _copies(self, name: str, label: str) -> Path:
        return self._folder / COPIES / _checked(name) / _checked(label)


def _checked(name: str) -> str:
    assert name not in ("", ".", "..", COPIES) and "/" not in name and "\0" not in name, "a plain file name"
    return name


def _lock(descriptor: int, kind: Callable[[int, int], None]) -> None:
    try:
        kind(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # which of the two a record lock raises, systems differ
        raise WalletUnknown(method="files", reason="locked by another process") from None


def _copy(source: Path, target: Path) -> None:
    # Whole or not at all, also after a power cut: written beside, flushed, renamed, and the folder flushed.
    beside = target.with_name(f"{target.name}.new")
    _write(beside, source.read_bytes())
    beside.replace(target)
    _sync_folder(target.parent)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
