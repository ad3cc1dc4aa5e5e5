"""Brings a leased slot to the point where it can be used, or says what is wrong with it."""

import asyncio

import structlog

from actors.ailments import Ailment, SlotUnusable, ailment_of
from actors.ports import WalletFault, WalletRefused, WalletRpc, WalletUnknown
from actors.slots import Hold, Slot

log = structlog.get_logger(__name__)


class SlotCheck:
    """Looks at slots: an answer within `check_s` seconds makes one usable.

    Who has time waits `patience_s` for it, to tell a slow one from a silent one.
    """

    def __init__(self, *, check_s: float, patience_s: float) -> None:
        self._check_s, self._patience_s = check_s, patience_s

    async def usable(self, slot: Slot, hold: Hold, *, clean: bool, patient: bool) -> WalletRpc:
        """Returns a client of a process that answers; raises `SlotUnusable`.

        A clean one that does not answer is ended and started anew only by who is patient: somebody who waits for a
        slot has better use for the time.
        """
        as_it_is = clean and not (patient and slot.host.silent())
        rpc = await slot.host.reach(fence=hold.lease.fence, clean=as_it_is, before_call=hold.check)
        try:
            return await self._answering(slot, rpc, patient=patient)
        except SlotUnusable:
            if not (as_it_is and patient) or slot.given:
                raise
        rpc = await slot.host.reach(fence=hold.lease.fence, clean=False, before_call=hold.check)
        return await self._answering(slot, rpc, patient=patient)

    async def revive(self, slot: Slot, hold: Hold) -> None:
        """Ends a process that answers nothing, so that the call it holds up comes to an end; its user gives it back."""
        try:
            rpc = await slot.host.reach(fence=hold.lease.fence, clean=False, before_call=hold.check)
            await rpc.aclose()
        except Exception as broken:
            log.warning("slot_not_revived", slot=slot.name, error=type(broken).__name__)

    async def _answering(self, slot: Slot, rpc: WalletRpc, *, patient: bool) -> WalletRpc:
        loop = asyncio.get_running_loop()
        since = loop.time()
        try:
            async with asyncio.timeout(self._patience_s if patient else self._check_s):
                await _asked(rpc, given=slot.given)
            if loop.time() - since > self._check_s:
                raise SlotUnusable(Ailment.SLOW)
        except TimeoutError:
            await rpc.aclose()
            raise SlotUnusable(Ailment.SILENT) from None
        except BaseException:
            await rpc.aclose()
            raise
        return rpc


async def _asked(rpc: WalletRpc, *, given: bool) -> None:
    try:
        await rpc.get_version()
        if given:
            await _nothing_open(rpc)
    except WalletUnknown as unknown:
        raise SlotUnusable(ailment_of(unknown)) from None
    except WalletRefused:
        raise SlotUnusable(Ailment.GARBAGE) from None


async def _nothing_open(rpc: WalletRpc) -> None:
    """Raises `SlotUnusable` when a wallet is open: somebody else uses this process as well."""
    try:
        await rpc.get_address()
    except WalletRefused as refused:
        if refused.fault is WalletFault.NO_WALLET_OPEN:
            return
        raise
    raise SlotUnusable(Ailment.OTHER_WALLET)
