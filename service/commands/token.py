"""`thirdkey token issue`: a token for one user, signed with the embedded issuer's key."""

import sys

from domain.ids import UserId
from service.auth import Right, issue_token
from service.keys import KeyFileWrong, issuer_key
from service.settings import Settings


def issue(settings: Settings, *, sub: str, rights: tuple[str, ...], ttl_s: int) -> int:
    """Prints a token and returns 0, or says what is wrong and returns 1."""
    if settings.issuer_public_key is not None:
        print("ISSUER_PUBLIC_KEY is set: tokens come from that issuer, not from here", file=sys.stderr)
        return 1
    try:
        token = issue_token(
            issuer_key(settings), sub=UserId(sub), rights=frozenset(Right(right) for right in rights), ttl_s=ttl_s
        )
    except (ValueError, KeyFileWrong) as wrong:
        print(wrong, file=sys.stderr)
        return 1
    print(token)
    return 0
