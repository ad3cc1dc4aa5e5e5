"""Pictures taken apart in a process of their own, so that none, however hostile, slows the service or ends it."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec
import structlog

from actors.picture.kinds import BadPicture, PictureLimits, kind_of
from actors.picture.wire import JPEG, LINE_BYTES_MAX, PNG, CleanPicture, Done, Order

log = structlog.get_logger(__name__)

CHILD: Final = "actors.picture.child"
"""The module that the process runs."""
TOO_HARD: Final = "picture_too_hard"
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""Of the service's environment; the rest holds keys and passwords that a reader of hostile input needs none of."""
_CODE: Final = Path(__file__).resolve().parents[2]
_END_LIMIT_S: Final = 30.0


async def cleaned_apart(content: bytes, *, limits: PictureLimits, child: str = CHILD) -> CleanPicture:
    """Makes a clean picture of a stranger's in another process, which does not outlive the call.

    Raises `BadPicture`, also when the process took more than `limits` let it, and `OSError` when none can be started.
    """
    kind = kind_of(content, limits=limits)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-B", "-m", child),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=LINE_BYTES_MAX,
        env=_environment(),
        cwd="/",
        start_new_session=True,
    )
    pidfd = os.pidfd_open(process.pid)
    try:
        async with asyncio.timeout(limits.wall_s):
            return await _told(process, Order(kind=kind, size=len(content), limits=limits), content)
    except (TimeoutError, EOFError, ValueError, OSError) as failure:
        # `ValueError`: a line without an end, or one that says what it cannot. Whoever says so has been taken over.
        log.warning("picture_gave_no_answer", reason=type(failure).__name__)
        raise BadPicture(TOO_HARD) from None
    finally:
        await _end(process, pidfd)


async def _told(process: asyncio.subprocess.Process, order: Order, content: bytes) -> CleanPicture:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(msgspec.json.encode(order) + b"\n")
    process.stdin.write(content)
    with contextlib.suppress(ConnectionError):  # it may have ended early, and said why
        await process.stdin.drain()
    done = msgspec.json.decode(await process.stdout.readline(), type=Done)
    if done.code:
        raise BadPicture(done.code, **done.facts)
    if done.media_type not in (JPEG, PNG) or not 0 < done.size <= order.limits.bytes_max:
        raise ValueError("no picture")
    made = await process.stdout.readexactly(done.size)
    return CleanPicture(content=made, media_type=done.media_type, width=done.width, height=done.height)


async def _end(process: asyncio.subprocess.Process, pidfd: int) -> None:
    """Kills it by its pid and returns when it is gone."""
    # Not by the process object: where it died at this very moment, that reaps it under asyncio's own hands.
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(ConnectionError):  # what was not taken yet never will be
        await process.stdin.wait_closed()
    with contextlib.suppress(TimeoutError):  # a process that outlasts SIGKILL hangs in the kernel
        async with asyncio.timeout(_END_LIMIT_S):
            await process.communicate()  # reads what is left in the pipe: only then is that closed


def _environment() -> dict[str, str]:
    """Returns the child's environment: enough to run the code that the service runs, wherever that lies."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return passed | {"PYTHONPATH": str(_CODE)}
