"""Pictures laid before an arbiter and shown to the three, through the doors."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from PIL import Image

from domain.evidence import EVIDENCE_PER_SIDE_MAX
from domain.ids import Cid, EscrowId
from eventstore.cid import cid_of
from eventstore.evidence_memory import MemoryEvidence
from eventstore.memory import MemoryTables
from eventstore.opening import memory_store, open_store
from service.auth import Right
from tests.evidence_world import PHOTOS, disputed, fetch, lay, photo_form
from tests.given import ARBITER, BUYER, VENDOR
from tests.patience import PATIENT
from tests.pictures import HOSTILE, SECRET, jpeg, png, telling_jpeg, telling_png
from tests.worlds import World, house_world


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    store = None
    if request.param == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        store = await open_store(dsn=dsn, encryption_key=bytes(32), partitions=4, node_id="n", limits=PATIENT)
    async with house_world(store=store) as world:
        yield world


async def _kept(world: World, escrow_id: str) -> list[bytes]:
    """Everything that lies in the store of evidence, as it lies there."""
    store: Any = world.house.store.evidence
    if isinstance(store, MemoryEvidence):
        return [sealed for sealed, _ in store.kept.values()]
    async with world.house.store.pools[-1].acquire() as connection:
        rows = await connection.fetch(
            "select cid, string_agg(data, '' order by number) d from evidence_blocks group by 1"
        )
        return [row["d"] for row in rows]


async def test_a_picture_is_kept_sealed_under_its_cid_and_shown_to_the_three_alone(world: World) -> None:
    escrow_id, case_id = await disputed(world)
    status, added = await lay(world, case_id, telling_jpeg(), user=VENDOR)
    assert status == 200, added
    assert (added["uploader_role"], added["media_type"]) == ("vendor", "image/jpeg")
    assert (added["width"], added["height"]) == (30, 40)  # turned, as the camera was
    (sealed,) = await _kept(world, escrow_id)
    assert added["ipfs_hash"] == cid_of(sealed)
    for user in (BUYER, VENDOR, ARBITER):
        answer, content = await fetch(world, case_id, added["photo_id"], user=user)
        assert answer.status == 200
        assert hashlib.sha256(content).hexdigest() == added["sha256"]
        assert len(content) == added["size"]
    assert SECRET.encode() not in content and content not in sealed
    for stranger, rights in (("mallory", ()), ("root", (Right.ADMIN,)), ("m", (Right.ARBITER,))):
        answer, body = await fetch(world, case_id, added["photo_id"], user=stranger, rights=rights)
        assert (answer.status, msgspec.json.decode(body)["code"]) == (404, "no_such_case")


async def test_what_a_browser_gets_is_a_picture_and_nothing_else() -> None:
    async with house_world() as world:
        _, case_id = await disputed(world)
        for content, media_type, name in ((telling_jpeg(), "image/jpeg", "jpg"), (telling_png(), "image/png", "png")):
            _, added = await lay(world, case_id, content, name='"><script>.html')
            answer, shown = await fetch(world, case_id, added["photo_id"])
            assert answer.headers["Content-Type"] == media_type
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
            assert answer.headers["Content-Disposition"] == f'inline; filename="evidence.{name}"'
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            with Image.open(io.BytesIO(shown)) as image:
                assert not image.getexif() and not set(image.info) - {
                    "jfif",
                    "jfif_version",
                    "jfif_unit",
                    "jfif_density",
                }


async def test_a_case_lists_its_pictures_with_who_laid_them_and_who_was_shown_them_when(world: World) -> None:
    _, case_id = await disputed(world)
    _, first = await lay(world, case_id, description="The box, opened.")
    _, second = await lay(world, case_id, png(), user=VENDOR, description=None)
    await fetch(world, case_id, first["photo_id"], user=ARBITER)
    _, shown = await world.ask("GET", f"/api/disputes/{case_id}", user=VENDOR)
    one, two = shown["photos"]
    for photo, added in ((one, first), (two, second)):
        assert {field: added[field] for field in photo.keys() & added.keys()} == {
            field: photo[field] for field in photo.keys() & added.keys()
        }
    assert (one["description"], two["description"]) == ("The box, opened.", "")
    assert one["shown"]["arbiter"] > one["at"]
    assert (one["shown"]["buyer"], one["shown"]["vendor"], two["shown"]["arbiter"]) == (None, None, None)


async def test_who_was_shown_a_picture_is_in_the_log_once_for_each_however_often_they_look() -> None:
    async with house_world() as world:
        escrow_id, case_id = await disputed(world)
        _, added = await lay(world, case_id)
        before = await world.version(escrow_id)
        looks = [fetch(world, case_id, added["photo_id"], user=user) for user in (ARBITER, BUYER, ARBITER, BUYER)]
        assert {answer.status for answer, _ in await asyncio.gather(*looks)} == {200}
        events = await world.house.store.log.read_stream(escrow_id, after_version=before)
        assert [each.type for each in events] == ["evidence_shown", "evidence_shown"]
        assert sorted(msgspec.json.decode(each.meta)["by"] for each in events) == [BUYER, ARBITER]
        assert {msgspec.json.decode(each.body)["sha256"] for each in events} == {added["sha256"]}


@pytest.mark.parametrize(
    "kind", [kind for kind in HOSTILE if kind in ("nothing", "svg", "a jpeg that is a zip as well")]
)
async def test_what_is_no_picture_is_refused_with_its_code_and_leaves_nothing(kind: str) -> None:
    content, code = HOSTILE[kind]
    async with house_world() as world:
        escrow_id, case_id = await disputed(world)
        before = await world.version(escrow_id)
        status, problem = await lay(world, case_id, content, name="innocent.jpg")
        assert problem["code"] == code and status in (413, 415, 422)
        assert (await world.version(escrow_id), await _kept(world, escrow_id)) == (before, [])


async def test_a_file_above_the_bound_is_refused_before_it_is_sent() -> None:
    async with house_world() as world:
        _, case_id = await disputed(world)
        status, problem = await lay(world, case_id, jpeg() + bytes(11 << 20))
        assert (status, problem["code"]) == (413, "picture_too_large")
        assert problem["facts"]["bytes_max"] == 10 << 20


async def test_a_file_that_says_nothing_of_its_length_is_read_no_further_than_the_bound() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        while True:
            yield bytes(1 << 16)

    async with house_world() as world:
        headers = {"Authorization": f"Bearer {world.token(BUYER)}", "Content-Type": "multipart/form-data; boundary=x"}
        try:
            async with world.client.post(PHOTOS, data=endless(), headers=headers) as answer:
                assert (await answer.json(content_type=None))["code"] == "picture_too_large"
        except (aiohttp.ClientConnectionError, ConnectionError):
            pass  # told while it still sent: the service had stopped listening
        _, case_id = await disputed(world)
        assert (await lay(world, case_id))[0] == 200


async def test_a_form_that_is_none_is_refused_with_what_is_wrong() -> None:
    async with house_world() as world:
        _, case_id = await disputed(world)
        assert (await world.ask("POST", PHOTOS, {"case_id": case_id}))[1]["code"] == "media_type"
        broken = {"Content-Type": "multipart/form-data; boundary=x"}
        for raw in (b"", b"--x", b"--x\r\n\r\n--x--", b"nothing of the kind", b"--x\r\nA\r\n\r\n--x--\r\n"):
            status, problem = await world.ask("POST", PHOTOS, raw=raw, headers=dict(broken))
            assert (status, problem["code"]) in ((400, "body_malformed"), (422, "validation")), raw
        for headers in ({"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/mixed; boundary=x"}):
            status, problem = await world.ask("POST", PHOTOS, raw=b"--x--", headers=headers)
            assert status in (400, 415)
        for change, path in (
            (lambda form: form.add_field("more", "x"), "more"),
            (lambda form: form.add_field("case_id", case_id), "case_id"),
        ):
            form = photo_form(case_id, jpeg())
            change(form)
            assert (await lay(world, case_id, form=form))[1]["facts"]["path"] == path
        empty = aiohttp.FormData({"case_id": case_id}, default_to_multipart=True)
        assert (await lay(world, case_id, form=empty))[1]["facts"]["path"] == "file"
        for form in (photo_form("case_1", jpeg()), photo_form(case_id, jpeg(), description="x" * 1_001)):
            assert (await lay(world, case_id, form=form))[1]["code"] == "validation"


async def test_only_the_parties_of_a_case_lay_pictures_and_only_until_it_is_decided() -> None:
    async with house_world() as world:
        _, case_id = await disputed(world)
        assert (await lay(world, case_id, user=ARBITER))[1]["code"] == "not_a_party"
        assert (await lay(world, case_id, user="mallory"))[1]["code"] == "no_such_case"
        assert (await lay(world, "case_" + "0" * 32))[1]["code"] == "no_such_case"
        undisputed = (await world.funded()).replace("esc_", "case_")
        assert (await lay(world, undisputed))[1]["code"] == "no_such_case"
        decision = {"case_id": case_id, "decision": "refund", "reason": "It was empty."}
        assert (await world.ask("POST", "/api/disputes/resolve", decision, user=ARBITER))[0] == 200
        assert (await lay(world, case_id))[1]["code"] == "case_closed"


async def test_the_same_picture_of_the_same_side_is_told_where_it_is() -> None:
    async with house_world() as world:
        escrow_id, case_id = await disputed(world)
        _, first = await lay(world, case_id)
        status, problem = await lay(world, case_id, description="Once more.")
        assert (status, problem["code"], problem["facts"]["photo_id"]) == (409, "photo_known", first["photo_id"])
        assert (await lay(world, case_id, user=VENDOR))[0] == 200
        assert len(await _kept(world, escrow_id)) == 2


async def test_the_same_request_again_is_answered_as_it_was_and_with_another_picture_not_at_all(world: World) -> None:
    escrow_id, case_id = await disputed(world)
    first = await lay(world, case_id, key="k")
    assert first[0] == 200
    assert await lay(world, case_id, key="k") == first
    assert len(await _kept(world, escrow_id)) == 1
    assert (await lay(world, case_id, png(), key="k"))[1]["code"] == "idempotency_key_reused"
    assert (await lay(world, case_id, key="k", description="x"))[1]["code"] == "idempotency_key_reused"


async def test_one_request_sent_many_times_at_once_lays_one_picture() -> None:
    async with house_world(evidence_transfers_max=40) as world:
        escrow_id, case_id = await disputed(world)
        answers = await asyncio.gather(*(lay(world, case_id, key="k") for _ in range(4)))
        assert {(status, answer["photo_id"]) for status, answer in answers} == {(200, answers[0][1]["photo_id"])}
        state = await world.state(escrow_id)
        assert state.core.case is not None and len(state.core.case.evidence) == 1


async def test_a_user_sends_no_more_pictures_at_once_than_its_share() -> None:
    async with house_world(evidence_transfers_max=4) as world:
        _, case_id = await disputed(world)
        answers = await asyncio.gather(*(lay(world, case_id, jpeg(seed=seed)) for seed in range(1, 7)))
        assert {answer.get("code", "added") for _, answer in answers} == {"added", "busy"}
        assert (await lay(world, case_id, jpeg(seed=9)))[0] == 200  # every place was given back


async def test_other_bytes_in_the_store_are_noticed_and_never_shown() -> None:
    tables = MemoryTables(partitions=4)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        escrow_id, case_id = await disputed(world)
        _, added = await lay(world, case_id)
        kept = MemoryEvidence(tables).kept
        place = (EscrowId(escrow_id), Cid(added["ipfs_hash"]))
        sealed, at = kept[place]
        version = await world.version(escrow_id)
        kept[place] = sealed[:-1] + bytes([sealed[-1] ^ 1]), at
        answer, body = await fetch(world, case_id, added["photo_id"])
        assert (answer.status, msgspec.json.decode(body)["code"]) == (502, "evidence_wrong")
        del kept[place]
        answer, body = await fetch(world, case_id, added["photo_id"])
        assert (answer.status, msgspec.json.decode(body)["code"]) == (503, "evidence_unavailable")
        assert await world.version(escrow_id) == version
        kept[place] = sealed, at
        assert (await fetch(world, case_id, added["photo_id"]))[0].status == 200


async def test_a_picture_of_another_case_or_of_no_name_is_not_there() -> None:
    async with house_world() as world:
        (_, one), (_, other) = await disputed(world), await disputed(world)
        _, added = await lay(world, one)
        for case_id, photo_id in ((other, added["photo_id"]), (one, "photo_" + "0" * 32), (one, "%00"), (one, "x")):
            answer, body = await fetch(world, case_id, photo_id)
            assert (answer.status, msgspec.json.decode(body)["code"]) == (404, "no_such_photo")


async def test_without_its_key_nobody_is_shown_a_picture_and_all_else_is_shown() -> None:
    tables = MemoryTables(partitions=4)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        escrow_id, case_id = await disputed(world)
        _, added = await lay(world, case_id)
    tables.keys[escrow_id] = msgspec.structs.replace(tables.keys[escrow_id], wrapped=None)
    async with house_world(store=memory_store(partitions=4, tables=tables)) as world:
        answer, body = await fetch(world, case_id, added["photo_id"])
        assert (answer.status, msgspec.json.decode(body)["code"]) == (410, "secrets_shredded")
        _, shown = await world.ask("GET", f"/api/disputes/{case_id}")
        assert (shown["photos"][0]["description"], shown["photos"][0]["sha256"]) == (None, added["sha256"])


@pytest.mark.timeout(300)
async def test_a_side_lays_so_many_pictures_and_no_more() -> None:
    async with house_world() as world:
        escrow_id, case_id = await disputed(world)
        for seed in range(EVIDENCE_PER_SIDE_MAX):
            assert (await lay(world, case_id, jpeg(seed=seed)))[0] == 200
        _, problem = await lay(world, case_id, jpeg(seed=99))
        assert (problem["code"], problem["facts"]["photos_max"]) == ("photos_full", EVIDENCE_PER_SIDE_MAX)
        assert len(await _kept(world, escrow_id)) == EVIDENCE_PER_SIDE_MAX
        assert (await lay(world, case_id, user=VENDOR))[0] == 200


async def test_the_metrics_tell_what_became_of_pictures_and_of_nobody() -> None:
    async with house_world() as world:
        _, case_id = await disputed(world)
        for content in (jpeg(), jpeg(), b"", HOSTILE["svg"][0]):
            await lay(world, case_id, content)
        told = (await world.telemetry.render(world.house)).decode()
        for result in ("added", "photo_known", "picture_empty", "picture_kind"):
            assert f'evidence_pictures_total{{result="{result}"}} 1.0' in told
        assert "evidence_transfers 0.0" in told
        assert case_id not in told and BUYER not in told
