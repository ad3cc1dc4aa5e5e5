"""The command line: `thirdkey`."""

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter, Token
from rich.console import Console

from service.backup_cli import backup_app
from service.environment import SettingsWrong, load_settings
from service.key_commands import decision_app
from service.settings import Settings

app = App(name="thirdkey", help="Non-custodial Monero escrow: every order in a 2-of-3 multisig wallet.")
token_app = App(name="token", help="Bearer tokens of the embedded issuer.")
audit_app = App(name="audit", help="Checks of the log.")
projections_app = App(name="projections", help="The read models, made from the log.")
app.command(token_app)
app.command(audit_app)
app.command(decision_app)
app.command(projections_app)
secrets_app = App(name="secrets", help="The keys that sealed fields are sealed under.")
escrow_app = App(name="escrow", help="What operators do with one escrow.")
pool_app = App(name="pool", help="The wallet slots of a running node.")
app.command(secrets_app)
app.command(pool_app)
app.command(escrow_app)
app.command(backup_app)

# What a command needs is imported when it is called: `replay` starts without the HTTP server's modules.


def _node_name(_: type, value: str | None) -> None:
    if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", value):
        raise ValueError("expected up to 32 small letters, digits and hyphens")


def _some(_: type, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError("expected at least 1")


def _whole(_: type, tokens: Sequence[Token]) -> int:
    # By itself `6.5` is taken for 6.
    if not re.fullmatch(r"-?[0-9]{1,9}", tokens[0].value):
        raise ValueError("expected a whole number")
    return int(tokens[0].value)


@app.command
def serve(*, node: Annotated[str | None, Parameter(validator=_node_name)] = None) -> int:
    """Runs the service on its embedded defaults, or on the database it is given.

    Parameters
    ----------
    node
        Joins the world that runs in the data folder, under this name, beside other nodes.
    """
    from service.commands.serve import serve as run

    return asyncio.run(run(_settings(), console=Console(), node=node))


@app.command
def world() -> int:
    """Runs Postgres, a private chain and wallet slots alone, for nodes to join."""
    from service.commands.world import world as run

    return asyncio.run(run(_settings(), console=Console()))


@app.command
def demo(*, ending: Literal["release", "refund"] = "release") -> int:
    """Plays one escrow on a private chain, through the HTTP API.

    Parameters
    ----------
    ending
        How it ends: released to the vendor, or refunded by the arbiter's ruling.
    """
    from service.commands.demo import Ending
    from service.commands.demo import demo as run

    return asyncio.run(run(_settings(), ending=Ending(ending), console=Console()))


@token_app.command(name="issue")
def token_issue(*, sub: str, right: Annotated[tuple[str, ...], Parameter(negative=())] = (), ttl: int = 3_600) -> int:
    """Prints a token signed with the key in the data folder.

    Parameters
    ----------
    sub
        The user whom the token stands for.
    right
        marketplace, admin or arbiter; may be given several times.
    ttl
        Seconds until it expires.
    """
    from service.commands.token import issue

    return issue(_settings(), sub=sub, rights=right, ttl_s=ttl)


@app.command(name="login-link")
def login_link(
    *,
    sub: str,
    right: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    to: str | None = None,
    ttl: int = 600,
    session: int = 28_800,
) -> int:
    """Prints a link that logs one user in to the web pages, once.

    Parameters
    ----------
    sub
        The user whom the login is for.
    right
        admin or arbiter; may be given several times.
    to
        The page to come to, such as /cases/case_…; the user's own list without it.
    ttl
        Seconds within which the link must be used.
    session
        Seconds that the login then lasts.
    """
    from service.commands.login_link import login_link as run

    return run(_settings(), sub=sub, rights=right, onward=to, ttl_s=ttl, session_s=session)


@app.command
def replay(
    escrow_id: str, *, at_version: int | None = None, at_time: datetime | None = None, json: bool = False
) -> int:
    """Prints the life of an escrow event by event, with the state after each; sealed fields stay sealed.

    Parameters
    ----------
    escrow_id
        The escrow, as the API names it.
    at_version
        Stop after this version.
    at_time
        Stop at this moment of the database's clock (UTC unless it says otherwise).
    json
        One JSON object a line, amounts in atomic units.
    """
    from service.commands.replay import replay as run

    return asyncio.run(run(_settings(), escrow_id, at_version=at_version, at_time=at_time, as_json=json))


@audit_app.command(name="verify")
def audit_verify(
    *,
    heads: Path | None = None,
    key: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    processes: Annotated[int | None, Parameter(validator=_some)] = None,
) -> int:
    """Checks every hash, every head, every transition and every read model; exits 1 when anything is wrong.

    Parameters
    ----------
    heads
        Signed heads kept elsewhere: a heads file, the published heads or a bundle; the service's own file otherwise.
    key
        A public key that heads must be signed with, as 64 hex digits or in a file; may be given several times.
    processes
        How many processes share the partitions; one for each core where the log is large, unless it is given.
    """
    from service.commands.audit import verify as run

    return asyncio.run(run(_settings(), heads=heads, keys=key, processes=processes))


@audit_app.command(name="export")
def audit_export(escrow_id: str, *, out: Path | None = None, heads: Path | None = None) -> int:
    """Writes the bundle of an escrow: its events and the proofs that they are in the log.

    Parameters
    ----------
    escrow_id
        The escrow, as the API names it.
    out
        The file to write; standard output without it.
    heads
        Earlier signed heads: the bundle then shows that the log only grew since.
    """
    from service.commands.audit import export as run
    from service.logs import configure_logs

    configure_logs()  # to standard error: on standard output the bundle stands alone
    return asyncio.run(run(_settings(), escrow_id, out=out, heads=heads))


@audit_app.command(name="check")
def audit_check(
    bundle: Path, *, key: Annotated[tuple[str, ...], Parameter(negative=())] = (), heads: Path | None = None
) -> int:
    """Checks a bundle offline and tells its story; exits 1 when anything is wrong.

    Parameters
    ----------
    bundle
        The file.
    key
        A public key that its heads must be signed with, as 64 hex digits or in a file; may be given several times.
    heads
        Signed heads known from earlier: a heads file, the published heads or another bundle. A fork shows here.
    """
    from service.commands.audit import check as run

    return run(bundle, keys=key, heads=heads)


@audit_app.command(name="reconcile")
def audit_reconcile(*escrow_id: str, json: bool = False) -> int:
    """Compares escrows with a fresh scan of the chain; exits 1 where they differ, 2 where one could not be asked.

    Parameters
    ----------
    escrow_id
        The escrows, as the API names them; all without any.
    json
        One JSON object a line, the summary last; amounts in atomic units.
    """
    from service.commands.reconcile import reconcile as run
    from service.logs import configure_logs

    configure_logs()
    return asyncio.run(run(_settings(), escrow_id, as_json=json))


@projections_app.command(name="list")
def projections_list() -> int:
    """Prints each read model's generation, positions and lag, and the escrows that stand still."""
    from service.commands.projections import show

    return asyncio.run(show(_settings()))


@projections_app.command(name="rebuild")
def projections_rebuild(name: str) -> int:
    """Builds a read model anew from the log, beside the live one, and swaps it in; the service runs on meanwhile.

    Parameters
    ----------
    name
        The model, as `projections list` names it, or all.
    """
    from service.commands.projections import rebuild

    return asyncio.run(rebuild(_settings(), name))


@secrets_app.command(name="rotate")
def secrets_rotate() -> int:
    """Wraps every key anew under ENCRYPTION_KEY, while the service runs; may be stopped anywhere and begun again."""
    from service.commands.secrets import rotate as run

    return asyncio.run(run(_settings()))


@escrow_app.command(name="shred")
def escrow_shred(escrow_id: str) -> int:
    """Makes an ended escrow's secrets unreadable for good, once their retention is over.

    Parameters
    ----------
    escrow_id
        The escrow, as the API names it.
    """
    from service.commands.secrets import shred as run
    from service.logs import configure_logs

    configure_logs()
    return asyncio.run(run(_settings(), escrow_id))


@pool_app.command(name="status")
def pool_status(*, node: Annotated[str | None, Parameter(validator=_node_name)] = None, json: bool = False) -> int:
    """Prints each slot's role, state and what is wrong with it; exits 1 when one cannot be used.

    Parameters
    ----------
    node
        The node to ask, where several run in the data folder.
    json
        One JSON object.
    """
    from service.commands.pool import status as run

    return asyncio.run(run(_settings(), node=node, as_json=json, console=Console()))


@pool_app.command(name="reload")
def pool_reload(*, node: Annotated[str | None, Parameter(validator=_node_name)] = None) -> int:
    """Has the service read MONERO_RPC_FILE again: new wallet processes come, missing ones leave, logins change.

    Parameters
    ----------
    node
        The node to ask, where several run in the data folder.
    """
    from service.commands.pool import reload as run

    return asyncio.run(run(_settings(), node=node))


@pool_app.command(name="scale")
def pool_scale(
    *,
    slots: Annotated[int | None, Parameter(converter=_whole)] = None,
    node: Annotated[str | None, Parameter(validator=_node_name)] = None,
    json: bool = False,
) -> int:
    """Has the number of wallet processes follow their use now, as a timer may do; for others' processes it advises.

    Parameters
    ----------
    slots
        Have just so many instead, a multiple of three from POOL_MIN to POOL_MAX; drained ones come back.
    node
        The node to ask, where several run in the data folder.
    json
        One JSON object.
    """
    from service.commands.pool import scale as run

    return asyncio.run(run(_settings(), slots=slots, node=node, as_json=json))


@pool_app.command(name="drain")
def pool_drain(slot: str, *, node: Annotated[str | None, Parameter(validator=_node_name)] = None) -> int:
    """Lets a slot finish its lease and leave.

    Parameters
    ----------
    slot
        The slot, as `pool status` names it.
    node
        The node to ask, where several run in the data folder.
    """
    from service.commands.pool import drain as run

    return asyncio.run(run(_settings(), slot, node=node))


def main() -> None:
    """Runs the command that the arguments name and exits with its code."""
    # As root the data folder must let the database's user through, and with it everybody: what lies in it is private.
    os.umask(0o077)
    try:
        code = app(result_action="return_value")
    except SettingsWrong as wrong:
        print("the settings do not make sense:", *wrong.mistakes, sep="\n  ", file=sys.stderr)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _settings() -> Settings:
    return load_settings(os.environ)


if __name__ == "__main__":
    main()
