"""Brings a leased slot to the point where it can be used, or says what is wrong with it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog

from actors.ailments import Ailment, SlotUnusable, ailment_of
from actors.ports import WalletFault, WalletRefused, WalletRpc, WalletUnknown
from actors.priming import Primer
from actors.slots import Hold, PrimedWallet, Slot
from domain.ids import Address

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class SlotCheck:
    """Looks at slots: an answer within `check_s` seconds makes one usable.

    Who has time waits `patience_s` for it, to tell a slow one from a silent one.
    """

    def __init__(self, primer: Primer | None, *, check_s: float, patience_s: float) -> None:
        self._primer, self._check_s, self._patience_s = primer, check_s, patience_s
        self._clients = set[WalletRpc]()
        """Made and not closed yet, wherever they are: a cancelled task or mail that nobody reads any more has some."""

    async def close(self, rpc: WalletRpc) -> None:
        """Closes a client; the process and its wallet stay as they are."""
        await rpc.aclose()
        self._clients.discard(rpc)

    async def close_all(self) -> None:
        """Closes every client there is still."""
        for rpc in tuple(self._clients):
            await self.close(rpc)

    async def usable(
        self, slot: Slot, hold: Hold, *, clean: bool, patient: bool
    ) -> tuple[WalletRpc, PrimedWallet | None]:
        """Returns a client of a process that answers, and the primed wallet that is open there.

        No other wallet may be. Raises `SlotUnusable`.

        A clean one that does not answer, or shows another wallet, is ended and started anew only by who is patient:
        somebody who waits for a slot has better use for the time.
        """
        as_it_is = clean and not (patient and slot.host.silent())
        rpc = await self._reached(slot, hold, clean=as_it_is)
        try:
            return await self._answering(slot, rpc, patient=patient)
        except SlotUnusable as unusable:
            # One that is only slow has too little of the machine: a start costs more of it.
            if not (as_it_is and patient) or slot.given or unusable.ailment is Ailment.SLOW:
                raise
        rpc = await self._reached(slot, hold, clean=False)
        return await self._answering(slot, rpc, patient=patient)

    async def primed(self, slot: Slot, hold: Hold, rpc: WalletRpc, *, wanted: asyncio.Event) -> PrimedWallet | None:
        """Primes a slot that was found usable; where that fails its client, which nobody gets then, is closed."""
        assert self._primer is not None
        try:
            return await self._primer.prime(slot, hold, rpc, wanted=wanted)
        except BaseException:
            await self.close(rpc)
            raise

    async def revive(self, slot: Slot, hold: Hold) -> None:
        """Ends a process that answers nothing, so that the call it holds up comes to an end; its user gives it back."""
        try:
            await self.close(await self._reached(slot, hold, clean=False))
        except Exception as broken:
            log.warning("slot_not_revived", slot=slot.name, error=type(broken).__name__)

    async def _reached(self, slot: Slot, hold: Hold, *, clean: bool) -> WalletRpc:
        rpc = await slot.host.reach(fence=hold.lease.fence, clean=clean, before_call=hold.check)
        self._clients.add(rpc)
        return rpc

    async def _answering(self, slot: Slot, rpc: WalletRpc, *, patient: bool) -> tuple[WalletRpc, PrimedWallet | None]:
        try:
            await self._answer(rpc.get_version(), patient=patient)
            address = await self._answer(_open_address(rpc), patient=patient)
            return rpc, await self._known(slot, address) if address else None
        except BaseException:
            await self.close(rpc)
            raise

    async def _answer(self, call: Awaitable[_T], *, patient: bool) -> _T:
        """Awaits one answer; raises `SlotUnusable` for anything that is none in time."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            async with asyncio.timeout(self._patience_s if patient else self._check_s):
                answer = await call
        except TimeoutError:
            raise SlotUnusable(Ailment.SILENT) from None
        except WalletUnknown as unknown:
            raise SlotUnusable(ailment_of(unknown)) from None
        except WalletRefused:
            raise SlotUnusable(Ailment.GARBAGE) from None
        if loop.time() - since > self._check_s:
            raise SlotUnusable(Ailment.SLOW)
        return answer

    async def _known(self, slot: Slot, address: Address) -> PrimedWallet:
        primed = await self._primer.known(slot, address) if self._primer else None
        if primed is None:
            raise SlotUnusable(Ailment.OTHER_WALLET)
        slot.host.shows(primed.row.name)
        return primed


async def _open_address(rpc: WalletRpc) -> Address | None:
    """Returns the address of the wallet that is open, None when none is."""
    try:
        return await rpc.get_address()
    except WalletRefused as refused:
        if refused.fault is WalletFault.NO_WALLET_OPEN:
            return None
        raise
