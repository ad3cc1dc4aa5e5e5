"""Who may lay pictures before an arbiter, and who is shown them: every role, in its own case and in no case."""

import msgspec
import pytest

from tests.evidence_world import fetch, lay
from tests.given import ARBITER, VENDOR
from tests.integration.test_disputes_authorised import (
    ANN,
    CALLERS,
    NOT_THERE,
    OK,
    OURS,
    case_of_alice_and_bob,
    world,
)
from tests.pictures import jpeg
from tests.worlds import World

LAYING = NOT_THERE | {"buyer": OK, "vendor": OK, "arbiter": (403, "not_a_party")}
SHOWN = NOT_THERE | dict.fromkeys((*OURS, "assistant"), OK)

__all__ = ["world"]


async def _laid(world: World, case_id: str, *, who: str) -> tuple[int, str | None]:
    caller = CALLERS[who]
    status, answer = await lay(world, case_id, jpeg(seed=7), user=caller["user"], rights=caller.get("rights", ()))
    return status, None if status == 200 else answer["code"]


async def _fetched(world: World, case_id: str, photo_id: str, *, who: str) -> tuple[int, str | None]:
    caller = CALLERS[who]
    answer, body = await fetch(world, case_id, photo_id, user=caller["user"], rights=caller.get("rights", ()))
    return answer.status, None if answer.status == 200 else msgspec.json.decode(body)["code"]


async def test_only_parties_lay_pictures_and_only_who_may_read_a_case_is_shown_them(world: World) -> None:
    escrow_id, case_id = await case_of_alice_and_bob(world)
    _, added = await lay(world, case_id, user=VENDOR)
    before = await world.version(escrow_id)
    for who in CALLERS:
        if LAYING[who] != OK:
            assert await _laid(world, case_id, who=who) == LAYING[who], who
        if SHOWN[who] != OK:
            assert await _fetched(world, case_id, added["photo_id"], who=who) == SHOWN[who], who
    assert await world.version(escrow_id) == before, "a refused one changed something"
    for who in CALLERS:
        if LAYING[who] == OK:
            assert await _laid(world, case_id, who=who) == OK, who
        if SHOWN[who] == OK:
            assert await _fetched(world, case_id, added["photo_id"], who=who) == OK, who


@pytest.mark.parametrize("who", CALLERS)
async def test_in_a_case_that_does_not_exist_there_are_no_pictures(world: World, who: str) -> None:
    nowhere = f"case_{'0' * 32}"
    assert await _laid(world, nowhere, who=who) == NOT_THERE[who]
    assert await _fetched(world, nowhere, f"photo_{'0' * 32}", who=who) == NOT_THERE[who]


async def test_an_assistant_who_is_shown_a_picture_is_in_the_log_by_name_and_the_arbiter_for_itself(
    world: World,
) -> None:
    escrow_id, case_id = await case_of_alice_and_bob(world)
    _, added = await lay(world, case_id)
    before = await world.version(escrow_id)
    for who in ("assistant", "arbiter", "assistant"):
        assert await _fetched(world, case_id, added["photo_id"], who=who) == OK
    events = await world.house.store.log.read_stream(escrow_id, after_version=before)
    bodies = [msgspec.json.decode(each.body) for each in events]
    assert [(body["by"], body["user"]) for body in bodies] == [("arbiter", ANN), ("arbiter", ARBITER)]
