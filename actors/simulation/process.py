"""One simulated `monero-wallet-rpc` process: one wallet open at most, files in a shared folder, an end."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from actors.ports import WalletUnknown
from actors.simulation.chain import SimChain
from actors.simulation.files import CacheFile, KeysFile, SimFolder, Stage
from actors.simulation.open_wallet import OpenWallet, refuse

NEVER = 10**7
"""The restore height of a wallet made without a daemon: taken from the date, far above a private chain (recorded)."""


class Killed(Exception):
    """The process died in the middle of a call."""


class Run:
    """One run of the process, from its start to its end: the lease it was started under, and the calls in it."""

    def __init__(self, *, fence: int = 0) -> None:
        self.fence, self.over = fence, False
        self.one_call, self.going = asyncio.Lock(), asyncio.Event()
        self.going.set()
        self._pauses: set[asyncio.Future[Any]] = set()

    async def pause(self, pause: Awaitable[Any]) -> None:
        """Waits for something, or for the end of this run."""
        waited_for = asyncio.ensure_future(pause)
        self._pauses.add(waited_for)
        try:
            await asyncio.wait({waited_for})
        finally:
            self._pauses.discard(waited_for)
            waited_for.cancel()

    def check(self, method: str) -> None:
        """Raises `WalletUnknown` when the process has ended: the connection of a call in it is lost."""
        if self.over:
            raise WalletUnknown(method=method, reason="connection lost")

    def end(self) -> None:
        """Ends it and cuts every call in it."""
        self.over = True
        self.going.set()
        for pause in self._pauses:
            pause.cancel()


class WalletProcess:
    """What outlives a call: the open wallet. What outlives the process: the folder."""

    def __init__(self, *, chain: SimChain, folder: SimFolder) -> None:
        self.chain, self.folder, self.run = chain, folder, Run()
        self.die_between_files = False
        self._open: OpenWallet | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return not self.run.over

    @property
    def opened(self) -> str | None:
        """The name of the open wallet."""
        return self._open.name if self._open else None

    def create(self, name: str, *, password: str) -> None:
        """Makes a wallet and opens it in place of the one that was open, which is stored."""
        if "/" in name:
            raise refuse("create_wallet", code=-1, message="Invalid filename")
        if name in self.folder.keys or name in self.folder.caches:
            raise refuse("create_wallet", code=-21, message="Cannot create wallet. Already exists.")
        restore_height = self.chain.height if self.chain.online else NEVER
        keys = KeysFile(seed=self.chain.fresh("seed"), password=password, restore_height=restore_height)
        self.folder.keys[name] = keys
        self._replace(name, keys=keys, cache=CacheFile(password=password, stage=Stage.ORDINARY))
        self.need("create_wallet").write_cache()

    def open(self, name: str, *, password: str) -> None:
        """Opens a wallet; one refusal for everything, and the wallet that was open stays open then."""
        keys = self.folder.keys.get(name)
        if keys is None or keys.password != password or not self.folder.lock(name, holder=self):
            if self.opened == name:  # reading the keys file and closing it again gives the lock up
                self.folder.unlock(self)
            raise refuse("open_wallet", code=-1, message="Failed to open wallet")
        if self.opened == name:
            self.need("open_wallet").write_cache()
        cache = self.folder.caches.get(name, CacheFile(password=password, stage=keys.stage))
        if cache.password != password or cache.stage is not keys.stage:
            if self.opened != name:
                self.folder.replaced(name)
            raise refuse("open_wallet", code=-1, message="Failed to open wallet")
        self._replace(name, keys=self.folder.keys[name], cache=cache)

    def close(self) -> None:
        """Stores and closes."""
        self.need("close_wallet").write_cache()
        self._open = None
        self.folder.unlock(self)

    def need(self, method: str) -> OpenWallet:
        """Returns the open wallet; refuses with -13 when there is none."""
        if self._open is None:
            raise refuse(method, code=-13, message="No wallet file")
        return self._open

    def between_files(self) -> None:
        """The moment between writing `.keys` and the cache, in which a process may die."""
        if self.die_between_files:
            raise Killed

    def kill(self) -> None:
        """Ends the process at once: what was not stored is lost, the lock is gone."""
        self.run.end()
        self.die_between_files, self._open = False, None
        self.folder.unlock(self)

    def terminate(self) -> None:
        """Ends the process as SIGTERM does: the open wallet is saved."""
        if self._open is not None:
            self._open.write_cache()
        self.kill()

    def restart(self, *, fence: int = 0) -> None:
        """Starts it again under a lease, with no wallet open."""
        self.kill()
        self.run = Run(fence=fence)

    def _replace(self, name: str, *, keys: KeysFile, cache: CacheFile) -> None:
        if self._open is not None and self._open.name != name:
            self._open.write_cache()
        self.folder.unlock(self)
        self.folder.lock(name, holder=self)
        self._open = OpenWallet(name, keys=keys, cache=cache, chain=self.chain, folder=self.folder)
