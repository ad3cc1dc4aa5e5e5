"""Escrows whose logs are written by hand, on a chain in memory that scanners read: they differ as a test wants."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable

import msgspec

from actors.clock import SystemClock
from actors.ports import WatchTarget
from actors.scan.follower import ScannerWatch
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.ids import EscrowId, KeyImage, OneTimeKey, OrderId, Sealed, TxHash
from domain.money import Atomic
from domain.roles import THREE, Role
from eventstore.api import Append, Appended, NewEvent, Vault
from eventstore.opening import Store, memory_store
from schemas.codec import encode
from schemas.sealing import SealedKind
from service.reconcile import Compared, ReconcileLimits, Reconciler
from tests.given import AMOUNT, BUYER, NETWORK_FEE, START, VENDOR, Life, all_rounds, confirm, terms, with_addresses
from tests.scan_world import MemoryChain, Receiver, image_of, payment, watch

OUTSIDE = Receiver("outside")


class Pausing:
    """A clock on which every pause is a moment for the test to do something in."""

    def __init__(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self._meanwhile = meanwhile
        self.pauses = 0

    def now(self) -> int:
        return START

    async def sleep(self, seconds: float) -> None:
        self.pauses += 1
        if self._meanwhile:
            await self._meanwhile()

    call_later = SystemClock.call_later


class ReconcileWorld:
    """One chain, one log, and how to compare them; `watches` counts the scanners that were made for it."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or memory_store(partitions=4)
        self.chain = MemoryChain(blocks=5)
        self.watches = 0
        self._numbers = itertools.count(1)

    async def awaiting(self, name: str, *, view_key_of: str | None = None, vault: Vault | None = None) -> "Written":
        """An escrow with an address, its view key sealed in the log."""
        escrow_id = EscrowId(f"esc_{name}")
        order = msgspec.structs.replace(terms(), escrow_id=escrow_id, order_id=OrderId(f"order-{name}"))
        life = all_rounds(with_addresses(Life().when(c.CreateEscrow(at=START, terms=order, by=BUYER))))
        secrets, key = EscrowSecrets(vault or self.store.vault, escrow_id), Receiver(view_key_of or name).view_key.hex()
        for role in THREE:
            sealed = await secrets.seal(SealedKind.VIEW_KEY, role, key)
            confirm(life, role, address=Receiver(name).address, view_key=sealed, height=self.chain.height)
        written = Written(self, Receiver(name), escrow_id, life)
        await written.save()
        return written

    async def paid_out(self, name: str) -> "Written":
        """An escrow that was funded, released and is completed, its log as a watcher and its seats write it."""
        written = await self.awaiting(name)
        written.pay(AMOUNT)
        await written.watched(after=10)
        written.release()
        return await written.watched(after=11)

    def reconciler(
        self, *, clock: Pausing | None = None, batch: int = 100, ended_from: int | None = None
    ) -> Reconciler:
        return Reconciler(
            self.store.log,
            self.store.vault,
            self.chain,
            watch=self._new_watch,
            clock=clock or Pausing(),
            limits=ReconcileLimits(batch=batch, ended_from=ended_from),
        )

    async def compared(self, *, clock: Pausing | None = None, batch: int = 100) -> dict[EscrowId, Compared]:
        return {each.escrow_id: each async for each in self.reconciler(clock=clock, batch=batch).all()}

    async def append(self, stream_id: str, *events: NewEvent, version: int) -> None:
        """Writes events into a stream, whatever they are."""
        command_id = hashlib.sha256(f"{stream_id} {next(self._numbers)}".encode()).hexdigest()
        item = Append(stream_id=stream_id, expected_version=version, events=events, command_id=command_id)
        assert isinstance(await self.store.log.append(item), Appended)

    def _new_watch(self) -> ScannerWatch:
        self.watches += 1
        return watch(self.chain)


class Written:
    """One escrow: a life lived in memory, and how much of it is in the log."""

    def __init__(self, world: ReconcileWorld, receiver: Receiver, escrow_id: EscrowId, life: Life) -> None:
        self.world, self.receiver, self.escrow_id, self.life = world, receiver, escrow_id, life
        self._saved = 0
        self._payments = itertools.count(1)

    async def save(self) -> "Written":
        """Writes what is not in the log yet."""
        new = [_new_event(event) for event in self.life.events[self._saved :]]
        await self.world.append(self.escrow_id, *new, version=self._saved)
        self._saved += len(new)
        return self

    async def watched(self, *, after: int = 0) -> "Written":
        """Mines blocks and takes in what the chain then shows, as the service's watcher does."""
        if after:
            self.world.chain.mine(after)
        money = self.life.money
        target = WatchTarget(
            escrow_id=self.escrow_id,
            address=money.address,
            view_key=self.receiver.view_key.hex(),
            since_height=money.since_height,
            key_images=money.key_images,
        )
        self.life.sees((await watch(self.world.chain).look([target]))[self.escrow_id])
        return await self.save()

    def pay(self, amount: int) -> TxHash:
        """Pays the escrow from outside."""
        nonce = f"{self.escrow_id} {next(self._payments)}"
        return self.world.chain.send(payment(self.receiver, amount, nonce=nonce))

    def release(self, *, fee: int = NETWORK_FEE, spending: tuple[KeyImage, ...] = ()) -> TxHash:
        """Plays the seats up to the broadcast; the transaction may pay another fee and spend something else."""
        life = self.life
        for role in Role:
            life.give_export(role)
        life.when(c.Ship(at=life.now, by=VENDOR)).when(c.ConfirmDelivery(at=life.now, by=BUYER))
        images = self._propose()
        body = payment(OUTSIDE, 1, nonce=f"payout {self.escrow_id}", spending=spending or tuple(images.values()))
        body["rct_signatures"]["txnFee"] = fee
        tx_hash = self.world.chain.send(body)
        life.give_signature(Role.BUYER, tx_hash=tx_hash).broadcasts(Role.BUYER, tx_hash=tx_hash)
        return tx_hash

    def _propose(self) -> dict[OneTimeKey, KeyImage]:
        payout = self.life.money.payout
        assert payout and payout.epoch
        images = {key: image_of(key) for key in payout.epoch.inputs}
        self.life.when(
            c.GiveProposal(
                at=self.life.now,
                role=Role.VENDOR,
                payout=payout.number,
                epoch=payout.epoch.number,
                tx_set=Sealed("set"),
                digest="set",
                network_fee=Atomic(NETWORK_FEE),
                export_digest=self.life.money.exports[payout.cosigner].digest,
                key_images=images,
            )
        )
        return images


def _new_event(event: object) -> NewEvent:
    encoded = encode(event)  # type: ignore[arg-type]
    return NewEvent(
        type=encoded.type,
        schema_version=encoded.schema_version,
        occurred_at=event.at,  # type: ignore[attr-defined]
        meta=b"{}",
        body=encoded.body,
    )
