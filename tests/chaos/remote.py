"""A service process's end of `tests.chaos.wire`: the slots, the daemon and the watch, reached over HTTP."""

import asyncio
import base64
import http.client
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from actors.daemon_rpc import HttpDaemon
from actors.jsonrpc import JsonRpc, NoAnswer
from actors.ports import DaemonDown, WalletRpc, WatchTarget
from actors.slots import Slot
from actors.wallet_files import FolderFiles
from actors.wallet_rpc import HttpWallet
from domain.chain import ChainView
from domain.ids import Address, EscrowId
from domain.roles import THREE, Role

LIMIT_S = 60.0


@dataclass(frozen=True)
class RemoteFiles:
    """The folder of a slot; implements `WalletFiles`. It blocks, as a disk does."""

    url: str
    role: Role
    locks: Path | None = None
    """A folder of locks, for several processes of one machine."""

    def exists(self, name: str) -> bool:
        return bool(self._ask("exists", name=name))

    def save(self, name: str, *, label: str) -> None:
        self._ask("save", name=name, label=label)

    def saved(self, name: str, *, label: str) -> bool:
        return bool(self._ask("saved", name=name, label=label))

    def restore(self, name: str, *, label: str) -> None:
        self._ask("restore", name=name, label=label)

    def drop_saved(self, name: str) -> None:
        self._ask("drop_saved", name=name)

    def remove(self, name: str) -> None:
        self._ask("remove", name=name)

    def drop_cache(self, name: str) -> None:
        self._ask("drop_cache", name=name)

    def keys(self, name: str) -> bytes:
        return base64.b64decode(self._ask("keys", name=name))

    def in_use(self, name: str) -> bool:
        return bool(self._ask("in_use", name=name))

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Locks a wallet's files as a folder on this machine does."""
        return FolderFiles(self.locks).alone(name) if self.locks else nullcontext()

    def _ask(self, method: str, **named: str) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=LIMIT_S)
        try:
            connection.request("POST", f"/slot/{self.role.value}/files/{method}", body=msgspec.json.encode(named))
            answer = connection.getresponse()
            assert answer.status == http.HTTPStatus.OK, f"{method}: {answer.status}"
            return msgspec.json.decode(answer.read())["answer"]
        finally:
            connection.close()


@dataclass(frozen=True)
class RemoteHost:
    """Whoever runs a slot's process."""

    rpc: JsonRpc
    role: Role

    url: str

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> HttpWallet:
        """Asks for the process's present address, which a process started anew does not share with the one before."""
        path, wish = f"/slot/{self.role.value}/reach", {"fence": fence, "clean": clean}
        turn = (await self.rpc.post(path, wish, answer=dict[str, int], limit_s=LIMIT_S))["turn"]
        return HttpWallet(f"{self.url}/slot/{self.role.value}/{turn}", before_call=before_call)

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        await rpc.create_wallet(name, password=password)

    def shows(self, name: str) -> None:
        """Makes no difference: the process is ended, not waited for."""

    def silent(self) -> bool:
        """A simulated process always answers."""
        return False


class RemoteWorld:
    """Everything a node needs of the outside, and what the people do there."""

    def __init__(self, url: str, *, locks: Path | None = None) -> None:
        self._rpc = JsonRpc(url)
        self.daemon = HttpDaemon(url)
        self.slots = [
            Slot(
                name=f"{role.value}-0",
                role=role,
                files=RemoteFiles(url, role, locks),
                host=RemoteHost(self._rpc, role, url),
            )
            for role in THREE
        ]

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        """Shows the chain; implements `Watch`."""
        try:
            return await self._rpc.post(
                "/watch", {"targets": list(targets)}, answer=dict[EscrowId, ChainView], limit_s=LIMIT_S
            )
        except NoAnswer as silence:
            raise DaemonDown(silence.reason) from None

    async def pay_once(self, address: Address, amount: int) -> None:
        """Pays an address from outside unless that was done before."""
        await self._rpc.post("/pay_once", {"address": address, "amount": amount}, answer=dict, limit_s=LIMIT_S)

    async def mine(self, blocks: int) -> None:
        """Mines blocks."""
        await self._rpc.post("/mine", {"blocks": blocks}, answer=dict, limit_s=LIMIT_S)

    async def aclose(self) -> None:
        """Closes every connection."""
        await self.daemon.aclose()
        await self._rpc.aclose()
