"""Routes of evidence: a party lays a picture before the arbiter, and the three of the case are shown it."""

import asyncio
import hashlib
import re
from collections.abc import Mapping

import msgspec
from aiohttp import web

from domain.evidence import photo_of
from domain.ids import PhotoId
from domain.states import Evidence
from schemas import requests as r
from schemas.answers import moment
from schemas.evidence import PhotoAdded
from service.api.door import (
    Keyed,
    answer_json,
    caller_of,
    claim_key,
    cursor_of,
    house_of,
    keyed,
    read_part,
    role_in,
)
from service.api.uploads import form_of
from service.api.whose_case import case_acted_in, case_read
from service.auth import Caller
from service.evidence import EvidenceRoom, Offered
from service.problems import Refusal

ROOM = web.AppKey("evidence", EvidenceRoom)
TEXTS = {"case_id": 64, "description": r.DESCRIPTION_MAX}
FILE = "file"
POLICY = "sandbox; default-src 'none'"
"""A picture is nothing but a picture, wherever its address is opened."""
NAMES = {"image/jpeg": "evidence.jpg", "image/png": "evidence.png"}
CHUNK_BYTES = 262_144
_PHOTO_ID = re.compile(r.PHOTO_ID)


def routes() -> list[web.RouteDef]:
    """Lists the routes of this module."""
    return [
        web.post("/api/disputes/photos", add_photo),
        web.get("/api/disputes/{case_id}/photos/{photo_id}", show_photo, allow_head=False),
    ]


async def add_photo(request: web.Request) -> web.Response:
    """Lays a picture before the arbiter of a case."""
    caller = caller_of(request)
    with request.app[ROOM].transfer(caller.user):
        form = await form_of(request, texts=TEXTS, file=FILE)
        body = await photo_body(form.texts, form.content)
        added = await photo_added(request, body, caller, keyed(request, caller, body), content=form.content)
    return answer_json(added)


async def photo_added(
    request: web.Request, body: r.AddPhoto, caller: Caller, by: Keyed, *, content: bytes
) -> PhotoAdded:
    """Takes a picture into its case; raises `Refusal`, and what `EvidenceRoom.add` raises."""
    state = await case_acted_in(request, body.case_id, caller)
    await claim_key(request, by)
    offered = Offered(
        content=content,
        description=body.description,
        by=caller.user,
        command_id=by.command_id,
        body_hash=by.body_hash,
    )
    answer, photo = await request.app[ROOM].add(state, offered)
    return PhotoAdded(
        photo_id=photo.photo_id,
        ipfs_hash=photo.cid,
        uploader_role=photo.by.value,
        at=moment(photo.at),
        sha256=photo.sha256,
        media_type=photo.media_type,
        size=photo.size,
        width=photo.width,
        height=photo.height,
        case_id=body.case_id,
        escrow_id=state.core.terms.escrow_id,
        version=answer.version,
        state=answer.status,
        cursor=cursor_of(answer),
    )


async def photo_body(texts: Mapping[str, str], content: bytes) -> r.AddPhoto:
    """Checks the texts, and adds the file's hash: the same key with another file is another request."""
    body = read_part(dict(texts), r.AddPhoto, at="")
    hashed = await asyncio.to_thread(hashlib.sha256, content)
    return msgspec.structs.replace(body, sha256=hashed.hexdigest())


async def show_photo(request: web.Request) -> web.StreamResponse:
    """Shows a picture to the three of its case and its arbiter's assistants; to all others there is no such case."""
    return await photo_shown(request, caller_of(request))


async def photo_shown(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Sends the picture of the path to whoever may read its case; raises `Refusal`, and as `EvidenceRoom.show` does."""
    room = request.app[ROOM]
    state = await case_read(request, request.match_info["case_id"], caller)
    photo_id = request.match_info["photo_id"]
    photo = photo_of(state.core.case, PhotoId(photo_id)) if _PHOTO_ID.match(photo_id) else None
    if photo is None:
        raise Refusal("no_such_photo")
    with room.transfer(caller.user):
        content = await room.show(state, photo, by=caller.user, assists=role_in(state, caller) is None)
        return await sent(request, photo, content)


async def sent(request: web.Request, photo: Evidence, content: bytes) -> web.StreamResponse:
    """Sends a picture, piece by piece and for no longer than the setting says: its reader may be slow."""
    answer = web.StreamResponse(headers=picture_headers(photo))
    answer.content_length = len(content)
    try:
        async with asyncio.timeout(house_of(request).settings.evidence_timeout_s):
            await answer.prepare(request)
            for at in range(0, len(content), CHUNK_BYTES):
                await answer.write(content[at : at + CHUNK_BYTES])
            await answer.write_eof()
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()  # what has begun cannot be answered otherwise any more
    return answer


def picture_headers(photo: Evidence) -> dict[str, str]:
    """Names the headers that keep a picture a picture, and to whoever asked for it."""
    return {
        "Content-Type": photo.media_type,
        "Content-Disposition": f'inline; filename="{NAMES[photo.media_type]}"',
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
