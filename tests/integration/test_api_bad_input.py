"""Bad input: each kind has its status and code, and changes nothing."""

import asyncio
import base64
import gzip
import json
import time
import warnings
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from domain.ids import UserId
from domain.roles import Role
from schemas.address import AddressKind, ParsedAddress, decode_address, encode_address
from service.auth import Right, issue_token
from tests.given import ADDRESS, AMOUNT, ARBITER, BUYER, VENDOR
from tests.worlds import World, address_of, house_world, public_key

ORDER = {"order_id": "o-1", "buyer_id": BUYER, "vendor_id": VENDOR, "amount": AMOUNT}
PLACEHOLDER = encode_address(
    ParsedAddress(kind=AddressKind.STANDARD, network="regtest", spend_key="01" + "00" * 31, view_key=public_key(9))
)
"""What an unfinished multisig wallet shows: its row of 1s is a key that nobody holds."""
INTEGRATED = AddressKind.INTEGRATED


async def refused(
    world: World, status: int, code: str, method: str, path: str, body: object = None, **more: Any
) -> Any:
    """Asks for something that must be refused with this status and code, leaving the whole log as it is."""
    before = [head.position for head in await world.house.store.log.heads()]
    got, problem = await world.ask(method, path, body, **more)
    assert (got, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["title"]
    assert [head.position for head in await world.house.store.log.heads()] == before, "something was recorded"
    return problem


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "body_malformed"),
        (b'{"order_id": "o-1",}', 400, "body_malformed"),
        (b"\xff\xfe", 400, "body_malformed"),
        (b'{"seats": {"buyer": ' + b"[" * 60_000, 422, "validation"),
        (b"null", 422, "validation"),
        (b"[]", 422, "validation"),
        (b"", 422, "validation"),
    ],
    ids=["cut off", "comma", "no text", "deep", "null", "list", "empty"],
)
async def test_a_body_that_is_no_object_of_json_is_refused(raw: bytes, status: int, code: str) -> None:
    async with house_world() as world:
        await refused(world, status, code, "POST", "/api/escrows", raw=raw)


@pytest.mark.parametrize("amount", [1.0, 2.5, -1, 0, 2**63, 2**64 + 1, 10**40, "5", True, None, [1]])
async def test_an_amount_that_is_no_positive_whole_number_below_2_to_63_is_refused(amount: object) -> None:
    async with house_world() as world:
        problem = await refused(world, 422, "validation", "POST", "/api/escrows", ORDER, raw=_with(amount=amount))
        assert problem["facts"]["path"] == "amount"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"surprise": 1}, ""),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "a b"}, "order_id"),
        ({"order_id": "x" * 129}, "order_id"),
        ({"buyer_id": "alice\n"}, "buyer_id"),
        ({"vendor_id": 7}, "vendor_id"),
        ({"seats": {"witness": "pool"}}, ""),
        ({"seats": {"buyer": "cellar"}}, "seats"),
    ],
)
async def test_a_field_of_the_wrong_form_is_refused_and_named(change: dict[str, object], path: str) -> None:
    async with house_world() as world:
        problem = await refused(world, 422, "validation", "POST", "/api/escrows", raw=_with(**change))
        assert path in problem["facts"]["path"]


@pytest.mark.parametrize("kind", ["relay", "registered"])
async def test_a_seat_that_nobody_could_take_is_refused(kind: str) -> None:
    async with house_world() as world:
        body = ORDER | {"seats": {"vendor": kind}}
        problem = await refused(world, 422, "seat_kind_unavailable", "POST", "/api/escrows", body)
        assert problem["facts"] == {"role": "vendor", "kind": kind}


async def test_an_order_is_created_by_a_marketplace_or_one_of_its_parties_only() -> None:
    async with house_world() as world:
        await refused(world, 403, "not_a_party", "POST", "/api/escrows", ORDER, user="mallory")
        await refused(world, 403, "not_a_party", "POST", "/api/escrows", ORDER, user="root", rights=(Right.ADMIN,))
        status, _ = await world.ask("POST", "/api/escrows", ORDER, user="shop", rights=(Right.MARKETPLACE,))
        assert status == 201


async def test_buyer_vendor_and_arbiter_are_three_people() -> None:
    async with house_world() as world:
        await refused(world, 422, "three_must_differ", "POST", "/api/escrows", ORDER | {"vendor_id": BUYER})
        await refused(world, 422, "three_must_differ", "POST", "/api/escrows", ORDER | {"vendor_id": ARBITER})


async def test_the_body_must_be_json_by_its_name() -> None:
    async with house_world() as world:
        headers = {"Content-Type": "text/plain"}
        await refused(world, 415, "media_type", "POST", "/api/escrows", ORDER, headers=headers)


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_that_is_too_large_is_refused(told: bool) -> None:
    async with house_world(body_max=2_000) as world:
        large = _with(order_id="x" * 3_000)
        if told:
            await refused(world, 413, "body_too_large", "POST", "/api/escrows", raw=large)
            return

        async def in_pieces() -> Any:
            for start in range(0, len(large), 500):
                yield large[start : start + 500]

        headers = {"Authorization": f"Bearer {world.token(BUYER)}", "Content-Type": "application/json"}
        async with world.client.post("/api/escrows", data=in_pieces(), headers=headers) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (413, "body_too_large")


async def test_a_body_that_unpacks_to_too_much_or_to_nothing_is_refused() -> None:
    async with house_world() as world:
        bomb = {"Content-Encoding": "gzip"}
        raw = gzip.compress(_with(order_id="x" * 50_000_000))
        assert len(raw) < 65_536
        await refused(world, 413, "body_too_large", "POST", "/api/escrows", raw=raw, headers=bomb)
        status, _ = await world.ask("POST", "/api/escrows", raw=gzip.compress(_with()), headers=bomb)
        assert status == 201


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with house_world(body_timeout_s=0) as world:
        answered = asyncio.Event()

        async def slow() -> Any:
            yield b"{"
            await answered.wait()
            yield b"}"

        headers = {"Authorization": f"Bearer {world.token(BUYER)}", "Content-Type": "application/json"}
        async with world.client.post("/api/escrows", data=slow(), headers=headers) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == (408, "body_slow")
            answered.set()


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (address_of(Role.BUYER, network="stagenet"), "address_network"),
        (address_of(Role.BUYER, network="testnet"), "address_network"),
        (address_of(Role.BUYER)[:-1] + "1", "address_checksum"),
        (address_of(Role.BUYER, kind=INTEGRATED), "address_integrated"),
        (PLACEHOLDER, "address_placeholder"),
        ("41fJjQDhryD" + "1" * 84, "address_checksum"),
        ("4" * 95, "address_checksum"),
        ("nonsense", "address_malformed"),
        ("0OIl" * 20, "address_malformed"),
        ("", "validation"),
        ("4" * 129, "validation"),
    ],
)
async def test_an_address_that_cannot_be_paid_is_refused_and_never_repeated(address: str, code: str) -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        path = f"/api/escrows/{escrow_id}/payout-address"
        problem = await refused(world, 422, code, "PUT", path, {"address": address})
        assert not address or address not in json.dumps(problem)


async def test_the_escrows_own_address_is_no_payout_address() -> None:
    async with house_world() as world:
        escrow_id = await world.funded()
        path = f"/api/escrows/{escrow_id}/payout-address"
        own = decode_address(ADDRESS)
        spelled_otherwise = encode_address(msgspec.structs.replace(own, kind=AddressKind.SUBADDRESS))
        for address in (ADDRESS, spelled_otherwise):
            await refused(world, 422, "payout_address_is_escrow", "PUT", path, {"address": address})


async def test_no_party_acts_for_another() -> None:
    async with house_world() as world:
        escrow_id = await world.funded()
        at = f"/api/escrows/{escrow_id}"
        await refused(world, 403, "not_the_vendor", "POST", f"{at}/ship", user=BUYER)
        await refused(world, 403, "not_the_vendor", "POST", f"{at}/ship", user=ARBITER)
        await refused(world, 403, "not_the_vendor", "POST", f"{at}/refund", user=BUYER)
        await refused(world, 403, "not_the_buyer", "POST", f"{at}/confirm-delivery", user=VENDOR)
        await refused(world, 403, "not_a_party", "POST", f"{at}/cancel", user=ARBITER)
        await refused(world, 403, "not_a_party", "POST", f"{at}/agreements", {"buyer_share_bp": 1}, user=ARBITER)
        claim = {"escrow_id": escrow_id, "claim": "mine"}
        await refused(world, 403, "not_a_party", "POST", "/api/disputes/open", claim, user=ARBITER)
        _, opened = await world.ask("POST", "/api/disputes/open", claim)
        verdict = {"case_id": opened["case_id"], "decision": "release", "reason": "mine"}
        await refused(world, 403, "not_the_arbiter", "POST", "/api/disputes/resolve", verdict, user=VENDOR)
        admin = {"user": "root", "rights": (Right.ADMIN,)}
        await refused(world, 403, "not_the_arbiter", "POST", "/api/disputes/resolve", verdict, **admin)
        words = {"case_id": opened["case_id"], "message": "mine"}
        await refused(world, 403, "not_of_the_case", "POST", "/api/disputes/messages", words, **admin)


async def test_a_stranger_finds_nothing_whatever_they_ask() -> None:
    async with house_world() as world:
        escrow_id = await world.funded()
        at, stranger = f"/api/escrows/{escrow_id}", {"user": "mallory"}
        for action in ("ship", "confirm-delivery", "refund", "cancel", "agreements/1/accept"):
            await refused(world, 404, "no_such_escrow", "POST", f"{at}/{action}", **stranger)
        address = {"address": address_of(Role.BUYER)}
        await refused(world, 404, "no_such_escrow", "PUT", f"{at}/payout-address", address, **stranger)
        await refused(world, 404, "no_such_escrow", "GET", at, **stranger)
        claim = {"escrow_id": escrow_id, "claim": "mine"}
        await refused(world, 404, "no_such_escrow", "POST", "/api/disputes/open", claim, **stranger)
        _, opened = await world.ask("POST", "/api/disputes/open", claim)
        verdict = {"case_id": opened["case_id"], "decision": "release", "reason": "mine"}
        await refused(world, 404, "no_such_case", "POST", "/api/disputes/resolve", verdict, **stranger)
        await refused(world, 404, "no_such_escrow", "GET", "/api/escrows/esc_unknown")
        await refused(world, 404, "no_such_escrow", "GET", f"/api/escrows/esc_{'0' * 32}")


async def test_a_command_in_the_wrong_state_is_refused() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        at = f"/api/escrows/{escrow_id}"
        await refused(world, 409, "wrong_state", "POST", f"{at}/ship", user=VENDOR)
        await refused(world, 409, "wrong_state", "POST", f"{at}/confirm-delivery")
        await refused(world, 409, "wrong_state", "POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "c"})
        no_case = {"case_id": f"case_{escrow_id[4:]}", "decision": "refund", "reason": "r"}
        await refused(world, 404, "no_such_case", "POST", "/api/disputes/resolve", no_case, user=ARBITER)
        await refused(world, 409, "nothing_to_pay", "POST", f"{at}/agreements", {"buyer_share_bp": 1})
        await world.ask("POST", f"{at}/cancel")
        await refused(world, 409, "wrong_state", "POST", f"{at}/cancel")


async def test_after_a_deposit_was_seen_nobody_cancels() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        await world.set_addresses(escrow_id)
        await world.set_up(escrow_id)
        await world.pay_in(escrow_id, amount=AMOUNT // 2)
        await refused(world, 409, "deposit_seen", "POST", f"/api/escrows/{escrow_id}/cancel")


@pytest.mark.parametrize("body", [{}, {"buyer_share_bp": 1, "ship_until": "2030-01-01T00:00:00Z"}])
async def test_an_agreement_offers_exactly_one_thing(body: dict[str, object]) -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        await refused(world, 422, "validation", "POST", f"/api/escrows/{escrow_id}/agreements", body)


@pytest.mark.parametrize("number", ["0", "-1", "1.0", "x", "9" * 30, "%D9%A1"])
async def test_an_agreement_is_named_by_its_number(number: str) -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        path = f"/api/escrows/{escrow_id}/agreements/{number}/accept"
        await refused(world, 404, "agreement_none", "POST", path, user=VENDOR)


@pytest.mark.parametrize(
    "query", ["state=gone", "role=witness", "limit=0", "limit=1e9", "limit=101", "colour=red", "limit=1&limit=2"]
)
async def test_a_filter_that_means_nothing_is_refused(query: str) -> None:
    async with house_world() as world:
        await refused(world, 422, "validation", "GET", f"/api/escrows?{query}")
        await refused(world, 400, "cursor_invalid", "GET", "/api/escrows?after=esc_1")


async def test_unknown_addresses_and_methods_are_problems_too() -> None:
    async with house_world() as world:
        await refused(world, 404, "not_found", "GET", "/api/nothing")
        await refused(world, 405, "method_not_allowed", "PATCH", "/api/escrows")


# -- tokens --------------------------------------------------------------------------------------------------


def _forged(header: dict[str, object], claims: dict[str, object], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _tokens(world: World) -> dict[str, str]:
    now = int(time.time())
    claims: dict[str, object] = {"sub": BUYER, "exp": now + 600}
    public = world.issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = world.issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    good = world.token(BUYER)
    head, body, signature = good.split(".")
    changed = _forged({}, {"sub": BUYER, "exp": now + 600, "rights": ["admin"]}).split(".")[1]
    other = Ed25519PrivateKey.generate()
    return {
        "unsigned": _forged({"alg": "none", "typ": "JWT"}, claims),
        "unsigned, no name": _forged({}, claims),
        "signature cut off": f"{head}.{body}.",
        "signed by another key": issue_token(other, sub=UserId(BUYER), ttl_s=600),
        "HS256 with the public key": jwt.encode(
            {"alg": "HS256"}, claims, OctKey.import_key(public), algorithms=["HS256"]
        ),
        "HS256 with its PEM": jwt.encode(
            {"alg": "HS256"}, claims, OctKey.import_key(base64.b64encode(pem)), algorithms=["HS256"]
        ),
        "alg changed to HS256": f"{_forged({'alg': 'HS256'}, {}).split('.')[0]}.{body}.{signature}",
        "claims changed": f"{head}.{changed}.{signature}",
        "no expiry": _signed(world, {"sub": BUYER}),
        "no user": _signed(world, {"exp": now + 600}),
        "a user of odd letters": _signed(world, {"sub": "a b\n", "exp": now + 600}),
        "expiry as text": _signed(world, {"sub": BUYER, "exp": "tomorrow"}),
        "not valid yet": _signed(world, {"sub": BUYER, "exp": now + 600, "nbf": now + 300}),
        "five parts": "a.b.c.d.e",
        "nonsense": "nonsense",
        "too long": good + "A" * 5_000,
    }


def _signed(world: World, claims: dict[str, object]) -> str:
    return jwt.encode({"alg": "Ed25519"}, claims, OKPKey.import_key(world.issuer), algorithms=["Ed25519"])


async def test_a_token_that_is_not_the_issuers_proves_nothing() -> None:
    async with house_world() as world:
        escrow_id = await world.create()
        for case, token in _tokens(world).items():
            for path in ("/api/escrows", f"/api/escrows/{escrow_id}"):
                headers = {"Authorization": f"Bearer {token}"}
                status, problem = await world.ask("GET", path, headers=headers)
                assert (status, problem["code"]) == (401, "token_invalid"), case
                assert token not in json.dumps(problem)
        await refused(world, 401, "token_invalid", "GET", "/api/escrows", headers={"Authorization": "Basic YTpi"})
        await refused(world, 401, "token_missing", "GET", "/api/escrows", user=None)
        await refused(world, 401, "token_missing", "POST", f"/api/escrows/{escrow_id}/ship", user=None)


async def test_a_token_ends_when_it_says() -> None:
    async with house_world() as world:
        past = int(time.time()) - 700
        token = issue_token(world.issuer, sub=UserId(BUYER), ttl_s=600, now_s=past)
        headers = {"Authorization": f"Bearer {token}"}
        await refused(world, 401, "token_expired", "GET", "/api/escrows", headers=headers)


async def test_a_token_under_the_old_name_of_its_signature_is_taken() -> None:
    async with house_world() as world:
        claims = {"sub": BUYER, "exp": int(time.time()) + 600}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            token = jwt.encode({"alg": "EdDSA"}, claims, OKPKey.import_key(world.issuer), algorithms=["EdDSA"])
        status, _ = await world.ask("GET", "/api/escrows", headers={"Authorization": f"Bearer {token}"})
        assert status == 200


def _with(**changes: object) -> bytes:
    return json.dumps(ORDER | changes).encode()
