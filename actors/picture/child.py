"""The process that takes one picture apart: `python -m actors.picture.child`, started by `actors.picture.process`.

The limits come as a line on standard input, the picture after it; what becomes of it goes out as a line, and the clean
picture after that. It holds no secret, and ends when it is done, when it takes too much, or when the service ends.
"""

import ctypes
import os
import resource
import signal
import sys
from typing import Final

import msgspec

from actors.picture.clean import clean
from actors.picture.kinds import BadPicture, PictureLimits
from actors.picture.wire import CleanPicture, Done, Order

NICE: Final = 19
FILES_MAX: Final = 16
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Takes one order and ends."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not stand among the bytes
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    _bound_ourselves(order.limits)
    content = sys.stdin.buffer.read(order.size)
    done, picture = _worked(order, content)
    with os.fdopen(out, "wb") as answers:
        answers.write(msgspec.json.encode(done) + b"\n" + picture)


def _bound_ourselves(limits: PictureLimits) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(NICE)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, FILES_MAX),
        (resource.RLIMIT_DATA, limits.memory_max),
        (resource.RLIMIT_CPU, limits.cpu_s),
    ):
        _, given = resource.getrlimit(what)
        bound = most if given == resource.RLIM_INFINITY else min(most, given)
        resource.setrlimit(what, (bound, bound))


def _worked(order: Order, content: bytes) -> tuple[Done, bytes]:
    try:
        return _told(clean(content, order.kind, limits=order.limits))
    except BadPicture as bad:
        return Done(code=bad.code, facts=bad.facts), b""
    except MemoryError:
        return Done(code="picture_too_hard"), b""


def _told(picture: CleanPicture) -> tuple[Done, bytes]:
    done = Done(media_type=picture.media_type, width=picture.width, height=picture.height, size=len(picture.content))
    return done, picture.content


if __name__ == "__main__":
    main()
