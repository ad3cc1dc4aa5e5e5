"""Who may do what in a case: every role at every door of disputes, in a case of their own and in somebody else's."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from domain.ids import UserId
from service.api import cases, disputes, drafts
from service.auth import Right
from service.settings import Arbiter
from tests.given import AMOUNT, ARBITER, BUYER, VENDOR
from tests.worlds import World, house_world

OTHER_ARBITER, ANN = "mara", "ann"
CALLERS: Mapping[str, Mapping[str, Any]] = {
    "buyer": {"user": BUYER},
    "vendor": {"user": VENDOR},
    "arbiter": {"user": ARBITER, "rights": (Right.ARBITER,)},
    "assistant": {"user": ANN, "rights": (Right.ASSISTANT,)},
    "named_without_the_right": {"user": ANN},
    "assistant_of_another": {"user": "ben", "rights": (Right.ASSISTANT,)},
    "other_arbiter": {"user": OTHER_ARBITER, "rights": (Right.ARBITER,)},
    "stranger": {"user": "mallory"},
    "administrator": {"user": "root", "rights": (Right.ADMIN,)},
    "marketplace": {"user": "shop", "rights": (Right.MARKETPLACE,)},
    "every_right": {"user": "mallory", "rights": tuple(Right)},
    "nobody": {"user": None},
}
OURS = ("buyer", "vendor", "arbiter")
WITHOUT_TOKEN = {"nobody": (401, "token_missing")}
NOT_THERE = dict.fromkeys(CALLERS, (404, "no_such_case")) | WITHOUT_TOKEN
OK = (200, None)

# What each caller is answered in the case of alice and bob before judy; who is not named gets what `NOT_THERE` says.
OWN: Mapping[str, Mapping[str, tuple[int, str | None]]] = {
    "open": dict.fromkeys(CALLERS, (404, "no_such_escrow"))
    | WITHOUT_TOKEN
    | {"buyer": (409, "case_exists"), "vendor": (409, "case_exists"), "arbiter": (403, "not_a_party")}
    | dict.fromkeys(("administrator", "every_right"), (403, "not_a_party")),
    "buyer-response": NOT_THERE
    | {"buyer": (409, "already_given")}
    | dict.fromkeys(("vendor", "arbiter", "administrator", "every_right"), (403, "not_the_buyer")),
    "vendor-response": NOT_THERE
    | {"vendor": OK}
    | dict.fromkeys(("buyer", "arbiter", "administrator", "every_right"), (403, "not_the_vendor")),
    "messages": NOT_THERE
    | dict.fromkeys(OURS, OK)
    | dict.fromkeys(("administrator", "every_right"), (403, "not_of_the_case")),
    "review": NOT_THERE
    | {"arbiter": OK}
    | dict.fromkeys(("buyer", "vendor", "administrator", "every_right"), (403, "not_the_arbiter")),
    "statement": NOT_THERE
    | {"arbiter": OK}
    | dict.fromkeys(("buyer", "vendor", "administrator", "every_right"), (403, "not_the_arbiter")),
    "resolve": NOT_THERE
    | {"arbiter": OK}
    | dict.fromkeys(("buyer", "vendor", "administrator", "every_right"), (403, "not_the_arbiter")),
    "show": NOT_THERE | dict.fromkeys((*OURS, "assistant"), OK),
    "drafts": NOT_THERE | dict.fromkeys(("arbiter", "assistant"), OK),
    "show_drafts": NOT_THERE | dict.fromkeys(("arbiter", "assistant"), OK),
    "list": dict.fromkeys(CALLERS, (403, "right_missing")) | WITHOUT_TOKEN | {"arbiter": OK, "assistant": OK},
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    arbiters = tuple(Arbiter(user_id=UserId(user)) for user in (ARBITER, OTHER_ARBITER))
    async with house_world(arbiters=arbiters, max_beta_volume_atomic=10**18) as world:
        for arbiter, assistant in ((ARBITER, ANN), (OTHER_ARBITER, "ben")):
            named = {"assistant": assistant}
            assert (await world.ask("POST", "/api/arbiters/assistants", named, user=arbiter))[0] == 200
        yield world


async def case_of_alice_and_bob(world: World) -> tuple[str, str]:
    escrow_id = await world.funded()
    status, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "An empty box."})
    assert status == 200
    return escrow_id, opened["case_id"]


async def asked(world: World, door: str, escrow_id: str, case_id: str, *, who: str) -> tuple[int, str | None]:
    """Knocks at a door as somebody; returns the status and the code of the refusal."""
    caller: dict[str, Any] = dict(CALLERS[who])
    if door == "show":
        status, answer = await world.ask("GET", f"/api/disputes/{case_id}", **caller)
    elif door == "show_drafts":
        status, answer = await world.ask("GET", f"/api/disputes/{case_id}/drafts", **caller)
    elif door == "list":
        status, answer = await world.ask("GET", f"/api/disputes/arbiter?arbiter_id={ARBITER}", **caller)
    else:
        bodies: dict[str, dict[str, Any]] = {
            "open": {"escrow_id": escrow_id, "claim": "Again."},
            "messages": {"case_id": case_id, "message": "Hear me."},
            "drafts": {"case_id": case_id, "draft": "The receipt decides it."},
            "review": {"case_id": case_id},
            "statement": {"case_id": case_id, "decision": "refund", "reason": "It was empty."},
            "resolve": {"case_id": case_id, "decision": "refund", "reason": "It was empty."},
        }
        body = bodies.get(door, {"case_id": case_id, "claim": "It was full."})
        status, answer = await world.ask("POST", f"/api/disputes/{door}", body, **caller)
    return status, None if status == 200 else answer["code"]


@pytest.mark.parametrize("door", OWN)
async def test_in_a_case_each_role_may_do_its_own_part_and_nothing_else(world: World, door: str) -> None:
    escrow_id, case_id = await case_of_alice_and_bob(world)
    allowed = [who for who in CALLERS if OWN[door][who] == OK]
    refused = [who for who in CALLERS if OWN[door][who] != OK]
    before = await world.version(escrow_id)
    for who in refused:
        assert await asked(world, door, escrow_id, case_id, who=who) == OWN[door][who], who
    assert await world.version(escrow_id) == before, "a refused one changed something"
    for who in allowed:
        assert await asked(world, door, escrow_id, case_id, who=who) == OK, who


@pytest.mark.parametrize("door", [door for door in OWN if door != "list"])
async def test_in_somebody_elses_case_nobody_may_do_anything(world: World, door: str) -> None:
    conflict = {"party": "carol"}  # so that the other arbiter judges it
    assert (await world.ask("POST", "/api/arbiters/conflicts", conflict, user=ARBITER))[0] == 200
    order = {"order_id": "o-theirs", "buyer_id": "carol", "vendor_id": "dave", "amount": AMOUNT}
    status, created = await world.ask("POST", "/api/escrows", order, user="carol")
    assert status == 201
    escrow_id = created["escrow_id"]
    assert (await world.state(escrow_id)).core.terms.arbiter_id == OTHER_ARBITER
    await world.set_up(escrow_id)
    await world.pay_in(escrow_id)
    theirs = {"escrow_id": escrow_id, "claim": "An empty box."}
    status, opened = await world.ask("POST", "/api/disputes/open", theirs, user="carol")
    assert status == 200
    before = await world.version(escrow_id)
    ours = (*OURS, "assistant", "named_without_the_right")
    for who in set(CALLERS) - {"other_arbiter", "assistant_of_another"}:  # who have their own part in it
        expected = OWN[door]["stranger" if who in ours else who]
        assert await asked(world, door, escrow_id, opened["case_id"], who=who) == expected, who
    assert await world.version(escrow_id) == before


@pytest.mark.parametrize("door", [door for door in OWN if door not in ("open", "list")])
async def test_a_case_that_does_not_exist_does_not_exist_for_anybody(world: World, door: str) -> None:
    for who in CALLERS:
        answer = await asked(world, door, f"esc_{'0' * 32}", f"case_{'0' * 32}", who=who)
        assert answer == NOT_THERE[who], who


@pytest.mark.parametrize("door", [door for door in OWN if door not in ("open", "list")])
async def test_an_escrow_without_a_dispute_has_no_case_for_its_own_three_either(world: World, door: str) -> None:
    escrow_id = await world.funded()
    for who in OURS:
        assert await asked(world, door, escrow_id, f"case_{escrow_id[4:]}", who=who) == (404, "no_such_case"), who


def test_every_door_of_disputes_is_in_the_table() -> None:
    paths = {route.path.removeprefix("/api/disputes/") for part in (disputes, cases, drafts) for route in part.routes()}
    assert paths == (set(OWN) - {"show", "show_drafts", "list"}) | {"{case_id}", "{case_id}/drafts", "arbiter"}
