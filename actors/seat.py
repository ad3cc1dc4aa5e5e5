"""What a seat's agent works with: its place in one escrow, and the one way its results reach the log."""

from dataclasses import dataclass

import structlog

from actors.desk import Desk, derived_id
from actors.directory import DirectoryFull
from actors.escrow import Accepted, Answer
from actors.mail import AskTimeout, MailboxFull
from actors.ports import Clock, DaemonRpc, WalletFiles, WalletRefused, WalletRpc, WalletUnknown
from actors.sealed import EscrowSecrets, WalletSecrets
from actors.wallet_register import WalletRegister
from domain import commands as c
from domain.commands import AnyCommand
from domain.ids import Address, EscrowId, Micros
from domain.roles import Role
from domain.states import Escrow
from domain.turns import Turn
from eventstore.api import Fence, LogBusy, LogUnavailable
from schemas.address import Network

log = structlog.get_logger(__name__)

LATER = (LogBusy, LogUnavailable, MailboxFull, DirectoryFull, AskTimeout)
"""Why a result may not have been taken although nothing is wrong with it: it is offered again."""


class TurnBroken(Exception):
    """A turn cannot be taken now; the call had no effect, so it may be taken again. `reason` names why, no secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def seat_name(escrow_id: EscrowId, role: Role) -> str:
    """Names a seat as its leases do."""
    return f"{escrow_id}/{role.value}"


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One seat of one escrow, held by the lease whose fence every result carries."""

    escrow_id: EscrowId
    role: Role
    desk: Desk
    secrets: EscrowSecrets
    daemon: DaemonRpc
    clock: Clock
    register: WalletRegister
    fence: Fence
    network: Network
    retry_s: float = 0.5

    def now(self) -> Micros:
        """The present moment."""
        return Micros(self.clock.now())

    async def state(self) -> Escrow:
        """The escrow as it is now; waits while the log does not answer."""
        while True:
            try:
                state = await self.desk.state(self.escrow_id)
            except LATER as later:
                log.warning("state_waits", escrow=self.escrow_id, seat=self.role, error=type(later).__name__)
                await self.clock.sleep(self.retry_s)
                continue
            assert state is not None
            return state

    async def give(self, command: AnyCommand, *parts: str | int) -> Answer:
        """Brings a result to the escrow, again and again until it is taken or refused.

        `parts` say what makes it the same result. Raises `LostLease`.
        """
        command_id = derived_id(self.escrow_id, self.role, type(command).__name__, *parts)
        while True:
            try:
                answer = await self.desk.handle(
                    self.escrow_id, command, command_id=command_id, actor=f"seat:{self.role}", fence=self.fence
                )
            except LATER as later:
                log.warning("result_waits", escrow=self.escrow_id, seat=self.role, error=type(later).__name__)
                await self.clock.sleep(self.retry_s)
                continue
            if not isinstance(answer, Accepted):
                log.warning("result_refused", escrow=self.escrow_id, seat=self.role, code=answer.code)
            return answer

    async def intend(self, state: Escrow, turn: Turn) -> None:
        """Announces a wallet call that must not be repeated blind, unless that stands in the log already.

        Raises `TurnBroken` when the call is not awaited.
        """
        if self.announced(state, turn):
            return
        wallet_id = state.core.seats[self.role].wallet_id
        command = c.IntendCall(at=self.now(), role=self.role, step=turn.step, turn_id=turn.turn_id, wallet_id=wallet_id)
        answer = await self.give(command, turn.turn_id, self.fence.fence, self.now())
        if not isinstance(answer, Accepted):
            raise TurnBroken("not_awaited")

    def announced(self, state: Escrow, turn: Turn) -> bool:
        """Says whether this turn's call was announced before and its outcome is not known."""
        intent = state.core.intents.get(self.role)
        return intent is not None and intent.turn_id == turn.turn_id


class OtherWallet(Exception):
    """The process shows another wallet than the seat's: somebody else uses it. What was called last may be lost."""


@dataclass(kw_only=True)
class OpenWallet:
    """A seat's wallet, open in a leased slot."""

    rpc: WalletRpc
    files: WalletFiles
    secrets: WalletSecrets
    address: Address | None = None
    """What it has to show; None before it is known."""

    @property
    def file(self) -> str:
        """The wallet's file name, which no other wallet of this folder has."""
        return self.secrets.file

    async def still_ours(self) -> None:
        """Asks before and after a call that must not be repeated blind; raises `OtherWallet`.

        A process opens whatever wallet anybody who knows its login names, and saves and closes the one before.
        """
        shown = await self.rpc.get_address()
        if self.address not in (None, shown):
            raise OtherWallet
        self.address = shown

    async def store_once_done(self, *, moved: bool = False) -> None:
        """Stores after a call that must not be repeated blind, and looks whether it was this wallet's.

        A round of the set-up has `moved` the wallet to another address. Raises `OtherWallet`, or `WalletUnknown` when
        the wallet says no. One that refuses to store (a full disk) has done the call all the same: taken for a turn
        without effect, the call's announcement would be forgotten, and with it that its nonces may be used up.
        """
        try:
            await self.rpc.store()
            if moved:
                self.address = None
            await self.still_ours()
        except WalletRefused as refused:
            raise WalletUnknown(method=refused.method, reason="not stored") from None
