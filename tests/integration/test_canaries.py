"""A whole life with a secret in every place that may hold one, and then a search for them everywhere."""

import asyncio
import base64
import io
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import structlog
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.sealed import EscrowSecrets, WalletSecrets
from actors.simulation import SimFiles
from actors.wallet_backup import open_backup
from domain import commands as c
from domain.ids import EscrowId, UserId
from domain.roles import Role
from domain.states import money_of, name
from eventstore.opening import Store, open_store
from schemas.codec import decode
from schemas.sealing import SealedKind, key_of
from service.app import make_app
from service.auth import Right
from service.commands.replay import read_all
from service.house import House
from service.logs import configure_logs
from service.node import Node
from service.replay import json_lines, story
from service.settings import Arbiter, Settings
from service.telemetry import Telemetry
from tests import canaries
from tests.backups import BACKED_UP, OFFLINE, backup_in, events_of
from tests.evidence_world import fetch, lay
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENCE_S, PATIENT
from tests.pictures import SECRET, telling_jpeg
from tests.sim_world import SimWorld, moment, pay_in, tell, until
from tests.worlds import World

ORDER = f"order-{secrets.token_hex(8)}"
"""Stored in plain on purpose: a search that does not find it finds nothing."""
CLAIM, REASON, NOTES, DESCRIPTION = (
    f"canary {word} {secrets.token_hex(12)}" for word in ("claim", "reason", "notes", "description")
)
RPC_PASSWORD, ENCRYPTION_KEY = secrets.token_urlsafe(24), secrets.token_bytes(32)


@asynccontextmanager
async def _house(node: Node) -> AsyncIterator[World]:
    """The API over a whole node."""
    issuer = Ed25519PrivateKey.generate()
    settings = Settings(
        issuer_public_key=issuer.public_key().public_bytes_raw(),
        encryption_key=ENCRYPTION_KEY,
        monero_rpc_user="canary",
        monero_rpc_password=RPC_PASSWORD,
        arbiters=(Arbiter(user_id=ARBITER),),
        figures=BACKED_UP,
    )
    house = House(
        settings=settings, store=node.store, clock=node.clock, desk=node.desk, models=node.models, runner=node.runner
    )
    telemetry = Telemetry()
    telemetry.watch(house, actors=node.directory.counts)
    async with TestClient(TestServer(make_app(house, telemetry=telemetry))) as client:
        yield World(client, house, issuer, telemetry)


async def _life(chain: SimWorld, node: Node, world: World) -> EscrowId:
    """Plays an order through a dispute to a refund that is final, with mistakes on the way."""
    escrow_id = EscrowId(await world.create(order=ORDER))
    await world.set_addresses(escrow_id)
    await until(node, escrow_id, "awaiting_funding")
    await pay_in(chain, node, escrow_id)
    await until(node, escrow_id, "funded")
    _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": CLAIM})
    assert (await lay(world, opened["case_id"], telling_jpeg(), description=DESCRIPTION))[0] == 200
    notes = await EscrowSecrets(node.store.vault, escrow_id).seal(SealedKind.ADMIN_NOTES, "", NOTES)
    noted = c.NoteRecovery(at=moment(node), by=UserId("root"), action="contact_arbiter", notes=notes)
    await tell(node, escrow_id, noted, key="notes")
    ruling = {"case_id": opened["case_id"], "decision": "refund", "reason": REASON}
    await world.ask("POST", "/api/disputes/resolve", ruling | {"reason": [REASON]}, user=ARBITER)
    await world.ask("POST", "/api/disputes/resolve", ruling, user=VENDOR)
    assert (await world.ask("POST", "/api/disputes/resolve", ruling, user=ARBITER))[0] == 200
    await world.ask("POST", f"/api/disputes/open?claim={CLAIM.replace(' ', '+')}", raw=CLAIM.encode())
    async with asyncio.timeout(PATIENCE_S):
        while name(await world.state(escrow_id)) != "refunded":
            chain.chain.mine(1)
            await asyncio.sleep(0.02)
    await world.ask("GET", f"/api/escrows/{escrow_id}", user="root", rights=(Right.ADMIN,))
    return escrow_id


async def _secrets(node: Node, world: World, escrow_id: EscrowId) -> dict[str, str | bytes]:
    """Everything that must be found nowhere: what was said, what was made, and the keys of all that."""
    store, sealing = node.store, EscrowSecrets(node.store.vault, escrow_id)
    recorded = await read_all(store.log, escrow_id)
    events = [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in recorded]
    money = money_of(await world.state(escrow_id))
    assert money is not None
    # The last exchange's message is the address itself, which is no secret: it stands in the log to be paid.
    texts = {at: text for at, text in (await canaries.opened(events, sealing)).items() if text != money.address}
    wallets = {place: text for place, text in texts.items() if place.startswith(SealedKind.WALLET)}
    for place in wallets:
        own = msgspec.json.decode(texts.pop(place), type=WalletSecrets)
        texts |= {f"password, {place}": own.password, f"identity seed, {place}": own.identity_seed}
    keys: dict[str, str | bytes] = {}
    for kind in (SealedKind.CLAIM, SealedKind.WALLET):
        stored = await store.keys.read(key_of(escrow_id, kind))
        assert stored is not None
        keys[f"key of {kind}"] = store.ring.unwrap(key_of(escrow_id, kind), stored)
    fixed: dict[str, str | bytes] = {
        "ENCRYPTION_KEY": ENCRYPTION_KEY,
        "RPC password": RPC_PASSWORD,
        "issuer key": world.issuer.private_bytes_raw(),
        "token": world.token(BUYER).rpartition(".")[0],
        "picture": await _picture(world, escrow_id),
        "where it was taken": SECRET,
    }
    return {**texts, **keys, **fixed}


async def _backed_up(chain: SimWorld, node: Node, escrow_id: EscrowId) -> dict[str, str | bytes]:
    """What is in the sealed backup of the arbiter's wallet, which lies in the log."""
    made = backup_in(await events_of(node.store, escrow_id))
    backup = open_backup(made.box, private_key=bytes(OFFLINE))
    keys_file = SimFiles(chain.folders[Role.ARBITER]).keys(backup.file)
    assert keys_file == backup.keys_file
    seed = chain.folders[Role.ARBITER].keys[backup.file].seed
    whole = base64.b64encode(keys_file).decode()
    return {"backed up password": backup.password, "keys file": keys_file, "its seed": seed, "in the box": whole}


async def _picture(world: World, escrow_id: EscrowId) -> bytes:
    """Some bytes of a picture that are its own: of its points, and of no table that others have as well."""
    case = (await world.state(escrow_id)).core.case
    assert case is not None
    answer, content = await fetch(world, case.case_id, case.evidence[0].photo_id)
    assert answer.status == 200
    return content[-96:-16]


async def test_secrets_lie_nowhere_in_plain(postgres_dsn: str) -> None:
    stream, connection = io.StringIO(), await asyncpg.connect(postgres_dsn)
    configure_logs(stream=stream)
    try:
        since = await canaries.keep_wal(connection)
        store = await open_store(
            dsn=postgres_dsn, encryption_key=ENCRYPTION_KEY, partitions=4, node_id="n", limits=PATIENT
        )
        chain = SimWorld(store=lambda: store)
        async with chain.running() as node, _house(node) as world:
            escrow_id = await _life(chain, node, world)
            hidden = await _secrets(node, world, escrow_id) | await _backed_up(chain, node, escrow_id)
            told = await _told(store, escrow_id)
            metrics = await world.telemetry.render(world.house)
        await store.aclose()
        kept = {
            "tables": await canaries.tables(connection),
            "dump": await canaries.dump(postgres_dsn),
            "WAL": await canaries.wal(connection, since=since),
        }
        said = {
            "server log": await canaries.server_log(connection),
            "service log": stream.getvalue().encode(),
            "metrics": metrics,
            "replay": told,
        }
    finally:
        structlog.reset_defaults()
        await connection.close()
    assert len(hidden) > 25 and {CLAIM, REASON, NOTES, DESCRIPTION} <= set(hidden.values())
    assert canaries.found({"order": ORDER}, kept) == [("order", place) for place in kept]
    assert canaries.found({"escrow": escrow_id}, said | kept) != []
    assert canaries.found(hidden, kept | said) == []
    assert said["metrics"] and said["service log"].count(b'"event":"request"') >= 10


async def _told(store: Store, escrow_id: EscrowId) -> bytes:
    recorded = await read_all(store.log, escrow_id)
    return b"\n".join([*json_lines(recorded), *(line.encode() for line in story(recorded))])


def test_a_secret_is_found_in_every_form_it_could_lie_in() -> None:
    secret = f"canary {secrets.token_hex(8)}"
    for before in ("", "x", "xy", "xyz"):
        text = f"{before}{secret}{before} and more"
        for place in (
            text.encode(),
            text.encode().hex().encode(),
            text.encode().hex().upper().encode(),
            base64.b64encode(text.encode()),
            base64.urlsafe_b64encode(text.encode()),
            text.encode("utf-16-le"),
        ):
            assert canaries.found({"it": secret}, {"here": b"... " + place + b" ..."}) == [("it", "here")], place
    assert canaries.found({"it": secret}, {"here": secrets.token_bytes(100_000)}) == []
