"""Where everybody brings their commands: the directory of escrow actors behind three plain methods."""

import hashlib

from actors.directory import Directory
from actors.escrow import Answer, Ask, GetState, Snapshot
from domain.commands import AnyCommand
from domain.ids import CommandId, EscrowId
from domain.states import Escrow
from eventstore.api import Fence

ASK_TIMEOUT_S = 30.0


def derived_id(*parts: str | int) -> CommandId:
    """Derives a command's id from what makes it the same command."""
    return CommandId(hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest())


class Desk:
    """Brings commands to escrows and tells how they stand.

    `handle` raises `KeyReused`, `LostLease`, `LogBusy`, `LogUnavailable`, `MailboxFull`, `AskTimeout`, `Parked`,
    `DirectoryFull`; after a time-out the command may still be followed, and its id tells.
    """

    def __init__(self, directory: Directory[EscrowId]) -> None:
        self._directory = directory

    async def handle(
        self,
        escrow_id: EscrowId,
        command: AnyCommand,
        *,
        command_id: CommandId,
        actor: str,
        body_hash: str = "",
        fence: Fence | None = None,
    ) -> Answer:
        """Brings a command to an escrow and returns what became of it."""
        ask = Ask(command=command, command_id=command_id, body_hash=body_hash, fence=fence, actor=actor)
        answer: Answer = await self._directory.ask(escrow_id, ask, timeout_s=ASK_TIMEOUT_S)
        return answer

    async def state(self, escrow_id: EscrowId) -> Escrow | None:
        """Returns an escrow's present state, whichever node wrote it last; None when there is no such escrow."""
        return (await self.snapshot(escrow_id)).state

    async def snapshot(self, escrow_id: EscrowId) -> Snapshot:
        """Returns an escrow's present state and the position of its last event."""
        snapshot: Snapshot = await self._directory.ask(escrow_id, GetState(fresh=True), timeout_s=ASK_TIMEOUT_S)
        return snapshot
