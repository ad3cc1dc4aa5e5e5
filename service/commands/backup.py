"""`thirdkey backup`: the key that arbiters' wallets are sealed to, and the way back out of a sealed box."""

import sys
from collections.abc import Sequence
from pathlib import Path

from actors.clock import SystemClock
from actors.escrow import LostLease
from actors.wallet_backup import BackupUnreadable, WalletBackup
from actors.wallet_files import FolderFiles
from actors.wallet_restore import NotRestored, Restorer
from eventstore.api import LogBusy, Recorded
from eventstore.opening import Store
from service.backups import NoBackup, find_backup, make_key, opened, wallet_folder, write_out
from service.bundle_check import check_bundle
from service.commands.audit import BUNDLE_BYTES_MAX
from service.commands.opened import CANNOT, OPERATOR, desk_on, with_store
from service.commands.replay import read_all
from service.given_slots import GivenSlotsWrong
from service.keys import key_in
from service.reading import reading
from service.settings import Settings

_WRONG = (*CANNOT, BackupUnreadable, NoBackup, NotRestored, GivenSlotsWrong, LostLease, LogBusy)


def keygen(out: Path) -> int:
    """Makes the key pair, prints the public half and returns 0; 1 where the file exists."""
    try:
        public = make_key(out)
    except OSError as wrong:
        return _failed(wrong)
    print(f"ARBITER_BACKUP_KEY={public}")
    print(f"the private half is in {out}: keep it offline, and a copy of it elsewhere", file=sys.stderr)
    return 0


async def open_box(settings: Settings, escrow_id: str | None, *, key_file: Path, bundle: Path | None, out: Path) -> int:
    """Opens a box from a bundle or from the log, writes keys file and password into a folder, and returns 0."""
    try:
        if (escrow_id is None) == (bundle is None):
            raise NoBackup("expected an escrow's id or --bundle, and not both")
        events = _of_bundle(bundle) if bundle else await _of_log(settings, str(escrow_id))
        backup = opened(find_backup(events), private_key=key_in(key_file))
        keys, password = write_out(backup, out)
    except _WRONG as wrong:
        return _failed(wrong)
    print(f"{_named(backup)}: {keys}, its password in {password}")
    print(f"its address is {backup.address}, on {backup.network}; nothing was paid to it below height {backup.height}")
    return 0


async def restore(settings: Settings, escrow_id: str, *, key_file: Path, gone: Sequence[str]) -> int:
    """Puts a lost wallet back into the folder of its slots and returns 0, or says why not and returns 1."""
    try:
        private_key = key_in(key_file)
    except _WRONG as wrong:
        return _failed(wrong)

    async def work(store: Store) -> int:
        """Opens the box, tells the escrow, and then makes the file."""
        try:
            events = await read_all(store.log, escrow_id)
            backup = opened(find_backup(events), private_key=private_key)
            folder = wallet_folder(settings, backup)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            async with desk_on(store) as desk:
                restorer = Restorer(
                    desk=desk,
                    seat_leases=store.seat_leases,
                    slot_leases=store.slot_leases,
                    vault=store.vault,
                    files=FolderFiles(folder),
                    clock=SystemClock(),
                )
                await restorer.put_back(backup, by=OPERATOR, gone=gone)
        except _WRONG as wrong:
            return _failed(wrong)
        print(f"{_named(backup)} is back in {folder}; it is refreshed and exported anew before anything is signed")
        return 0

    return await with_store(settings, work)


def _of_bundle(path: Path) -> Sequence[Recorded]:
    if path.stat().st_size > BUNDLE_BYTES_MAX:
        raise NoBackup(f"{path} is larger than {BUNDLE_BYTES_MAX} bytes")
    checked = check_bundle(path.read_bytes())
    if checked.findings:
        # A wallet is not refused for that: on the day it is needed nobody may be left to sign the newest head.
        print(f"the bundle does not prove itself: {checked.findings[0]}", file=sys.stderr)
    return checked.events


async def _of_log(settings: Settings, escrow_id: str) -> Sequence[Recorded]:
    async with reading(settings) as log:
        return await read_all(log, escrow_id)


def _named(backup: WalletBackup) -> str:
    return f"the wallet of the {backup.role.value} of {backup.escrow_id}"


def _failed(wrong: BaseException) -> int:
    print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
    return 1
