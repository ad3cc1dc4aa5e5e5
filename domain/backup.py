"""A sealed backup of a hosted wallet: none of its addresses counts without one, and what a restore makes worthless."""

import hashlib

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent
from domain.refusals import Refused
from domain.setup import current_round
from domain.states import Escrow, SettingUp

BOX_CHARS_MAX = 65_536
"""Of base64; the box of a 2-of-3 wallet has 4,676 (0.18.0.0)."""


def box_digest(box: str) -> str:
    """Hashes a box as it stands in the log; sha256, hex."""
    return hashlib.sha256(box.encode()).hexdigest()


def back_up(state: Escrow, command: c.BackUpWallet) -> list[AnyEvent] | Refused:
    """Records a seat's backup, once: when the rounds are over its keys are final, and no address is shown yet."""
    role, key = command.role, state.core.terms.backup_key(command.role)
    if key is None or not isinstance(state, SettingUp) or role not in state.core.seats:
        return Refused("not_awaited")
    if current_round(state.setup) is not None:
        return Refused("not_awaited")
    if role in state.core.backups:
        return Refused("already_given")
    if state.core.seats[role].wallet_id != command.wallet_id:
        return Refused("wallet_other")
    if command.key != key:
        return Refused("backup_invalid", {"why": "key"})
    if len(command.box) > BOX_CHARS_MAX or command.digest != box_digest(command.box):
        return Refused("backup_invalid", {"why": "box"})
    return [
        e.WalletBackedUp(
            at=command.at,
            role=role,
            wallet_id=command.wallet_id,
            key=command.key,
            digest=command.digest,
            box=command.box,
        )
    ]


def restore(state: Escrow, command: c.RestoreWallet) -> list[AnyEvent] | Refused:
    """Records that a wallet comes back from its backup; its export is void from here on, before a file is touched.

    A restore may have to be begun again, so it may be recorded again.
    """
    if command.role not in state.core.backups:
        return Refused("backup_missing")
    if state.core.seats[command.role].wallet_id != command.wallet_id:
        return Refused("wallet_other")
    return [e.WalletRestored(at=command.at, role=command.role, wallet_id=command.wallet_id, by=command.by)]
