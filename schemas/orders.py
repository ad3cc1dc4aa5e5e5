"""Orders whose escrows are set up at once: how they are sent, and what became of them."""

from typing import Annotated, Any

import msgspec

from schemas.answers import Answer
from schemas.problems import Problem
from schemas.requests import Amount, Name, Request


class InitEscrow(Request, frozen=True, kw_only=True):
    """The order of the path, whose seats all take the default."""

    buyer_id: Name
    vendor_id: Name
    amount: Amount


class BatchInitEscrow(Request, frozen=True, kw_only=True):
    """Many orders; each is read as a `BatchOrder` on its own, so that a bad one fails alone."""

    orders: Annotated[tuple[Any, ...], msgspec.Meta(min_length=1)]


class BatchOrder(Request, frozen=True, kw_only=True):
    """One order of a batch, whose seats all take the default."""

    order_id: Name
    buyer_id: Name
    vendor_id: Name
    amount: Amount


class OrderNamed(msgspec.Struct, frozen=True, kw_only=True):
    """An order of which only the id is read."""

    order_id: Name


class OrderAnswer(Answer, frozen=True, kw_only=True):
    """What became of one order: the state of its escrow, or why there is none."""

    order_id: str | None
    """Null where the order's was none."""
    status: str
    """The escrow's state; `failed` where there is none."""
    escrow_id: str | None
    multisig_address: str | None
    """Null until all three seats agree on it, both parties can be paid out, and the arbiter is there if need be."""
    error: Problem | None
    """As the order alone would have been answered with; null unless no address will come."""


class BatchSummary(Answer, frozen=True, kw_only=True):
    """Those that are neither successful nor failed are still being set up."""

    total: int
    successful: int
    """Their set-up has ended with an address."""
    failed: int
    duration_ms: int


class BatchAnswer(Answer, frozen=True, kw_only=True):
    """What became of each order, in the order they were sent."""

    results: tuple[OrderAnswer, ...]
    summary: BatchSummary
