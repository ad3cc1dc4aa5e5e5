"""What every event has, and the words that several kinds of events share."""

import re
from enum import StrEnum

import msgspec

from domain.ids import Micros
from domain.money import Atomic
from domain.roles import Role


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_snake, forbid_unknown_fields=True):
    """Something that happened, at a moment of the actor's clock."""

    at: Micros


class Purpose(StrEnum):
    """Why a payout is made, which says who receives what."""

    RELEASE = "release"
    REFUND = "refund"
    RULING = "ruling"
    AGREEMENT = "agreement"
    FEE = "fee"
    """The arbiter's, kept back by a ruling's payout."""


class Verdict(StrEnum):
    """What an arbiter decides."""

    RELEASE = "release"
    REFUND = "refund"
    SPLIT = "split"


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """An arbiter's signature under its decision."""

    key: str
    """The identity key of the arbiter's seat, 64 hex digits."""
    signature: str
    """Over the statement of the decision, 128 hex digits."""
    reason_digest: str
    """sha256 of salt and reason, hex."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One destination of a payout. Roles with the same address share one destination."""

    roles: tuple[Role, ...]
    amount: Atomic
