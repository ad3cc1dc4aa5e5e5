"""Everything one node is made of, built in one place and handed to the edges."""

from dataclasses import dataclass, field

from actors.desk import Desk
from actors.ports import Clock
from eventstore.evidence import EvidenceStore
from eventstore.opening import Store
from projections.asking import ReadModels
from projections.runner import Runner
from service.settings import Settings
from service.slot_pool import SlotPool


@dataclass(frozen=True, kw_only=True)
class House:
    """What the edges (HTTP, command line) work with."""

    settings: Settings
    store: Store
    clock: Clock
    desk: Desk
    models: ReadModels
    runner: Runner
    evidence: EvidenceStore | None = None
    """Where pictures are kept; None keeps them beside the log."""
    pool: SlotPool | None = None
    """The node's wallet slots; None where there are none."""
    problems: list[str] = field(default_factory=list)
    """What an operator must look at, newest last (parked escrows, quarantined slots)."""
