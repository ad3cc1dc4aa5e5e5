"""Forms with a file: read part by part, each bounded, so that nobody's upload is ever in memory beyond its bound."""

import asyncio
from collections.abc import Mapping

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from service.api.door import house_of
from service.problems import Refusal

MULTIPART = "multipart/form-data"
BESIDE_BYTES_MAX = 65_536
"""Of a form, all that is not the file."""
CHUNK_BYTES = 65_536
UTF8_BYTES_MAX = 4
"""Of one character."""
NO_FORM = (
    *(ValueError, LookupError, RuntimeError, AssertionError, ConnectionError),
    *(HttpProcessingError, web.RequestPayloadError, web.HTTPException),
)
"""What the reading of a form raises where it is none, or is packed in a way that nobody can undo."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent: texts by the names of their fields, and the file."""

    texts: Mapping[str, str]
    content: bytes

    def __repr__(self) -> str:
        return "Form(…)"


async def form_of(request: web.Request, *, texts: Mapping[str, int], file: str) -> Form:
    """Reads a form of these texts (with their longest, in characters) and one file, in any order.

    Texts may be left out, the file may not. Raises `Refusal`; the name that a file was sent under is not looked at.
    """
    settings = house_of(request).settings
    if request.content_type != MULTIPART:
        raise Refusal("media_type", facts={"expected": MULTIPART})
    most = settings.evidence_bytes_max + BESIDE_BYTES_MAX
    if request.content_length is not None and request.content_length > most:
        raise Refusal("picture_too_large", facts={"bytes_max": settings.evidence_bytes_max})
    try:
        async with asyncio.timeout(settings.evidence_timeout_s):
            return await _read(request, texts, file, file_bytes_max=settings.evidence_bytes_max)
    except TimeoutError:
        raise Refusal("body_slow", facts={"evidence_timeout_s": settings.evidence_timeout_s}) from None
    except NO_FORM:
        # What the parser says of a form that is none, or that ends before its end; no fault of this service.
        raise Refusal("body_malformed") from None


async def _read(request: web.Request, texts: Mapping[str, int], file: str, *, file_bytes_max: int) -> Form:
    found: dict[str, bytes] = {}
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or name is None or (name != file and name not in texts):
            raise Refusal("validation", detail="Unknown field", facts={"path": (name or "")[:64]})
        if name in found:
            raise Refusal("validation", detail="Given twice", facts={"path": name})
        found[name] = await _part(part, most=file_bytes_max if name == file else texts[name] * UTF8_BYTES_MAX)
        if name == file and len(found[name]) > file_bytes_max:
            raise Refusal("picture_too_large", facts={"bytes_max": file_bytes_max})
    if file not in found:
        raise Refusal("validation", detail="Expected a file", facts={"path": file})
    content = found.pop(file)
    return Form(texts={name: _text(name, raw, most=texts[name]) for name, raw in found.items()}, content=content)


async def _part(part: BodyPartReader, *, most: int) -> bytes:
    """Reads a part, and no further than it takes to see that it is too long."""
    read = bytearray()
    while len(read) <= most and (chunk := await part.read_chunk(CHUNK_BYTES)):
        read += chunk
    return bytes(read)


def _text(name: str, raw: bytes, *, most: int) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Refusal("validation", detail="Expected UTF-8", facts={"path": name}) from None
    if len(text) > most:
        raise Refusal("validation", detail=f"Expected at most {most} characters", facts={"path": name})
    return text
