"""Two nodes on one log: a command is judged by what stands there, whichever node knew the escrow first."""

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.directory import Directory
from actors.escrow import Accepted, EscrowActor, Rejected
from domain import commands as c
from domain.amounts import Amounts
from domain.commands import AnyCommand
from domain.events import Verdict
from domain.ids import EscrowId, Micros, Sealed
from domain.preview import preview
from eventstore.opening import Store, memory_store
from tests.given import ARBITER, BUYER, START, Life, disputed, output, terms, view
from tests.model_worlds import append, new_events

ESCROW = terms().escrow_id


def desk_on(store: Store) -> Desk:
    def wake(escrow_id: EscrowId) -> EscrowActor:
        return EscrowActor(escrow_id, event_log=store.log, clock=SystemClock())

    return Desk(Directory(wake, clock=SystemClock(), on_parked=lambda *_: None))


async def write(store: Store, life: Life, *, after: int = 0) -> None:
    """Appends what a life came to since a version, as another node would."""
    await append(store.log, ESCROW, new_events(life.events[after:]), after=after)


async def told(desk: Desk, command: AnyCommand) -> Accepted | Rejected:
    return await desk.handle(ESCROW, command, command_id=derived_id(ESCROW, type(command).__name__), actor=BUYER)


async def test_a_command_is_not_refused_by_a_node_that_has_not_heard_of_the_escrow_yet() -> None:
    store = memory_store(partitions=1)
    first, late = desk_on(store), desk_on(store)
    assert await late.state(ESCROW) is None
    await told(first, c.CreateEscrow(at=START, terms=terms(), by=BUYER))
    assert isinstance(await told(late, c.CancelEscrow(at=Micros(START + 1), by=BUYER)), Accepted)


async def test_a_confirmed_decision_is_judged_by_the_deposits_that_another_node_has_seen_by_then() -> None:
    store = memory_store(partitions=1)
    life, late = disputed(), desk_on(store)
    await write(store, life)
    known = await late.state(ESCROW)
    assert known is not None
    confirmed = preview(known, verdict=Verdict.REFUND, buyer_share_bp=None, at=life.now)
    assert isinstance(confirmed, Amounts)
    version = known.core.version
    await write(store, life.sees(view(output(), output("out-2"))), after=version)
    decision = c.ResolveDispute(
        at=life.now,
        by=ARBITER,
        verdict=Verdict.REFUND,
        buyer_share_bp=None,
        reason=Sealed("because"),
        confirmed=confirmed,
    )
    assert await told(late, decision) == Rejected(code="amounts_changed", facts={})
    assert await late.state(ESCROW) == life.state
