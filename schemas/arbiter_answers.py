"""What the API answers about arbiters."""

from schemas.answers import Answer


class ArbiterSaid(Answer, frozen=True, kw_only=True):
    """What was said is known now, and holds for escrows created from then on: `status` names it."""

    arbiter_id: str
    status: str


class ArbiterLine(Answer, frozen=True, kw_only=True):
    """One arbiter of this installation."""

    arbiter_id: str
    away_until: str | None
    delegate: str | None
    """Who stands in meanwhile."""


class ChainLine(Answer, frozen=True, kw_only=True):
    """A chain of secrets that draws are made with: a draw's secret, hashed as often as its link says, is the anchor."""

    chain: int
    anchor: str
    links_taken: int


class ArbiterList(Answer, frozen=True, kw_only=True):
    """The arbiters, and what the service has committed itself to."""

    mode: str
    arbiters: tuple[ArbiterLine, ...]
    chains: tuple[ChainLine, ...]
