"""The slots whose processes are the service's own: made by their names, found by their folders, ended under a lease."""

import re
from pathlib import Path

import msgspec

from actors.slots import Slot
from actors.wallet_files import FolderFiles
from actors.wallet_rpc import Observer
from domain.roles import THREE, Role
from schemas.address import Network
from service.slot_programs import SlotFolders, SlotPrograms

_NAME = re.compile(rf"(?:{'|'.join(role.value for role in THREE)})-\d+")


class OwnSlots(msgspec.Struct, frozen=True, kw_only=True):
    """Where the processes of a world's slots run, and their wallets lie; each node has one."""

    programs: Path
    wallets: Path
    network: Network
    daemon_address: str
    """`host:port`."""
    observer: Observer | None = None

    def slot(self, name: str) -> Slot:
        """Makes a slot of that name; who may use it, its lease says."""
        role = role_of(name)
        return Slot(name=name, role=role, files=FolderFiles(self.wallets / role.value), host=self.programs_of(name))

    def programs_of(self, name: str) -> SlotPrograms:
        """Returns who starts and ends a slot's processes."""
        folders = SlotFolders(
            programs=self.programs,
            wallets=self.wallets / role_of(name).value,
            name=name,
            network=self.network,
            daemon_address=self.daemon_address,
        )
        return SlotPrograms(folders, observer=self.observer)

    def known(self) -> frozenset[str]:
        """Names the slots of which something may run, or be left of what ran."""
        return frozenset(each.name for each in self.programs.glob("*-*") if each.is_dir() and is_own(each.name))

    async def end(self, name: str, *, fence: int) -> None:
        """Ends a slot's processes, up to a lease's fence, and removes what is left of them.

        Raises `LostLease`, `ProgramFailed`.
        """
        await self.programs_of(name).end(fence)


def is_own(name: str) -> bool:
    """Says whether a slot of that name is one of the service's own."""
    return _NAME.fullmatch(name) is not None


def role_of(name: str) -> Role:
    """Returns the role of an own slot by its name."""
    return Role(name.rpartition("-")[0])
