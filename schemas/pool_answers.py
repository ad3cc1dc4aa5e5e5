"""What the API answers about wallet slots."""

from schemas.answers import Answer


class SlotShown(Answer, frozen=True, kw_only=True):
    """One wallet slot of a node: `reason` says what is wrong with it, `seconds` how long it has been so."""

    name: str
    role: str
    state: str
    reason: str | None
    seconds: int


class PoolShown(Answer, frozen=True, kw_only=True):
    """The wallet slots of a node."""

    slots: tuple[SlotShown, ...]


class SlotDrained(Answer, frozen=True, kw_only=True):
    """A wallet slot finishes its lease and leaves."""

    slot: str


class PoolReloaded(Answer, frozen=True, kw_only=True):
    """How many wallet processes came, and how many are to leave."""

    status: str = "reloaded"
    added: int
    removed: int
    message: str


class PoolScaled(Answer, frozen=True, kw_only=True):
    """How many wallet processes there were and are to be: `scaled`, `unchanged`, or `advised` for somebody else's."""

    status: str
    before: int
    after: int
    use_percent: int
    message: str
