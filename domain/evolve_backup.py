"""How events tell of backups and restores of hosted wallets."""

from msgspec.structs import replace

from domain import events as e
from domain.evolve_money import export_ended, turn_taken, with_core, with_money
from domain.roles import Role
from domain.states import Backup, Core, Escrow, ExportState, money_of
from domain.steps import Step

BackupEvent = e.WalletBackedUp | e.WalletRestored
"""What is kept of a wallet, and its return from there."""


def backup_part(state: Escrow, event: BackupEvent) -> Escrow:
    """Applies a backup or a restore."""
    match event:
        case e.WalletBackedUp():
            made = Backup(at=event.at, key=event.key, digest=event.digest)
            return with_core(state, replace(state.core, backups=state.core.backups | {event.role: made}))
        case e.WalletRestored():
            money, state = money_of(state), with_core(state, _forgotten(state.core, event.role))
            # Its nonces went with the lost cache: the wallet would answer -35 to a set made with them.
            return state if money is None else with_money(state, export_ended(money, event.role, ExportState.VOID))


def _forgotten(core: Core, role: Role) -> Core:
    """Forgets what the lost wallet had announced, a signature among it; not that something may be on its way."""
    intent = core.intents.get(role)
    return core if intent is not None and intent.step is Step.BROADCAST else turn_taken(core, role)
