"""What an error looks like outside the process: problem+json (RFC 9457) with a stable code."""

import msgspec

CONTENT_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One error: `code` for programs, `title` for people, `detail` for this occurrence, `facts` behind it."""

    status: int
    code: str
    title: str
    type: str = "about:blank"
    detail: str = ""
    facts: dict[str, str | int] = {}
