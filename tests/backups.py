"""An offline key for the backups of tests, and what a log holds of them."""

import asyncio
from collections.abc import Sequence

from nacl.public import PrivateKey

from actors.slot_line import bound_to
from domain.events import AddressConfirmed, AnyEvent, WalletBackedUp
from domain.roles import Role
from domain.terms import Policy
from eventstore.opening import Store
from schemas.codec import decode
from service.commands.replay import read_all
from tests.patience import PATIENCE_S

OFFLINE = PrivateKey(bytes(range(32)))
BACKUP_KEY = bytes(OFFLINE.public_key).hex()
BACKED_UP = Policy(arbiter_backup_key=BACKUP_KEY)


async def events_of(store: Store, escrow_id: str) -> list[AnyEvent]:
    """Reads an escrow's whole stream."""
    recorded = await read_all(store.log, escrow_id)
    return [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded]


def backup_in(events: Sequence[AnyEvent]) -> WalletBackedUp:
    """Returns the one backup of a life, which stands before the arbiter's address."""
    (made,) = [event for event in events if isinstance(event, WalletBackedUp)]
    confirmed = next(e for e in events if isinstance(e, AddressConfirmed) and e.role is Role.ARBITER)
    assert events.index(made) < events.index(confirmed)
    return made


async def at_rest(store: Store, seat: str) -> None:
    """Waits until no agent has a seat and no slot its wallet: a node that stops sooner keeps them for a while."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await store.seat_leases.held())[seat].released:
            await asyncio.sleep(0.01)
        while bound_to(seat, await store.slot_leases.held()):
            await asyncio.sleep(0.01)
