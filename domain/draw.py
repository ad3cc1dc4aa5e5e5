"""The draw of an arbiter that anybody can repeat: commit to a chain of secrets first, reveal one link for each order.

A chain is a secret hashed again and again; its last hash, the anchor, is in the log before any order that will use it.
Links are revealed from the anchor backwards, one for each draw, so each proves itself by hashing forward to the
anchor, and none can be chosen: the next draw's link is fixed.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from domain.ids import UserId
from domain.terms import Terms

HEADER = b"thirdkey draw 1\n"
LINKS_MAX = 4_096
"""Draws of one chain; hashing from one end to the other takes about 2 ms."""


class ArbiterDraw(msgspec.Struct, frozen=True, kw_only=True):
    """How an escrow's arbiter was drawn, with all that is needed to draw again."""

    chain: int
    anchor: str
    """Last hash of the chain, 64 hex digits; in the log since before the chain's first draw."""
    link: int
    """Counted from 1 behind the anchor."""
    secret: str
    """Hashed `link` times it is the anchor, 64 hex digits."""
    eligible: tuple[UserId, ...]
    """Who could be drawn, in order of name."""
    excluded: dict[UserId, str]
    """Who could not, and why: `party`, `conflict`, `on_holiday`, `not_ready`."""


def anchor_of(seed: bytes) -> str:
    """Returns the anchor of a chain."""
    return hashed(seed, times=LINKS_MAX).hex()


def link_of(seed: bytes, link: int) -> str:
    """Returns the secret of a link, 1 to `LINKS_MAX`, hex."""
    assert 1 <= link <= LINKS_MAX
    return hashed(seed, times=LINKS_MAX - link).hex()


def hashed(secret: bytes, *, times: int) -> bytes:
    """Applies sha256 so many times."""
    for _ in range(times):
        secret = hashlib.sha256(secret).digest()
    return secret


def drawn(terms: Terms, *, secret: str, eligible: Sequence[UserId]) -> UserId:
    """Draws: the link's secret and what the order says, hashed, choose among the eligible in order of name.

    What the order says is its creator's: order, parties and amount. The escrow's own id is not among it, because the
    service may choose that.
    """
    said = [secret, terms.order_id, terms.buyer_id, terms.vendor_id, terms.amount, sorted(eligible)]
    number = int.from_bytes(hashlib.sha256(HEADER + msgspec.json.encode(said)).digest())
    return sorted(eligible)[number % len(eligible)]


def draw_holds(terms: Terms, draw: ArbiterDraw) -> bool:
    """Says whether a draw leads from its anchor to the arbiter that the terms name, who is no party."""
    if not 1 <= draw.link <= LINKS_MAX or not draw.eligible or list(draw.eligible) != sorted(set(draw.eligible)):
        return False
    if {terms.buyer_id, terms.vendor_id} & set(draw.eligible) or set(draw.excluded) & set(draw.eligible):
        return False
    try:
        secret = bytes.fromhex(draw.secret)
    except ValueError:
        return False
    if hashed(secret, times=draw.link).hex() != draw.anchor:
        return False
    return drawn(terms, secret=draw.secret, eligible=draw.eligible) == terms.arbiter_id
