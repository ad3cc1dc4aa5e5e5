"""One wallet serves one seat of one escrow: held by the log itself, before the wallet is made."""

from actors.desk import derived_id
from actors.limit_events import new_limit_event
from domain.ids import EscrowId, Micros, WalletId
from domain.limits import WalletAssigned, wallet_stream
from domain.roles import Role
from eventstore.api import AlreadyDone, Append, Appended, EventLog


class WalletRegister:
    """Assigns wallets, each in a stream of its own whose first version only one seat can write."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log

    async def assign(self, wallet_id: WalletId, *, escrow_id: EscrowId, role: Role, at: Micros) -> bool:
        """Says whether the wallet is this seat's now; asked again by the same seat it still is.

        Raises `LogBusy`, `LogUnavailable` and `OutcomeUnknown`, after which it may be asked again.
        """
        event = WalletAssigned(at=at, wallet_id=wallet_id, escrow_id=escrow_id, role=role)
        item = Append(
            stream_id=wallet_stream(wallet_id),
            expected_version=0,
            events=(new_limit_event(event, meta={"by": f"seat:{role}"}),),
            command_id=derived_id("wallet", wallet_id, escrow_id, role),
        )
        return isinstance(await self._log.append(item), Appended | AlreadyDone)
