"""`thirdkey pool`: the wallet slots of a running node, through its own administrators' door."""

import asyncio
import os
import sys
from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from domain.ids import UserId
from schemas.answers import Answer
from schemas.pool_answers import PoolReloaded, PoolScaled, PoolShown, SlotDrained, SlotShown
from schemas.problems import Problem
from service.auth import Right, issue_token
from service.commands.serve import RUN_FILE, Running
from service.embedded import node_home
from service.keys import KeyFileWrong, issuer_key
from service.settings import Settings

_A = TypeVar("_A", bound=Answer)

ASK_LIMIT_S = 60.0
TOKEN_S = 60
TOKEN_VARIABLE = "THIRDKEY_TOKEN"


class NotAnswered(Exception):
    """The running service cannot be asked, or says no; the text is for whoever asks."""


async def status(settings: Settings, *, node: str | None, as_json: bool, console: Console) -> int:
    """Prints each slot; returns 1 when one cannot be used, or when the service cannot be asked."""
    try:
        shown = await _asked(settings, node, "GET", "/admin/pool", None, PoolShown)
    except NotAnswered as wrong:
        return _failed(wrong)
    if as_json:
        print(msgspec.json.encode(shown).decode())
    else:
        console.print(_table(shown.slots))
    return 1 if any(slot.reason for slot in shown.slots) else 0


async def reload(settings: Settings, *, node: str | None) -> int:
    """Has the service take over the wallet processes configured now; returns 0, or says why not and returns 1.

    A file is read by the service; the list in its environment stays what it was started with.
    """
    try:
        done = await _asked(settings, node, "POST", "/admin/reload-rpc-config", {}, PoolReloaded)
    except NotAnswered as wrong:
        return _failed(wrong)
    print(done.message)
    return 0


async def drain(settings: Settings, slot: str, *, node: str | None) -> int:
    """Lets a slot finish its lease and leave; returns 0, or says why not and returns 1."""
    try:
        await _asked(settings, node, "POST", "/admin/pool/drain", {"slot": slot}, SlotDrained)
    except NotAnswered as wrong:
        return _failed(wrong)
    print(f"{slot} takes no new seat and leaves once it is given back")
    return 0


async def scale(settings: Settings, *, slots: int | None, node: str | None, as_json: bool) -> int:
    """Has the number of wallet processes follow their use, or sets it; returns 0, or says why not and returns 1."""
    body = {} if slots is None else {"slots": slots}
    try:
        done = await _asked(settings, node, "POST", "/admin/pool/scale", body, PoolScaled)
    except NotAnswered as wrong:
        return _failed(wrong)
    print(msgspec.json.encode(done).decode() if as_json else done.message)
    return 0


async def _asked(settings: Settings, node: str | None, method: str, path: str, body: object, kind: type[_A]) -> _A:
    url, headers = _api(settings, node) + path, {"Authorization": f"Bearer {_token(settings)}"}
    try:
        async with (
            asyncio.timeout(ASK_LIMIT_S),
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body, headers=headers) as answer,
        ):
            read, status = await answer.read(), answer.status
    except (aiohttp.ClientError, OSError, TimeoutError) as broken:
        raise NotAnswered(f"the service does not answer ({type(broken).__name__})") from None
    try:
        if status == HTTPStatus.OK:
            return msgspec.json.decode(read, type=kind)
        problem = msgspec.json.decode(read, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):  # left over by a killed service, its port is another's now
        raise NotAnswered(f"another program answers at {_api(settings, node)}") from None
    raise NotAnswered(problem.detail or problem.title)


def _api(settings: Settings, node: str | None) -> str:
    file = node_home(settings.thirdkey_home, node) / RUN_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Running).api
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        raise NotAnswered(f"no service runs in {file.parent}") from None


def _token(settings: Settings) -> str:
    """Makes a token where this folder's key signs them, else takes the one in the environment."""
    if given := os.environ.get(TOKEN_VARIABLE, "").strip():
        return given
    if settings.issuer_public_key is not None:
        raise NotAnswered(f"tokens come from another issuer: expected an administrator's in {TOKEN_VARIABLE}")
    try:
        return issue_token(issuer_key(settings), sub=UserId("operator"), rights=frozenset({Right.ADMIN}), ttl_s=TOKEN_S)
    except KeyFileWrong as wrong:
        raise NotAnswered(str(wrong)) from None


def _table(slots: Sequence[SlotShown]) -> Table:
    table = Table("slot", "role", "state", "reason", "for")
    for slot in slots:
        table.add_row(slot.name, slot.role, slot.state, slot.reason or "", f"{slot.seconds} s")
    return table


def _failed(wrong: NotAnswered) -> int:
    print(wrong, file=sys.stderr)
    return 1
