"""`thirdkey secrets rotate` and `thirdkey escrow shred`: what operators do with the keys of sealed fields."""

import sys

from actors.clock import SystemClock
from actors.desk import derived_id
from actors.escrow import Accepted, Rejected
from domain import commands as c
from domain.ids import EscrowId, Micros
from domain.refusals import SENTENCES
from eventstore.opening import Store
from eventstore.rotation import Rotated
from eventstore.rotation import rotate as rotate_keys
from service.commands.opened import OPERATOR, desk_on, with_store
from service.settings import Settings


async def rotate(settings: Settings) -> int:
    """Wraps every key anew under `ENCRYPTION_KEY`; returns 1 while another one still wraps any."""

    async def work(store: Store) -> int:
        rotated = await rotate_keys(store.keys, store.ring, progress=_progress if sys.stderr.isatty() else None)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print(told(rotated))
        return 1 if rotated.left else 0

    return await with_store(settings, work)


async def shred(settings: Settings, escrow_id: str) -> int:
    """Shreds an escrow's secrets and returns 0, or says why not and returns 1."""

    async def work(store: Store) -> int:
        """Brings the command to the escrow and says what it answered."""
        async with desk_on(store) as desk:
            command = c.ShredKey(
                at=Micros(SystemClock().now()), by=OPERATOR, retention_days=settings.secrets_retention_days
            )
            command_id = derived_id(escrow_id, "shred", command.at)
            answer = await desk.handle(EscrowId(escrow_id), command, command_id=command_id, actor="command line")
        if isinstance(answer, Rejected):
            facts = ", ".join(f"{fact} {value}" for fact, value in answer.facts.items())
            print(f"{answer.code}: {SENTENCES[answer.code]} {facts}".rstrip(), file=sys.stderr)
            return 1
        assert isinstance(answer, Accepted)
        await store.vault.shred()
        print(f"the secrets of {escrow_id} are shredded, at version {answer.version}")
        return 0

    return await with_store(settings, work)


def told(rotated: Rotated) -> str:
    """Says in a sentence what a rotation came to."""
    done = f"{rotated.rewrapped} keys were wrapped anew"
    if not rotated.left:
        return f"{done}; none is left under another key: ENCRYPTION_KEY_OLD is no longer needed"
    left = ", ".join(f"{count} under the key with fingerprint {key_id}" for key_id, count in rotated.left.items())
    return f"{done}; left are {left}: give that key as ENCRYPTION_KEY_OLD, and rotate again"


def _progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} keys", end="", file=sys.stderr, flush=True)
