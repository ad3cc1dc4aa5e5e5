"""Two nodes on one log: a command is judged by what stands there, whichever node knew the escrow first."""

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.directory import Directory
from actors.escrow import Accepted, EscrowActor, Rejected
from domain import commands as c
from domain.commands import AnyCommand
from domain.ids import EscrowId, Micros
from eventstore.opening import Store, memory_store
from tests.given import BUYER, START, terms

ESCROW = terms().escrow_id


def desk_on(store: Store) -> Desk:
    def wake(escrow_id: EscrowId) -> EscrowActor:
        return EscrowActor(escrow_id, event_log=store.log, clock=SystemClock())

    return Desk(Directory(wake, clock=SystemClock(), on_parked=lambda *_: None))


async def told(desk: Desk, command: AnyCommand) -> Accepted | Rejected:
    return await desk.handle(ESCROW, command, command_id=derived_id(ESCROW, type(command).__name__), actor=BUYER)


async def test_a_command_is_not_refused_by_a_node_that_has_not_heard_of_the_escrow_yet() -> None:
    store = memory_store(partitions=1)
    first, late = desk_on(store), desk_on(store)
    assert await late.state(ESCROW) is None
    await told(first, c.CreateEscrow(at=START, terms=terms(), by=BUYER))
    assert isinstance(await told(late, c.CancelEscrow(at=Micros(START + 1), by=BUYER)), Accepted)
