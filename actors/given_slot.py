"""A slot whose process is not ours: it cannot be ended, so its last holder is waited out and its wallet closed."""

import asyncio
import ipaddress
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog

from actors.ailments import Ailment, SlotUnusable, ailment_of
from actors.escrow import LostLease
from actors.jsonrpc import Access
from actors.ports import WalletFault, WalletFiles, WalletRefused, WalletRpc, WalletUnknown
from actors.wallet_rpc import LIMITS_S, HttpWallet, Observer

_T = TypeVar("_T")

log = structlog.get_logger(__name__)

REFUSED_AGAIN_S = 1.0
"""Between two looks whether nobody listens: a process that is started again listens within seconds."""
PROBE_S = 5.0
_CHANGES_NOTHING = frozenset({"get_version", "get_address"})
_NEVER_BEGUN = frozenset({Ailment.REFUSED, Ailment.UNAUTHORISED, Ailment.OTHER_CERTIFICATE})


class GivenHost:
    """Reaches a process that somebody else runs; implements `SlotHost`.

    A wallet process knows no fences. So a slot that was not given back is used again only when no call of its last
    holder can be under way, and then only once it has answered that its wallet is saved and closed. Of holders in this
    process it is known which calls were not answered; of any other holder the longest possible call is waited out.
    """

    def __init__(
        self,
        url: str,
        *,
        access: Access,
        files: WalletFiles,
        call_max_s: float = max(LIMITS_S.values()),
        observer: Observer | None = None,
    ) -> None:
        self.url, self.access = url, access
        self._files, self._call_max_s, self._observer = files, call_max_s, observer
        self._fence: int | None = None
        self._last_access = access
        """What the last holder was let in with."""
        self._rests_until = -math.inf
        """Until then a holder outside this process may have a call under way, by the event loop's clock."""
        self._calls: dict[object, float] = {}
        """When each call of this process began that was not answered."""
        self._wallet: str | None = None
        """What was opened here last and not closed."""
        self._lock_seen = False
        """Whether the lock of a wallet that was open here was ever seen from this side."""

    async def reach(self, *, fence: int, clean: bool, before_call: Callable[[], None]) -> HttpWallet:
        """Returns a client of the process; raises `SlotUnusable` while its last holder may not be over."""
        self._count(fence, clean=clean)
        if not clean and await self._gone():
            self._forget()
            raise SlotUnusable(Ailment.REFUSED, ended=True)
        await self._let_rest()
        client = self._client(before_call)
        if not clean:
            await self._close(client)
        return client

    async def make_wallet(self, rpc: WalletRpc, name: str, *, password: str, wanted: asyncio.Event) -> None:
        """Has the process itself make a wallet: no program of ours runs beside it, so it cannot give way."""
        await rpc.create_wallet(name, password=password)

    def shows(self, name: str) -> None:
        """Notes a wallet that another holder opened here, so that its lock tells when the process is gone."""
        with self.opening(name):
            pass

    def silent(self) -> bool:
        """Nothing is known of somebody else's process until it is asked."""
        return False

    # -- the last holder -----------------------------------------------------------------------------------------

    def _count(self, fence: int, *, clean: bool) -> None:
        """Notes whose lease this is: with every fence seen since the last, nobody else had the slot between."""
        ours = self._fence is not None and fence - self._fence <= 1
        self._fence = fence
        if not ours:
            self._wallet = None  # what the others opened is not known; what we left open, primed, still is
        if clean:
            self._rests_until = -math.inf
        elif not ours:
            self._rests_until = asyncio.get_running_loop().time() + self._call_max_s

    async def _let_rest(self) -> None:
        """Raises `SlotUnusable` while a call of an earlier holder may be under way."""
        now = asyncio.get_running_loop().time()
        until = max((self._rests_until, *(began + self._call_max_s for began in self._calls.values())))
        if now >= until:
            self._calls.clear()
        elif await self._login_changed():
            self._forget()
        else:
            raise SlotUnusable(Ailment.RESTING)

    async def _login_changed(self) -> bool:
        """Whether the process turns the last holder's login away: then it was started anew, and they are out of it."""
        old = self._last_access
        if old.user is None or (old.user, old.password) == (self.access.user, self.access.password):
            return False
        client = HttpWallet(self.url, access=lambda: old, limits_s={"get_version": PROBE_S})
        try:
            await client.get_version()
        except WalletUnknown as unknown:
            return ailment_of(unknown) is Ailment.UNAUTHORISED
        except WalletRefused:
            pass
        finally:
            await client.aclose()
        return False

    async def _gone(self) -> bool:
        """Whether the process is known to be over: nobody listens, and the lock it was seen to hold is free.

        Neither is enough alone. A process that ends listens no more while it still saves; a lock that is free may only
        be one that cannot be seen from here, unless it has been seen.
        """
        if self._wallet is None or not self._lock_seen or not is_loopback(self.url):
            return False
        if not await _refused(self.url):
            return False
        await asyncio.sleep(REFUSED_AGAIN_S)
        return await _refused(self.url) and not self._files.in_use(self._wallet)

    async def _close(self, client: HttpWallet) -> None:
        try:
            # Asked first whether it answers at all: a call to close that is answered minutes later closes another's.
            async with asyncio.timeout(PROBE_S):
                await client.get_version()
            await client.close_wallet()
        except BaseException as failed:
            if isinstance(failed, WalletRefused) and failed.fault is WalletFault.NO_WALLET_OPEN:
                return
            await client.aclose()
            raise _unusable(failed) from None

    def _forget(self) -> None:
        self._calls.clear()
        self._rests_until, self._wallet = -math.inf, None

    # -- its clients ---------------------------------------------------------------------------------------------

    def _client(self, before_call: Callable[[], None]) -> "GivenWallet":
        return GivenWallet(self, call_max_s=self._call_max_s, before_call=before_call, observer=self._observer)

    def let_in(self) -> Access:
        """Returns what a client is let in with now, and remembers it."""
        self._last_access = self.access
        return self.access

    @contextmanager
    def calling(self, method: str) -> Iterator[None]:
        """Counts a call as under way until it is known that it is not."""
        call = object()
        if method not in _CHANGES_NOTHING:
            self._calls[call] = asyncio.get_running_loop().time()
        try:
            yield
        except WalletUnknown as unknown:
            if ailment_of(unknown) in _NEVER_BEGUN:
                self._calls.pop(call, None)
            raise
        except (WalletRefused, LostLease):  # answered, or never sent
            self._calls.pop(call, None)
            raise
        else:
            self._calls.pop(call, None)

    @contextmanager
    def opening(self, name: str) -> Iterator[None]:
        """Notes which wallet is open here, and whether its lock can be seen."""
        self._wallet = name
        yield
        if self._files.in_use(name):
            self._lock_seen = True
        else:
            self._lock_seen = False
            # Not the folder of that process, or one whose locks do not reach this machine.
            log.warning("wallet_lock_not_seen", in_folder=self._files.exists(name))

    def closed(self) -> None:
        """Notes that no wallet is open here."""
        self._wallet = None


class GivenWallet(HttpWallet):
    """A client of a process that is not ours: its host knows which calls got no answer."""

    def __init__(
        self, host: GivenHost, *, call_max_s: float, before_call: Callable[[], None], observer: Observer | None
    ) -> None:
        def access() -> Access:
            before_call()  # who lost the lease is not let in again with a newer login
            return host.let_in()

        super().__init__(
            host.url,
            access=access,
            limits_s=_at_most(call_max_s),
            before_call=before_call,
            observer=observer,
        )
        self._host = host

    async def create_wallet(self, name: str, *, password: str) -> None:
        with self._host.opening(name):
            await self.auto_refresh(enable=False)  # it would hold the process's only thread every 20 s
            await super().create_wallet(name, password=password)

    async def open_wallet(self, name: str, *, password: str) -> None:
        with self._host.opening(name):
            await self.auto_refresh(enable=False)
            await super().open_wallet(name, password=password)

    async def close_wallet(self) -> None:
        await super().close_wallet()
        self._host.closed()

    async def _call(self, method: str, params: Mapping[str, Any], answer: type[_T]) -> _T:
        with self._host.calling(method):
            return await super()._call(method, params, answer)


def _unusable(failed: BaseException) -> BaseException:
    match failed:
        case WalletUnknown():
            return SlotUnusable(ailment_of(failed))
        case WalletRefused():
            return SlotUnusable(Ailment.GARBAGE)
        case TimeoutError():
            return SlotUnusable(Ailment.SILENT)
        case _:
            return failed


def is_loopback(url: str) -> bool:
    """Says whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _at_most(call_max_s: float) -> dict[str, float]:
    return {method: min(limit_s, call_max_s) for method, limit_s in LIMITS_S.items()}


async def _refused(url: str) -> bool:
    """Says whether nobody listens at an address."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(PROBE_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
