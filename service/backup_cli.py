"""The part of the command line that makes, opens and puts back sealed backups: `thirdkey backup`."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from service.environment import load_settings

backup_app = App(name="backup", help="Sealed backups of hosted arbiters' wallets.")


@backup_app.command(name="keygen")
def backup_keygen(*, out: Path) -> int:
    """Makes the key pair that arbiters' wallets are backed up to, and prints its public half.

    Parameters
    ----------
    out
        A new file for the private half, which belongs offline.
    """
    from service.commands.backup import keygen as run

    return run(out)


@backup_app.command(name="open")
def backup_open(escrow_id: str | None = None, *, key_file: Path, out: Path, bundle: Path | None = None) -> int:
    """Opens an escrow's sealed backup offline and writes the wallet's keys file and its password.

    Parameters
    ----------
    escrow_id
        The escrow, as the API names it, to be read from the log.
    key_file
        The private key that `backup keygen` made.
    out
        The folder for both files; nothing in it is overwritten.
    bundle
        The escrow's bundle, instead of the log: then nothing but these two files is needed.
    """
    from service.commands.backup import open_box as run
    from service.logs import configure_logs

    configure_logs()
    return asyncio.run(run(load_settings(os.environ), escrow_id, key_file=key_file, bundle=bundle, out=out))


@backup_app.command(name="restore")
def backup_restore(
    escrow_id: str, *, key_file: Path, gone: Annotated[tuple[str, ...], Parameter(negative=())] = ()
) -> int:
    """Puts a lost wallet back into the service's folder; it is exported anew before anything is signed.

    Parameters
    ----------
    escrow_id
        The escrow, as the API names it.
    key_file
        The private key that `backup keygen` made.
    gone
        A slot that will never run again, in which the wallet may have been open; may be given several times.
    """
    from service.commands.backup import restore as run
    from service.logs import configure_logs

    configure_logs()
    return asyncio.run(run(load_settings(os.environ), escrow_id, key_file=key_file, gone=gone))
