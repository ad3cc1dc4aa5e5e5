"""What is said to the process that takes a picture apart, and what it says; nothing here knows a decoder."""

import msgspec

from actors.picture.kinds import PictureKind, PictureLimits

LINE_BYTES_MAX = 4_096
JPEG, PNG = "image/jpeg", "image/png"
"""Media types that come out."""


class CleanPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that holds its pixels and nothing else."""

    content: bytes
    media_type: str
    width: int
    height: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: a line, and after it so many bytes of a picture."""

    kind: PictureKind
    size: int
    limits: PictureLimits


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it: a line, with the code of a refusal, or with so many bytes of a clean picture after it."""

    code: str = ""
    facts: dict[str, str | int] = {}
    media_type: str = ""
    width: int = 0
    height: int = 0
    size: int = 0
