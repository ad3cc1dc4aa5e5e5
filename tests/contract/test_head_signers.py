"""Several nodes that sign one log, on the memory twin and on Postgres, their leases running out under them."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.clock import SystemClock
from eventstore.api import Append, NewEvent
from eventstore.heads import signature_holds
from eventstore.merkle import Frontier
from service.head_signer import HeadLimits, HeadSigner

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NODES, APPENDS = 3, 40

pytestmark = pytest.mark.parametrize("store_world", ["memory-4", "postgres-4"], indirect=True)


async def test_nodes_whose_leases_run_out_under_them_sign_one_line_of_heads(store_world):
    stores = [await store_world.open(node_id=f"n{number}") for number in range(NODES)]
    # Leases end at once, so that every node takes over from every other in the middle of its work.
    limits = HeadLimits(interval_s=0, lease_s=0.0, page=3)
    signers = [HeadSigner(store, KEY, clock=SystemClock(), limits=limits) for store in stores]
    written = asyncio.Event()

    async def sign(signer):
        while not written.is_set():
            await signer.sign_due()
            await asyncio.sleep(0)

    signing = [asyncio.create_task(sign(signer)) for signer in signers]
    for number in range(APPENDS):
        event = NewEvent(type="t", schema_version=1, occurred_at=1, meta=b"{}", body=b"{}")
        item = Append(stream_id=f"s{number}", expected_version=0, events=(event,) * 2, command_id=f"{number:064x}")
        await stores[0].log.append(item)
    written.set()
    await asyncio.gather(*signing)
    await signers[0].sign_due()
    assert [signer.alarms for signer in signers] == [{}] * NODES
    assert await _covered(stores[0]) == {end.partition: end.position for end in await stores[0].log.heads()}


async def _covered(store):
    """Checks every head of every partition, and says how far they reach."""
    covered = {}
    for partition in range(4):
        heads = await store.heads.after(partition, position=0, limit=1_000)
        leaves = await store.heads.leaves(partition, after_position=0, limit=1_000)
        for head in heads:
            assert signature_holds(head)
            assert head.merkle_root == Frontier().extended(leaves[: head.position]).root
        assert [head.position for head in heads] == sorted({head.position for head in heads})
        covered[partition] = heads[-1].position if heads else 0
    return covered
