"""What a file is, by its content: cheap enough to be told before anything is taken apart."""

from enum import StrEnum
from typing import Final

import filetype
import msgspec

SNIFFED_BYTES: Final = 8_192
"""Of the beginning, as much as any signature needs."""


class PictureKind(StrEnum):
    """Kinds that are taken, by the name their decoder has."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    GIF = "GIF"
    """Its first picture."""


class BadPicture(Exception):
    """Why something is not taken as a picture: a stable code, and facts about it."""

    def __init__(self, code: str, **facts: str | int) -> None:
        super().__init__(code)
        self.code, self.facts = code, facts


class PictureLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what is taken, and of what taking it apart may cost."""

    bytes_max: int = 10 << 20
    """Of the file that is sent, and of the picture that is made of it."""
    pixels_max: int = 25_000_000
    """Width times height: the cameras of today's phones give up to 24.5 million."""
    side_max: int = 20_000
    """Pixels of width or height."""
    memory_max: int = 640 << 20
    """What the process that takes it apart may hold, in bytes."""
    cpu_s: int = 30
    """How long that process may compute."""
    wall_s: float = 60.0
    """How long it is waited for."""


_KINDS: Final = {
    "image/jpeg": PictureKind.JPEG,
    "image/png": PictureKind.PNG,
    "image/apng": PictureKind.PNG,
    "image/webp": PictureKind.WEBP,
    "image/gif": PictureKind.GIF,
}


def kind_of(content: bytes, *, limits: PictureLimits) -> PictureKind:
    """Tells the kind of a file by how it begins; raises `BadPicture` for what is not taken."""
    if not content:
        raise BadPicture("picture_empty")
    if len(content) > limits.bytes_max:
        raise BadPicture("picture_too_large", bytes_max=limits.bytes_max)
    found = filetype.guess(content[:SNIFFED_BYTES])
    kind = _KINDS.get(found.mime) if found is not None else None
    if kind is None:
        raise BadPicture("picture_kind", taken="jpeg, png, webp, gif")
    return kind
