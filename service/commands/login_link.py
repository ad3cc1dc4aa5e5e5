"""`thirdkey login-link`: a link that logs one user in to the web pages, once."""

import sys

import msgspec

from domain.ids import UserId
from service.auth import Right, issue_login
from service.commands.serve import RUN_FILE, Running
from service.keys import KeyFileWrong, issuer_key
from service.pages.door import local_path
from service.pages.login import link_of
from service.settings import Settings


def login_link(
    settings: Settings, *, sub: str, rights: tuple[str, ...], onward: str | None, ttl_s: int, session_s: int
) -> int:
    """Prints a one-time link and returns 0, or says what is wrong and returns 1."""
    if settings.issuer_public_key is not None:
        print("ISSUER_PUBLIC_KEY is set: logins come from that issuer, not from here", file=sys.stderr)
        return 1
    if onward is not None and local_path(onward) is None:
        print("--to: expected a path of the pages, such as /cases", file=sys.stderr)
        return 1
    try:
        code = issue_login(
            issuer_key(settings),
            sub=UserId(sub),
            rights=frozenset(Right(right) for right in rights),
            ttl_s=ttl_s,
            session_s=session_s,
        )
    except (ValueError, KeyFileWrong) as wrong:
        print(wrong, file=sys.stderr)
        return 1
    print(link_of(_where(settings), code, onward=onward))
    return 0


def _where(settings: Settings) -> str:
    """Names where the pages are reached: as configured, else where the running service says it answers."""
    if settings.public_url is not None:
        return settings.public_url
    try:
        return msgspec.json.decode((settings.thirdkey_home / RUN_FILE).read_bytes(), type=Running).api
    except (FileNotFoundError, msgspec.DecodeError):
        return f"http://{settings.server_host}:{settings.server_port}"
