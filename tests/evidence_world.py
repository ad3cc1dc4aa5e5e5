"""Evidence through the doors: a case of the test's own, and hands that lay pictures before its arbiter."""

import io
from typing import Any

import aiohttp
import msgspec

from tests.given import BUYER
from tests.pictures import jpeg
from tests.worlds import World

PHOTOS = "/api/disputes/photos"


async def disputed(world: World) -> tuple[str, str]:
    """Opens a case and returns the ids of its escrow and its own."""
    escrow_id = await world.funded()
    status, opened = await world.ask("POST", "/api/disputes/open", {"escrow_id": escrow_id, "claim": "An empty box."})
    assert status == 200, opened
    return escrow_id, opened["case_id"]


def photo_form(case_id: str, content: bytes, *, description: str | None = "The box.", name: str = "x.bin") -> Any:
    form = aiohttp.FormData()
    form.add_field("case_id", case_id)
    if description is not None:
        form.add_field("description", description)
    form.add_field("file", io.BytesIO(content), filename=name, content_type="application/octet-stream")
    return form


async def lay(
    world: World,
    case_id: str,
    content: bytes | None = None,
    *,
    user: str | None = BUYER,
    rights: Any = (),
    key: str | None = None,
    form: Any = None,
    **more: Any,
) -> tuple[int, Any]:
    """Sends a picture as a user; returns status and the decoded answer."""
    headers = _authorised(world, user, rights) | ({"Idempotency-Key": key} if key else {})
    data = form or photo_form(case_id, jpeg() if content is None else content, **more)
    async with world.client.post(PHOTOS, data=data, headers=headers) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


async def fetch(
    world: World, case_id: str, photo_id: str, *, user: str | None = BUYER, rights: Any = ()
) -> tuple[Any, bytes]:
    """Fetches a picture as a user; returns the answer, its headers to be looked at, and the bytes."""
    headers = _authorised(world, user, rights)
    async with world.client.get(f"/api/disputes/{case_id}/photos/{photo_id}", headers=headers) as answer:
        return answer, await answer.read()


def _authorised(world: World, user: str | None, rights: Any) -> dict[str, str]:
    return {} if user is None else {"Authorization": f"Bearer {world.token(user, *rights)}"}
