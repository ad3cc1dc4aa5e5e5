"""An arbiter that holds the key of its seat: its escrow, its key file, its statement as a page shows it."""

import re
import secrets
from html import unescape
from pathlib import Path

import msgspec

from domain import commands as c
from domain.ids import EscrowId, OrderId
from domain.roles import Role, SeatKind
from tests.given import BUYER, terms
from tests.worlds import World, identity_seed


async def disputed_with_own_key(world: World) -> tuple[str, str]:
    """Opens a case whose arbiter brought a wallet; past the doors, which seat nobody so yet. Its escrow and its id."""
    escrow_id = EscrowId(f"esc_{secrets.token_hex(16)}")
    seats = terms().seats | {Role.ARBITER: SeatKind.RELAY}
    own = msgspec.structs.replace(terms(), escrow_id=escrow_id, order_id=OrderId(f"order-{escrow_id}"), seats=seats)
    await world.tell(escrow_id, c.CreateEscrow(at=world.now(), terms=own, by=BUYER))
    await world.set_addresses(escrow_id)
    await world.set_up(escrow_id)
    await world.pay_in(escrow_id)
    claim = {"escrow_id": escrow_id, "claim": "An empty box."}
    status, opened = await world.ask("POST", "/api/disputes/open", claim)
    assert status == 200, opened
    return escrow_id, opened["case_id"]


def key_file(folder: Path, *, seed: bytes | None = None) -> Path:
    """Writes a key as its owner keeps it; that of the arbiter's seat unless it is given."""
    path = folder / "judy.key"
    path.write_text(f"{(seed or identity_seed(Role.ARBITER)).hex()}\n")
    path.chmod(0o600)
    return path


def statement_on(page: str) -> str:
    """Reads the statement that a page asks to be signed, as a browser would let it be copied."""
    (text,) = re.findall(r'<textarea id="statement"[^>]*>([^<]*)</textarea>', page)
    return unescape(text)
