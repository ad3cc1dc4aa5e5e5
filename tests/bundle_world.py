"""A life in a log of one partition, signed twice on the way, with the bundles that a party could have taken."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.clock import SystemClock
from domain.roles import Role
from eventstore.heads import SignedHead, key_id_of
from eventstore.memory import MemoryTables
from eventstore.opening import Store, memory_store
from schemas.bundle import Bundle
from service.bundle import BundleMaker
from service.head_signer import HeadLimits, HeadSigner
from tests.given import VENDOR
from tests.worlds import house_world

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY_ID = key_id_of(KEY.public_key())


@dataclass(frozen=True)
class SignedLife:
    """What a party may hold of an escrow: its bundle, the one from earlier, and heads of its log."""

    bundle: Bundle
    earlier: Bundle
    since_earlier: Bundle
    """Shows as well that the log only grew since the earlier one."""
    unsigned: Bundle
    """Taken before the newest events were signed."""
    unproven: Bundle
    """Taken before anything was signed."""
    heads: tuple[SignedHead, ...]
    others: tuple[bytes, ...]
    """Bodies of other streams in the same partition."""


async def signed_life() -> SignedLife:
    """Plays a life to its release among two other escrows."""
    tables = MemoryTables(partitions=1)
    store = memory_store(partitions=1, tables=tables)
    async with house_world(store=store) as world:
        maker = BundleMaker(store.log, store.heads, clock=SystemClock())
        escrow_id = await world.funded()
        unproven = await taken(maker, escrow_id)
        await world.create()
        await sign(store)
        assert (await world.ask("POST", f"/api/escrows/{escrow_id}/ship", user=VENDOR))[0] == 200
        await sign(store)
        earlier = await taken(maker, escrow_id)
        await world.create()
        assert (await world.ask("POST", f"/api/escrows/{escrow_id}/confirm-delivery"))[0] == 200
        unsigned = await taken(maker, escrow_id)
        await world.sign(escrow_id, proposer=Role.VENDOR, cosigner=Role.BUYER)
        await world.make_final(escrow_id)
        await sign(store)
        heads = tuple(await store.heads.after(0, position=0, limit=100))
        return SignedLife(
            bundle=await taken(maker, escrow_id),
            earlier=earlier,
            since_earlier=await taken(maker, escrow_id, since=[earlier.heads[-1].position]),
            unsigned=unsigned,
            unproven=unproven,
            heads=heads,
            others=tuple(event.body for event in tables.events[0] if event.stream_id != escrow_id),
        )


async def taken(maker: BundleMaker, escrow_id: str, *, since: Sequence[int] = ()) -> Bundle:
    """Makes a bundle of an escrow that is there."""
    bundle = await maker.make(escrow_id, since=since)
    assert bundle is not None
    return bundle


async def sign(store: Store) -> SignedHead:
    """Signs the whole of a store's first partition now."""
    (end, *_) = await store.log.heads()
    signer = HeadSigner(store, KEY, clock=SystemClock(), limits=HeadLimits(lease_s=600))
    head = await signer.sign(end)
    await signer.release()
    assert head is not None, signer.alarms
    return head


def encoded(bundle: Bundle) -> bytes:
    """Writes a bundle as a file holds it."""
    return msgspec.json.encode(bundle)
