"""How many slots a world has: one small file of its data folder, which every node of it reads and may change."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from domain.roles import THREE, Role
from service.whole_files import FILE_MODE, write_whole

POOL_FILE = "pool.json"
POOL_LOCK = "pool.lock"
PER_ROLE_MAX = 1_000
Count = Annotated[int, msgspec.Meta(ge=0, le=PER_ROLE_MAX)]


class NoPool(Exception):
    """The data folder does not say how many slots its world has."""


class PoolSize(msgspec.Struct, frozen=True, kw_only=True):
    """How many slots each role has and may have."""

    slots_per_role: Count
    least: Count
    most: Count
    drained: tuple[str, ...] = ()
    """Slots among them that an operator took out."""
    change: int = 0
    """Counts the changes: who saw another number saw other slots."""

    def names(self) -> Mapping[str, Role]:
        """Names the slots there should be, with their roles."""
        every = {f"{role.value}-{index}": role for index in range(self.slots_per_role) for role in THREE}
        return {name: role for name, role in every.items() if name not in self.drained}


class PoolFile:
    """The file. It is changed only by who says what it held: of several who decide at once one is heard."""

    def __init__(self, home: Path) -> None:
        self._path, self._lock = home / POOL_FILE, home / POOL_LOCK

    def read(self) -> PoolSize:
        """Reads the file; raises `NoPool`."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=PoolSize)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            raise NoPool(f"{self._path} does not say how many slots there are: is a world running?") from None

    def begin(self, *, least: int, most: int, keep: bool) -> PoolSize:
        """Writes the size at a world's start: the least, or what it was where nodes that use it live on."""
        with self._alone():
            try:
                before = self.read()
            except NoPool:
                before = PoolSize(slots_per_role=least, least=least, most=most)
            slots = min(max(before.slots_per_role, least), most) if keep else least
            drained = before.drained if keep else ()
            size = PoolSize(slots_per_role=slots, least=least, most=most, drained=drained, change=before.change + 1)
            write_whole(self._path, msgspec.json.encode(size))
            return size

    def change(self, seen: PoolSize, *, slots_per_role: int, drained: tuple[str, ...]) -> PoolSize | None:
        """Changes the size from the one that was seen; None, and nothing changed, when it is another by now."""
        with self._alone():
            if self.read() != seen:
                return None
            size = msgspec.structs.replace(seen, slots_per_role=slots_per_role, drained=drained, change=seen.change + 1)
            write_whole(self._path, msgspec.json.encode(size))
            return size

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Locks the file for the block; the lock ends with its process. Nobody holds it longer than a write takes."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
