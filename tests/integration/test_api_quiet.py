"""What the doors say about themselves: logs and metrics that name nobody and hold nothing secret."""

import io
import json
import re

import structlog

from domain.roles import THREE, Role
from service.auth import Right
from service.logs import configure_logs
from service.telemetry import Telemetry
from tests.given import ADDRESS, ARBITER, BUYER, VENDOR
from tests.worlds import HASH, PAYOUT_HASH, World, address_of, house_world

CLAIM = "The parcel held a brick instead of the watch."


async def _play(world: World) -> tuple[list[str], list[str]]:
    """Plays a life with a dispute; returns the escrows' ids and all tokens that were used."""
    tokens = [world.token(user) for user in (BUYER, VENDOR, ARBITER)]
    released, disputed = await world.released(), await world.funded()
    _, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": disputed, "claim": CLAIM})
    decision = {"case_id": opened["case_id"], "decision": "refund", "reason": CLAIM}
    await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER)
    for token in tokens:
        await world.ask(
            "GET", f"/api/escrows?order=order-1&token={token}", headers={"Authorization": f"Bearer {token}"}
        )
    await world.ask("GET", "/api/escrows", headers={"Authorization": "Bearer nonsense"})
    await world.ask("PUT", f"/api/escrows/{disputed}/payout-address", {"address": address_of(Role.BUYER)[:-1] + "1"})
    return [released, disputed], tokens


async def test_a_whole_life_leaves_nothing_secret_in_the_logs() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    try:
        async with house_world() as world:
            escrows, tokens = await _play(world)
            key = world.issuer.private_bytes_raw().hex()
    finally:
        structlog.reset_defaults()
    written = stream.getvalue()
    addresses = [ADDRESS, *(address_of(role) for role in THREE)]
    for secret in (*addresses, *tokens, key, CLAIM, HASH, PAYOUT_HASH, "order-1"):
        assert secret not in written
    assert not re.search(r"[0-9a-fA-F]{64}|[1-9A-HJ-NP-Za-km-z]{90,}|eyJ", written)
    records = [json.loads(line) for line in written.splitlines()]
    requests = [record for record in records if record["event"] == "request"]
    assert len(requests) > 15
    assert all(record["correlation_id"] and record["ms"] >= 0 for record in requests)
    assert {record["route"] for record in requests} >= {"/api/escrows", "/api/escrows/{escrow_id}/ship"}
    assert not any(escrow in json.dumps(record) for record in requests for escrow in escrows)


async def test_an_answer_carries_the_id_of_its_log_lines() -> None:
    async with house_world() as world:
        async with world.client.get("/health", headers={"X-Correlation-Id": "mine-12345678"}) as answer:
            assert answer.headers["X-Correlation-Id"] == "mine-12345678"
            assert answer.headers["Cache-Control"] == "no-store"
        async with world.client.get("/nowhere") as answer:
            assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Correlation-Id"])


async def test_metrics_count_and_name_nobody() -> None:
    async with house_world() as world:
        escrows, _ = await _play(world)
        world.telemetry.observe_wallet_call("open_wallet", 0.2, True)
        world.telemetry.observe_wallet_call("open_wallet", 0.2, False)
        await world.ask("GET", "/api/escrows", user="root", rights=(Right.ADMIN,))
        shown = (await world.telemetry.render(world.house)).decode()
        for line in (
            "escrows_created_total 2.0",
            "escrows_total 2.0",
            'escrows_by_status{status="completed"} 1.0',
            'escrows_by_status{status="refunding"} 1.0',
            "disputes_opened_total 1.0",
            "funds_released_total 1.0",
            "escrow_failures_total 0.0",
            'monero_rpc_requests_total{method="open_wallet",status="success"} 1.0',
            'monero_rpc_requests_total{method="open_wallet",status="error"} 1.0',
            'projection_lag_events{model="escrows"} 0.0',
            'projection_stopped{model="escrows"} 0.0',
            "escrow_actors_awake 2.0",
        ):
            assert line in shown.splitlines(), line
        appended = re.search(r"log_append_seconds_count (\S+)", shown)
        assert appended is not None
        assert float(appended[1]) > 20
        for secret in (*escrows, BUYER, VENDOR, ARBITER, ADDRESS, "order-1"):
            assert secret not in shown


async def test_metrics_are_served_on_loopback() -> None:
    async with house_world() as world:
        server = await Telemetry().serve(world.house, port=0)
        try:
            assert server.socket.addr == "127.0.0.1"
            async with world.client.session.get(f"{server.url}metrics") as answer:
                assert answer.status == 200
                assert "escrows_total 0.0" in await answer.text()
        finally:
            await server.close()
