"""How figures and names are written for people: exact, and in plain words."""

import re
from datetime import datetime, timedelta

from domain.events import Verdict
from domain.money import ATOMIC_PER_XMR
from domain.payout import BP_ALL

DECIMALS_MIN = 4
_SHARE = re.compile(r"(100|[0-9]{1,2})(?:[.,]([0-9]{1,2}))?\s*%?")
_SHORT = 8

VERDICTS = {
    Verdict.RELEASE: "Release to the vendor",
    Verdict.REFUND: "Refund to the buyer",
    Verdict.SPLIT: "Split between the two",
}
STATUSES = {
    "open": "Open",
    "under_review": "Under review",
    "resolved": "Resolved",
    "closed": "Closed",
}


def xmr(atomic: int) -> str:
    """Writes an amount in XMR, exact; zeros at the end beyond the fourth decimal are left out."""
    if not atomic:
        return "0"
    decimals = f"{atomic % ATOMIC_PER_XMR:012d}"
    return f"{atomic // ATOMIC_PER_XMR}.{decimals[:DECIMALS_MIN]}{decimals[DECIMALS_MIN:].rstrip('0')}"


def percent(bp: int) -> str:
    """Writes basis points as a percentage: 6250 is 62.5 %."""
    whole, rest = divmod(bp, BP_ALL // 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".") + " %"


def read_share(text: str) -> int | None:
    """Reads a percentage with at most two decimals as basis points, digit by digit; None when it is none."""
    found = _SHARE.fullmatch(text.strip())
    bp = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else BP_ALL + 1
    return bp if bp <= BP_ALL else None


def worded(name: str) -> str:
    """Writes a name of the program in words."""
    return name.replace("_", " ")


def short(text: str) -> str:
    """Shortens an id to what people can compare at a glance; the whole of it stands beside."""
    head, _, rest = text.rpartition("_")
    return f"{head}_{rest[:_SHORT]}…" if head and len(rest) > _SHORT else text


def when(at: str) -> str:
    """Writes a moment of an answer to the minute, in UTC."""
    return f"{at[:10]} {at[11:16]} UTC"


def age(at: str, now: datetime) -> str:
    """Says how long ago a moment was, in its largest whole unit."""
    passed = max(timedelta(), now - datetime.fromisoformat(at))
    for seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= timedelta(seconds=seconds):
            return f"{passed // timedelta(seconds=seconds)} {unit}"
    return "just now"
