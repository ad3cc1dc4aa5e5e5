"""Cursors: an opaque mark of how far in the log something is, a position for some of its partitions."""

import base64
import binascii
from collections.abc import Mapping

import msgspec

CURSOR_MAX = 16_384
"""Characters; a vector over the most partitions a log may have is shorter."""
_decoder = msgspec.json.Decoder(dict[int, int])


class BadCursor(Exception):
    """A text that is no cursor of ours."""


def encode_cursor(positions: Mapping[int, int]) -> str:
    """Writes positions by partition as base64url of their JSON, in order of partition, without padding."""
    body = msgspec.json.encode(dict(sorted(positions.items())))
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def decode_cursor(text: str) -> dict[int, int]:
    """Reads positions by partition; raises `BadCursor`."""
    if len(text) > CURSOR_MAX:
        raise BadCursor
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        return _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeEncodeError, binascii.Error, msgspec.DecodeError):
        raise BadCursor from None
