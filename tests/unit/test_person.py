"""Somebody who uses the API: told to come later, they ask the same again; refused, they do not."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from service.commands import stage
from service.commands.stage import Person, Refusal


class Door:
    """Answers from a list, and remembers under which keys it was asked."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.keys: list[str | None] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        return self.answers.pop(0)


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setattr(stage, "AGAIN_S", 0.001)
    door, app = Door(), web.Application()
    app.router.add_route("*", "/{path:.*}", door.handle)
    async with TestServer(app) as server:
        door.url = str(server.make_url("/"))
        yield door


def problem(status: int, code: str) -> web.Response:
    return web.json_response({"code": code}, status=status, content_type="application/problem+json")


async def test_what_was_answered_later_is_asked_again_under_the_same_key(door: Door) -> None:
    proxys = web.Response(status=503, text="<html>No server is available</html>", content_type="text/html")
    door.answers = [problem(503, "busy"), problem(503, "unavailable"), proxys, web.json_response({"state": "funded"})]
    async with ClientSession() as session:
        person = Person("alice", token="t", api=door.url, session=session)
        assert await person.post("ship") == {"state": "funded"}
    assert len(door.keys) == 4 and len(set(door.keys)) == 1 and door.keys[0] is not None


@pytest.mark.parametrize(("status", "code"), [(409, "wrong_state"), (503, "maintenance")])
async def test_what_was_refused_is_not_asked_again(door: Door, status: int, code: str) -> None:
    door.answers = [problem(status, code)]
    async with ClientSession() as session:
        with pytest.raises(Refusal) as refused:
            await Person("alice", token="t", api=door.url, session=session).get("escrow")
    assert (refused.value.status, refused.value.code, door.keys) == (status, code, [None])
