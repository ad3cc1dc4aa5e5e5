"""A service process's end of `tests.chaos.wire`: the slots, the daemon and the watch, reached over HTTP."""

import http.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from actors.daemon_rpc import HttpDaemon
from actors.jsonrpc import JsonRpc, NoAnswer
from actors.ports import DaemonDown, WatchTarget
from actors.slots import Slot
from actors.wallet_rpc import HttpWallet
from domain.chain import ChainView
from domain.ids import Address, EscrowId
from domain.roles import THREE, Role

LIMIT_S = 10.0


@dataclass(frozen=True)
class RemoteFiles:
    """The folder of a slot; implements `WalletFiles`. It blocks, as a disk does."""

    url: str
    role: Role

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

    def drop_cache(self, name: str) -> None:
        self._ask("drop_cache", name=name)

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

    async def restart(self) -> None:
        await self.rpc.post(f"/slot/{self.role.value}/restart", {}, answer=dict[str, Any], limit_s=LIMIT_S)


class RemoteWorld:
    """Everything a node needs of the outside, and what the people do there."""

    def __init__(self, url: str) -> None:
        self._rpc = JsonRpc(url)
        self.daemon = HttpDaemon(url)
        self.slots = [
            Slot(
                name=f"{role.value}-0",
                role=role,
                rpc=HttpWallet(f"{url}/slot/{role.value}"),
                files=RemoteFiles(url, role),
                host=RemoteHost(self._rpc, role),
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
        for slot in self.slots:
            await slot.rpc.aclose()
        await self.daemon.aclose()
        await self._rpc.aclose()
