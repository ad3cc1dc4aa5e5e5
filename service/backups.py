"""Sealed backups as an operator handles them: the key pair, the box in the log, and the files that come out of it."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from nacl.public import PrivateKey

from actors.identity import Identity
from actors.wallet_backup import BackupUnreadable, WalletBackup, open_backup
from domain.backup import box_digest
from domain.events import AddressAgreed, WalletBackedUp, WalletClaimed
from eventstore.api import Recorded
from schemas.codec import decode
from service.embedded import WALLETS
from service.given_slots import given_slots
from service.settings import Settings

_TOLD = frozenset({"wallet_backed_up", "wallet_claimed", "address_agreed"})


class NoBackup(Exception):
    """An escrow's log holds no backup."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What an escrow's log says of a backup, and of the wallet in it."""

    backed_up: WalletBackedUp
    claimed: WalletClaimed
    agreed: AddressAgreed | None


def make_key(path: Path) -> str:
    """Makes a key pair, writes its private half to a new file for its owner alone, and returns the public half.

    Raises `FileExistsError`: whoever overwrites a key loses every backup that was made to it.
    """
    key = PrivateKey.generate()
    write_new(path, f"{bytes(key).hex()}\n".encode())
    return bytes(key.public_key).hex()


def find_backup(events: Iterable[Recorded]) -> Found:
    """Finds the backup in an escrow's events; raises `NoBackup`, `UnknownEvent`."""
    told = [
        decode(type=each.type, schema_version=each.schema_version, body=each.body)
        for each in events
        if each.type in _TOLD
    ]
    made = next((event for event in told if isinstance(event, WalletBackedUp)), None)
    if made is None:
        raise NoBackup("there is no sealed backup in this escrow's log")
    claims = (event for event in told if isinstance(event, WalletClaimed) and event.role is made.role)
    return Found(
        backed_up=made,
        claimed=next(claims),
        agreed=next((event for event in told if isinstance(event, AddressAgreed)), None),
    )


def opened(found: Found, *, private_key: bytes) -> WalletBackup:
    """Opens a backup and compares it with the log around it; raises `BackupUnreadable`.

    Anybody can seal something to a public key; only who held the seat's identity had its seed.
    """
    event = found.backed_up
    if box_digest(event.box) != event.digest:
        raise BackupUnreadable("the box is not the one that the log's digest names")
    backup = open_backup(event.box, private_key=private_key)
    if (backup.role, backup.file) != (event.role, event.wallet_id):
        raise BackupUnreadable("the box holds another wallet than the log says")
    if Identity(bytes.fromhex(backup.identity_seed)).public != found.claimed.identity_key:
        raise BackupUnreadable("the box holds another seat's identity than the log says")
    if found.agreed is not None and found.agreed.address != backup.address:
        raise BackupUnreadable("the box holds the wallet of another address than the log says")
    return backup


def write_out(backup: WalletBackup, folder: Path) -> tuple[Path, Path]:
    """Writes `NAME.keys` and `NAME.password` into a folder, for their owner alone; raises `FileExistsError`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys, password = folder / f"{backup.file}.keys", folder / f"{backup.file}.password"
    for path in (keys, password, folder / backup.file):
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists: nothing is overwritten")
    write_new(keys, backup.keys_file)
    write_new(password, f"{backup.password}\n".encode())
    return keys, password


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that must not exist yet, for its owner alone, down to the disk; raises `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def wallet_folder(settings: Settings, backup: WalletBackup) -> Path:
    """Names the folder in which this service's slots look for a wallet; raises `GivenSlotsWrong`."""
    for slot in given_slots(settings):
        if slot.role is backup.role:
            return slot.wallet_dir
    return settings.thirdkey_home / WALLETS / backup.role.value
