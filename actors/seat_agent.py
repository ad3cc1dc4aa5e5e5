"""Takes the turns of one hosted seat on a leased slot, for as long as there are any."""

import asyncio
import secrets as randomness
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from actors.escrow import Accepted, LostLease
from actors.identity import Identity
from actors.ports import DaemonDown, WalletRefused, WalletUnknown
from actors.priming import new_wallet_name, new_wallet_password
from actors.runtime import AsyncioRef
from actors.sealed import WalletSecrets
from actors.seat import OpenWallet, OtherWallet, Seat, TurnBroken
from actors.setup_turns import open_for_setup, take_setup_turn
from actors.signing_turns import take_signing_turn
from actors.slot_messages import GiveBack, TakeSlot
from actors.slots import LeasedSlot
from domain import commands as c
from domain.ids import Address, WalletId
from domain.states import Escrow, SettingUp, money_of
from domain.steps import Step
from domain.turns import Turn, turn_of, wanted_since
from eventstore.api import OutcomeUnknown

log = structlog.get_logger(__name__)

StepObserver = Callable[["StepTimes"], None]
"""Told of each step of a wallet that was taken, or came to nothing."""


class StepTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long one step of a seat's wallet took, in seconds."""

    step: Step
    waited_s: float
    """For the slot; 0 from the second step on that one."""
    called_s: float
    """In the wallet's calls."""
    took_s: float
    """From the slot being there to the outcome in the log."""


@dataclass(frozen=True, kw_only=True)
class AgentLimits:
    """Bounds of an agent, in seconds."""

    slot_wait_s: float = 3_600
    slot_idle_s: float = 15
    """How long a slot is kept, its wallet open, while others are awaited."""
    look_s: float = 0.5
    """How soon it is seen that a seat on another node has moved."""
    ask_s: float = 30


class SeatAgent:
    """One seat's hands: leases a slot, opens the wallet, takes turn after turn, closes and gives back.

    Its progress is only what stands in the log, so it may die at any point.
    """

    def __init__(
        self,
        seat: Seat,
        supervisor: AsyncioRef,
        *,
        limits: AgentLimits | None = None,
        observe: StepObserver | None = None,
    ) -> None:
        self._seat, self._supervisor, self._limits = seat, supervisor, limits or AgentLimits()
        self._observe = observe
        self._changed = asyncio.Event()
        self._wallet: OpenWallet | None = None
        self._in_doubt = False
        """Whether the slot may hold an open wallet: then the supervisor cleans it before anybody else gets it."""

    def notify(self) -> None:
        """Says that the escrow has moved."""
        self._changed.set()

    async def run(self) -> None:
        """Takes turns until none came for a while; raises `TurnBroken` when one could not be taken."""
        leased, other = await self._lease(), False
        try:
            await self._take_turns(leased)
        except OtherWallet:
            other = True
            raise
        finally:
            # In doubt the wallet may be open there still: until the slot is cleaned its lease names this seat, which
            # gets no other slot on any node. Opened in two it would be two wallets of one file.
            self._supervisor.tell(GiveBack(leased=leased, clean=not self._in_doubt, other_wallet=other))

    async def _lease(self) -> LeasedSlot:
        granted: asyncio.Future[LeasedSlot] = asyncio.get_running_loop().create_future()
        try:
            wish = TakeSlot(
                seat=self._seat.fence.seat,
                granted=granted,
                came=wanted_since(await self._seat.state(), self._seat.role),
            )
            await self._supervisor.ask(wish, timeout_s=self._limits.ask_s)
            async with asyncio.timeout(self._limits.slot_wait_s):
                return await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                # Granted in the same moment in which we gave up: nobody else would ever give it back.
                self._supervisor.tell(GiveBack(leased=granted.result(), clean=True))
            granted.cancel()
            raise

    async def _take_turns(self, leased: LeasedSlot) -> None:
        try:
            while turn := await self._next_turn():
                await self._take_timed(leased, turn)
        except (WalletRefused, TurnBroken, DaemonDown):
            await self._close()
            raise
        await self._close()

    async def _next_turn(self) -> Turn | None:
        """Waits a little for the seat's next turn, so that the wallet stays open from round to round."""
        deadline = asyncio.get_running_loop().time() + self._limits.slot_idle_s
        while True:
            self._changed.clear()
            state = await self._seat.state()
            turn = turn_of(state, self._seat.role)
            left = deadline - asyncio.get_running_loop().time()
            if turn is not None or left <= 0 or not isinstance(state, SettingUp):
                return turn
            try:
                async with asyncio.timeout(min(left, self._limits.look_s)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _take_timed(self, leased: LeasedSlot, turn: Turn) -> None:
        clock, done = asyncio.get_running_loop().time, False
        began, called_s, waited_s = clock(), leased.rpc.called_s, leased.waited_s
        try:
            await self._take(leased, turn)
            done = True
        finally:
            leased.waited_s = 0.0
            times = StepTimes(
                step=turn.step, waited_s=waited_s, called_s=leased.rpc.called_s - called_s, took_s=clock() - began
            )
            if self._observe is not None:
                self._observe(times)
            self._tell_times(leased, times, done=done)

    def _tell_times(self, leased: LeasedSlot, times: StepTimes, *, done: bool) -> None:
        log.info(
            "wallet_step",
            escrow=self._seat.escrow_id,
            seat=self._seat.role.value,
            slot=leased.slot.name,
            step=times.step.value,
            done=done,
            waited_s=round(times.waited_s, 3),
            called_s=round(times.called_s, 3),
            took_s=round(times.took_s, 3),
        )

    async def _take(self, leased: LeasedSlot, turn: Turn) -> None:
        state = await self._seat.state()
        if turn.step is Step.CLAIM_WALLET:
            await self._claim(leased)
            return
        try:
            wallet = await self._opened(leased, state, turn)
            if isinstance(state, SettingUp):
                await take_setup_turn(self._seat, wallet, state, turn)
            else:
                await take_signing_turn(self._seat, wallet, state, turn)
        except TurnBroken as broken:
            await self._report(turn, broken.reason)
            raise
        except WalletRefused as refused:
            await self._report(turn, refused.fault, call=refused.method)
            raise

    async def _claim(self, leased: LeasedSlot) -> None:
        """Gives the seat the fresh wallet that is open in its slot, or the name and password of one to be made.

        The log has them, and an identity key, before anything is done with the wallet.
        """
        primed, leased.primed = leased.primed, None
        if primed is not None:
            self._in_doubt = True
            if not await primed.claim(self._seat.fence.seat):
                raise TurnBroken("wallet_taken")
        name, seed = primed.row.name if primed else new_wallet_name(), randomness.token_bytes(32)
        password = primed.password if primed else new_wallet_password()
        made = WalletSecrets(file=name, password=password, identity_seed=seed.hex())
        mine = await self._seat.register.assign(
            WalletId(name), escrow_id=self._seat.escrow_id, role=self._seat.role, at=self._seat.now()
        )
        if not mine:
            raise TurnBroken("wallet_taken")
        command = c.ClaimWallet(
            at=self._seat.now(),
            role=self._seat.role,
            wallet_id=WalletId(name),
            identity_key=Identity(seed).public,
            secrets=await self._seat.secrets.seal_wallet(self._seat.role, made),
        )
        answer = await self._seat.give(command, name)
        if not isinstance(answer, Accepted):
            raise TurnBroken(answer.code)
        if primed is not None:
            shown = Address(primed.row.address) if primed.row.address else None
            self._wallet = OpenWallet(rpc=leased.rpc, files=leased.files, secrets=made, address=shown)

    async def _opened(self, leased: LeasedSlot, state: Escrow, turn: Turn) -> OpenWallet:
        if self._wallet is None:
            self._in_doubt = True
            if leased.primed is not None:
                leased.primed = None
                await leased.rpc.close_wallet()
            own = await self._seat.secrets.wallet(state, self._seat.role)
            wallet = OpenWallet(rpc=leased.rpc, files=leased.files, secrets=own)
            with wallet.files.alone(wallet.file):
                pass  # whoever had the wallet before and was stopped while it put files back has put them back whole
            if isinstance(state, SettingUp):
                await open_for_setup(self._seat, wallet, state, turn)
            else:
                await wallet.rpc.open_wallet(wallet.file, password=own.password)
                money = money_of(state)
                wallet.address = money.address if money else None
            await wallet.still_ours()
            self._wallet = wallet
        return self._wallet

    async def _close(self) -> None:
        if self._wallet is not None:
            await self._wallet.rpc.store()
            await self._wallet.rpc.close_wallet()
            self._wallet, self._in_doubt = None, False

    async def _report(self, turn: Turn, reason: str, *, call: str | None = None) -> None:
        command = c.FailTurn(
            at=self._seat.now(), role=self._seat.role, step=turn.step, turn_id=turn.turn_id, call=call, reason=reason
        )
        await self._seat.give(command, turn.turn_id, call or "", reason, self._seat.now())


EXPECTED = (TurnBroken, OtherWallet, WalletUnknown, WalletRefused, DaemonDown, LostLease, OutcomeUnknown, TimeoutError)
"""Ordinary reasons for an agent to end before its turn is taken: it is sent again."""
