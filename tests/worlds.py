"""A house without slots, on a log of the test's choice, behind the HTTP API: seats and chain are played by hand."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.clock import SystemClock
from actors.desk import Desk, derived_id
from actors.directory import Directory
from actors.escrow import Accepted, EscrowActor
from actors.identity import Identity
from actors.sealed import EscrowSecrets, WalletSecrets
from domain import commands as c
from domain.chain import ChainView, SeenOutput, SeenSpend
from domain.commands import AnyCommand
from domain.ids import EscrowId, KeyImage, Micros, OneTimeKey, Sealed, TxHash, UserId, WalletId
from domain.money import Atomic
from domain.roles import THREE, Role, SeatKind
from domain.states import Escrow, Money, money_of
from domain.steps import ROUNDS
from eventstore.evidence import EvidenceStore
from eventstore.opening import Store, memory_store
from projections.asking import ReadModels
from projections.opening import open_models
from projections.runner import Runner
from schemas.address import AddressKind, Network, ParsedAddress, encode_address
from service.app import make_app
from service.auth import Right, issue_token
from service.house import House
from service.settings import Arbiter, Settings
from service.telemetry import Telemetry
from tests.given import ADDRESS, AMOUNT, ARBITER, BUYER, NETWORK_FEE, USERS, VENDOR
from tests.patience import PATIENT

HASH = "ab" * 32
PAYOUT_HASH = TxHash("cd" * 32)
OWN_WRITES_S = 30
"""As long as the setting may be: a list shows what its caller wrote, be the machine ever so slow."""


def public_key(number: int) -> str:
    """A key that a secret leads to, as addresses must have."""
    key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32)).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def identity_seed(role: Role) -> bytes:
    """The seed of a seat's identity key, one for each role."""
    return bytes([THREE.index(role) + 1]) * 32


def address_of(role: Role, *, network: Network = "regtest", kind: AddressKind = AddressKind.STANDARD) -> str:
    """A valid address of somebody outside, one for each role."""
    parsed = ParsedAddress(
        kind=kind,
        network=network,
        spend_key=public_key(THREE.index(role) + 1),
        view_key=public_key(9),
        payment_id="1122334455667788" if kind is AddressKind.INTEGRATED else "",
    )
    return encode_address(parsed)


class World:
    """The API, its callers' tokens, and hands to play wallets and chain with."""

    def __init__(
        self, client: TestClient[Any, Any], house: House, issuer: Ed25519PrivateKey, telemetry: Telemetry
    ) -> None:
        self.client, self.house, self.issuer, self.telemetry = client, house, issuer, telemetry
        self._numbers = itertools.count(1)

    def token(self, user: str, *rights: Right, ttl_s: int = 600) -> str:
        return issue_token(self.issuer, sub=UserId(user), rights=frozenset(rights), ttl_s=ttl_s)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        user: str | None = BUYER,
        rights: tuple[Right, ...] = (),
        key: str | None = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Asks as a user; returns status and the decoded body."""
        sent = dict(headers or {})
        if user is not None:
            sent.setdefault("Authorization", f"Bearer {self.token(user, *rights)}")
        if key is not None:
            sent["Idempotency-Key"] = key
        data = raw if raw is not None else None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(method, path, data=data, headers=sent) as answer:
            text = await answer.read()
            return answer.status, msgspec.json.decode(text) if text else None

    async def create(self, *, order: str | None = None, amount: int = AMOUNT, user: str = BUYER, **more: Any) -> str:
        """Creates an escrow between alice and bob and returns its id."""
        body = {"order_id": order or f"order-{next(self._numbers)}", "buyer_id": BUYER, "vendor_id": VENDOR}
        status, answer = await self.ask("POST", "/api/escrows", body | {"amount": amount}, user=user, **more)
        assert status == 201, answer
        return str(answer["escrow_id"])

    async def set_addresses(self, escrow_id: str, *roles: Role) -> None:
        for role in roles or THREE:
            path = f"/api/escrows/{escrow_id}/payout-address"
            status, answer = await self.ask("PUT", path, {"address": address_of(role)}, user=USERS[role])
            assert status == 200, answer

    async def state(self, escrow_id: str) -> Escrow:
        state = await self.house.desk.state(EscrowId(escrow_id))
        assert state is not None
        return state

    async def money(self, escrow_id: str) -> Money:
        money = money_of(await self.state(escrow_id))
        assert money is not None
        return money

    async def version(self, escrow_id: str) -> int:
        return (await self.state(escrow_id)).core.version

    async def seen(self, escrow_id: str, view: ChainView) -> c.ObserveChain:
        """Makes the report of a view of the chain that was looked at just now."""
        return c.ObserveChain(at=self.now(), view=view, version=await self.version(escrow_id))

    # -- seats and chain ---------------------------------------------------------------------------------------

    async def tell(self, escrow_id: str, command: AnyCommand) -> Accepted:
        """Brings a command straight to the desk, as a seat or the watcher does."""
        command_id = derived_id(escrow_id, "test", next(self._numbers))
        answer = await self.house.desk.handle(EscrowId(escrow_id), command, command_id=command_id, actor="seat")
        assert isinstance(answer, Accepted), answer
        return answer

    def now(self) -> Micros:
        return Micros(self.house.clock.now())

    async def set_up(self, escrow_id: str, *, confirming: tuple[Role, ...] = THREE) -> None:
        """Plays the three wallets' set-up."""
        kinds = (await self.state(escrow_id)).core.terms.seats
        for role in sorted(THREE, key=lambda role: kinds[role] is SeatKind.POOL):  # who brings a wallet comes first
            await self._take_seat(escrow_id, role, kind=kinds[role])
        for round_ in ROUNDS:
            for role in THREE:
                message = c.GiveSetupMessage(
                    at=self.now(), role=role, round=round_, message=Sealed("m"), digest=HASH, signature="22" * 64
                )
                await self.tell(escrow_id, message)
        for role in confirming:
            await self.confirm(escrow_id, role)

    async def _take_seat(self, escrow_id: str, role: Role, *, kind: SeatKind) -> None:
        wallet_id, seed = WalletId(f"w-{role}"), identity_seed(role)
        public = Identity(seed).public
        if kind is not SeatKind.POOL:
            join = c.JoinSeat(at=self.now(), role=role, wallet_id=wallet_id, identity_key=public)
            await self.tell(escrow_id, join)
            return
        wallet = WalletSecrets(file=wallet_id, password="secret", identity_seed=seed.hex())
        sealing = EscrowSecrets(self.house.store.vault, EscrowId(escrow_id))
        secrets = await sealing.seal_wallet(role, wallet)
        claim = c.ClaimWallet(at=self.now(), role=role, wallet_id=wallet_id, identity_key=public, secrets=secrets)
        await self.tell(escrow_id, claim)

    async def confirm(self, escrow_id: str, role: Role) -> None:
        confirm = c.ConfirmAddress(
            at=self.now(),
            role=role,
            address=ADDRESS,
            threshold=2,
            total=3,
            ready=True,
            signature="33" * 64,
            view_key=Sealed("v"),
            view_key_tag="t",
            height=100,
        )
        await self.tell(escrow_id, confirm)

    async def pay_in(self, escrow_id: str, *, amount: int = AMOUNT) -> None:
        """Shows an unlocked deposit and lets the seats export."""
        view = ChainView(height=111, outputs=(deposit(amount=amount),))
        await self.tell(escrow_id, await self.seen(escrow_id, view))
        for role in THREE:
            export = c.GiveExport(
                at=self.now(), role=role, export=Sealed("x"), digest=f"{role}-export", covers=(OneTimeKey(HASH),)
            )
            await self.tell(escrow_id, export)

    async def funded(self, **more: Any) -> str:
        escrow_id = await self.create(**more)
        await self.set_addresses(escrow_id)
        await self.set_up(escrow_id)
        await self.pay_in(escrow_id)
        return escrow_id

    async def sign(self, escrow_id: str, *, proposer: Role, cosigner: Role) -> None:
        """Plays the epoch under way to its broadcast."""
        money = await self.money(escrow_id)
        payout = money.payout
        assert payout is not None and payout.epoch is not None
        number, epoch = payout.number, payout.epoch.number
        if payout.epoch.proposal is None:
            propose = c.GiveProposal(
                at=self.now(),
                role=proposer,
                payout=number,
                epoch=epoch,
                tx_set=Sealed("t"),
                digest=HASH,
                network_fee=NETWORK_FEE,
                export_digest=money.exports[cosigner].digest,
                key_images={OneTimeKey(HASH): KeyImage("ef" * 32)},
            )
            await self.tell(escrow_id, propose)
        signature = c.GiveSignature(
            at=self.now(),
            role=cosigner,
            payout=number,
            epoch=epoch,
            tx_hash=PAYOUT_HASH,
            signed=Sealed("g"),
            digest=HASH,
        )
        await self.tell(escrow_id, signature)
        broadcast = c.ReportBroadcast(at=self.now(), role=cosigner, payout=number, epoch=epoch, tx_hash=PAYOUT_HASH)
        await self.tell(escrow_id, broadcast)

    async def make_final(self, escrow_id: str) -> None:
        """Shows the payout buried under all its confirmations."""
        spend = SeenSpend(one_time_key=OneTimeKey(HASH), tx_hash=PAYOUT_HASH, height=120)
        view = ChainView(height=140, outputs=(deposit(),), spends=(spend,))
        await self.tell(escrow_id, await self.seen(escrow_id, view))

    async def released(self) -> str:
        """Plays a whole life through the doors to its release."""
        escrow_id = await self.funded()
        assert (await self.ask("POST", f"/api/escrows/{escrow_id}/ship", user=VENDOR))[0] == 200
        assert (await self.ask("POST", f"/api/escrows/{escrow_id}/confirm-delivery"))[0] == 200
        await self.sign(escrow_id, proposer=Role.VENDOR, cosigner=Role.BUYER)
        await self.make_final(escrow_id)
        return escrow_id


def deposit(*, amount: int = AMOUNT) -> SeenOutput:
    return SeenOutput(
        one_time_key=OneTimeKey(HASH), tx_hash=TxHash("99" * 32), amount=Atomic(amount), height=101, unlocked=True
    )


@asynccontextmanager
async def house_world(
    *, store: Store | None = None, pool: Any = None, evidence: EvidenceStore | None = None, **settings: Any
) -> AsyncIterator[World]:
    """Opens the API over a store (memory by default) for as long as the block lasts."""
    issuer = Ed25519PrivateKey.generate()
    public = issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    usual: dict[str, Any] = {
        "issuer_public_key": public,
        "arbiters": (Arbiter(user_id=ARBITER),),
        "own_writes_wait_s": OWN_WRITES_S,
    }
    chosen = Settings(**(usual | settings))
    store = store or memory_store(partitions=4)
    clock = SystemClock()
    directory: Directory[EscrowId] = Directory(
        lambda escrow_id: EscrowActor(escrow_id, event_log=store.log, clock=clock),
        clock=clock,
        on_parked=lambda _, failure: print("parked", failure),
    )
    tables, rows = open_models(store, limits=PATIENT)
    runner = Runner(store.log, tables)
    models = ReadModels(store.log, rows, runner)
    desk = Desk(directory)
    house = House(
        settings=chosen,
        store=store,
        clock=clock,
        desk=desk,
        models=models,
        runner=runner,
        evidence=evidence,
        pool=pool,
    )
    telemetry = Telemetry()
    telemetry.watch(house, actors=directory.counts)
    await runner.catch_up()
    running = asyncio.get_running_loop().create_task(runner.run())
    client: TestClient[Any, Any] = TestClient(TestServer(make_app(house, telemetry=telemetry)))
    try:
        async with client:
            yield World(client, house, issuer, telemetry)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await directory.stop_all(timeout_s=5)
        await store.aclose()
