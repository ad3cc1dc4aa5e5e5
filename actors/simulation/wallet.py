"""The simulated wallet as its callers see it: the port's calls, one after another, with faults on order."""

import asyncio
import contextlib
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from actors.ports import (
    Destination,
    KexResult,
    MultisigStatus,
    SignedTx,
    TxDescription,
    TxProposal,
    WalletOutput,
    WalletRefused,
    WalletUnknown,
)
from actors.simulation import rounds, spending
from actors.simulation.chain import SimChain
from actors.simulation.faults import Fault, Faults, PlannedFault
from actors.simulation.files import SimFolder, Stage
from actors.simulation.process import Killed, Run, WalletProcess
from actors.wallet_rpc import LIMITS_S, OTHERS_LIMIT_S
from domain.ids import Address, KeyImage, TxHash

_T = TypeVar("_T")

VERSION = 65561
"""1.25, what 0.18.0.0 says (recorded)."""

CALL_TASK = "simulated wallet call"
"""The name of tasks in which processes carry out calls: they are no part of the program that called."""

_KILLED = frozenset({Fault.KILLED_BEFORE, Fault.KILLED_HALFWAY, Fault.KILLED_AFTER})


class SimWallet:
    """One simulated wallet process; implements `WalletRpc`. Several share a `SimFolder` as processes share a disk.

    `faults` holds what the next calls are to suffer; `sleep` is what a late answer waits with (a virtual clock's, in
    simulations). `kill`, `terminate`, `stop`, `go_on` and `restart` are what the outside does to a process.
    """

    def __init__(
        self,
        *,
        chain: SimChain,
        folder: SimFolder,
        faults: Faults | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.faults = faults or Faults()
        self._chain, self._sleep = chain, sleep
        self._process = WalletProcess(chain=chain, folder=folder)
        self.called_s = 0.0
        self._login: Run | None = None
        """The run of the process whose login this is a client with; None is a client of whatever runs."""
        self._before_call: Callable[[], None] = lambda: None

    def client(self, before_call: Callable[[], None]) -> "SimWallet":
        """Returns a client of the process as it runs now, which calls `before_call` before each call.

        Another run of the process does not know its login. A call goes on in the process when its caller has given it
        up, been cancelled or died, and is given up when it takes longer than a real one may.
        """
        client = copy.copy(self)
        client._login, client._before_call, client.called_s = self._process.run, before_call, 0.0
        return client

    @property
    def fence(self) -> int:
        """The lease under which the process was started."""
        return self._process.run.fence

    @property
    def stopped(self) -> bool:
        """Whether the process was stopped by a signal."""
        return not self._process.run.going.is_set()

    @property
    def opened(self) -> str | None:
        """The name of the open wallet, for tests."""
        return self._process.opened

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.running

    def kill(self) -> None:
        """Ends the process at once, losing what was not stored."""
        self._process.kill()

    def terminate(self) -> None:
        """Ends the process politely: the open wallet is saved."""
        self._process.terminate()

    def stop(self) -> None:
        """Stops the process as SIGSTOP does: it takes calls and does nothing until `go_on`."""
        self._process.run.going.clear()

    def go_on(self) -> None:
        """Lets a stopped process go on, with the calls that wait in it."""
        self._process.run.going.set()

    def restart(self, *, fence: int = 0) -> None:
        """Starts the process again under a lease, with no wallet open and a login of its own."""
        self._process.restart(fence=fence)

    async def get_version(self) -> int:
        return await self._answer("get_version", lambda: VERSION)

    async def auto_refresh(self, *, enable: bool) -> None:
        # A simulated wallet reads the chain only when told to, as ours are made to.
        await self._answer("auto_refresh", lambda: None)

    async def create_wallet(self, name: str, *, password: str) -> None:
        await self._answer("create_wallet", lambda: self._process.create(name, password=password))

    async def open_wallet(self, name: str, *, password: str) -> None:
        await self._answer("open_wallet", lambda: self._process.open(name, password=password))

    async def close_wallet(self) -> None:
        await self._answer("close_wallet", self._process.close)

    async def store(self) -> None:
        await self._answer("store", lambda: self._process.need("store").write_cache())

    async def prepare_multisig(self) -> str:
        method = "prepare_multisig"
        return await self._answer(method, lambda: rounds.prepare(self._process.need(method), chain=self._chain))

    async def make_multisig(self, infos: Sequence[str], *, password: str) -> str:
        def make() -> str:
            wallet, between = self._process.need("make_multisig"), self._process.between_files
            return rounds.make(wallet, infos, password=password, chain=self._chain, between=between)

        return await self._answer("make_multisig", make)

    async def exchange_multisig_keys(self, infos: Sequence[str], *, password: str) -> KexResult:
        def exchange() -> KexResult:
            wallet, between = self._process.need("exchange_multisig_keys"), self._process.between_files
            return rounds.exchange(wallet, infos, password=password, chain=self._chain, between=between)

        return await self._answer("exchange_multisig_keys", exchange)

    async def is_multisig(self) -> MultisigStatus:
        return await self._answer("is_multisig", lambda: _status(self._process.need("is_multisig").keys.stage))

    async def get_address(self) -> Address:
        return await self._answer("get_address", lambda: rounds.shown_address(self._process.need("get_address")))

    async def view_key(self) -> str:
        return await self._answer("query_key", lambda: self._process.need("query_key").identity.view_key)

    async def refresh(self) -> int:
        return await self._answer("refresh", lambda: self._process.need("refresh").refresh())

    async def get_height(self) -> int:
        return await self._answer("get_height", lambda: self._process.need("get_height").height)

    async def incoming_transfers(self) -> tuple[WalletOutput, ...]:
        return await self._answer("incoming_transfers", lambda: self._process.need("incoming_transfers").listed())

    async def export_multisig_info(self) -> str:
        method = "export_multisig_info"
        return await self._answer(method, lambda: spending.export(self._process.need(method), chain=self._chain))

    async def import_multisig_info(self, infos: Sequence[str]) -> int:
        def import_exports() -> int:
            return spending.import_exports(self._process.need("import_multisig_info"), infos, chain=self._chain)

        return await self._answer("import_multisig_info", import_exports)

    async def freeze(self, image: KeyImage) -> None:
        await self._answer("freeze", lambda: spending.set_frozen(self._process.need("freeze"), image, frozen=True))

    async def thaw(self, image: KeyImage) -> None:
        await self._answer("thaw", lambda: spending.set_frozen(self._process.need("thaw"), image, frozen=False))

    async def transfer(self, destinations: Sequence[Destination]) -> TxProposal:
        def transfer() -> TxProposal:
            made = spending.transfer(self._process.need("transfer"), destinations, chain=self._chain)
            forge = self.faults.forge
            return made if forge is None else replace(made, tx_set=spending.forged(made.tx_set, forge))

        return await self._answer("transfer", transfer)

    async def describe_transfer(self, tx_set: str) -> tuple[TxDescription, ...]:
        method = "describe_transfer"
        return await self._answer(method, lambda: spending.describe(self._process.need(method), tx_set))

    async def sign_multisig(self, tx_set: str) -> SignedTx:
        method = "sign_multisig"
        return await self._answer(method, lambda: spending.sign(self._process.need(method), tx_set, chain=self._chain))

    async def submit_multisig(self, tx_hex: str) -> tuple[TxHash, ...]:
        method = "submit_multisig"
        return await self._answer(
            method, lambda: spending.submit(self._process.need(method), tx_hex, chain=self._chain)
        )

    async def aclose(self) -> None:
        """Closes nothing: there is no connection."""

    async def _answer(self, method: str, act: Callable[[], _T]) -> _T:
        began = asyncio.get_running_loop().time()
        try:
            return await self._called(method, act)
        finally:
            self.called_s += asyncio.get_running_loop().time() - began

    async def _called(self, method: str, act: Callable[[], _T]) -> _T:
        if self._login is None:
            return await self._carried_out(method, act, self._process.run)
        self._before_call()
        await asyncio.sleep(0)  # on its way: the caller may be stopped here, and go on much later
        run, loop = self._login, asyncio.get_running_loop()
        # Not awaited bare: what the caller suffers is nothing to the process.
        carried_out = loop.create_task(self._carried_out(method, act, run), name=CALL_TASK)
        carried_out.add_done_callback(_nobody_hears)
        try:
            async with asyncio.timeout(LIMITS_S.get(method, OTHERS_LIMIT_S)):
                return await asyncio.shield(carried_out)
        except TimeoutError:
            raise WalletUnknown(method=method, reason="time-out") from None

    async def _carried_out(self, method: str, act: Callable[[], _T], run: Run) -> _T:
        if run.over:
            raise WalletUnknown(method=method, reason="unreachable")
        # A process answers one call after another; a late answer holds up the next call, as a busy wallet does.
        async with run.one_call:
            run.check(method)
            planned = self.faults.take(method)
            if planned is not None and planned.fault is Fault.HUNG:
                self.stop()
            await run.going.wait()
            run.check(method)
            return act() if planned is None else await self._suffer(method, act, planned, run)

    async def _suffer(self, method: str, act: Callable[[], _T], planned: PlannedFault, run: Run) -> _T:
        match planned.fault:
            case Fault.REFUSED:
                raise WalletRefused(method=method, fault=planned.refusal, code=-1, message="ordered")
            case Fault.LATE:
                answer = act()
                await run.pause(self._sleep(planned.seconds))
                run.check(method)
                return answer
            case Fault.HUNG:
                return act()
            case Fault.DOUBLED:
                with contextlib.suppress(WalletRefused):
                    act()
                return act()
            case unanswered:
                self._do_unanswered(act, unanswered)
                raise WalletUnknown(method=method, reason=unanswered)

    def _do_unanswered(self, act: Callable[[], object], fault: Fault) -> None:
        if fault not in (Fault.LOST_BEFORE, Fault.KILLED_BEFORE):
            self._process.die_between_files = fault is Fault.KILLED_HALFWAY
            with contextlib.suppress(Killed, WalletRefused):  # nobody hears of it
                act()
        if fault in _KILLED:
            self.kill()


def _nobody_hears(call: "asyncio.Task[object]") -> None:
    """Takes note of how a call ended whose caller may have given it up."""
    if not call.cancelled():
        call.exception()


def _status(stage: Stage) -> MultisigStatus:
    if stage is Stage.ORDINARY:
        return MultisigStatus(multisig=False, ready=False, threshold=0, total=0)
    return MultisigStatus(multisig=True, ready=stage is Stage.READY, threshold=spending.THRESHOLD, total=rounds.SIGNERS)
