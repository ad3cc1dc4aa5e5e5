"""A closed loop of appenders: each sends its next event as soon as the last one is answered."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

META = b'{"caller":"bench","correlation_id":"0123456789abcdef0123456789abcdef"}'


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one round came to; latencies are those of one event."""

    events_s: float
    p50_ms: float
    p99_ms: float


def random_id() -> str:
    """Makes up 64 hex digits, not of the system's randomness: that took 2 us an event, of ours and of all others."""
    return random.randbytes(32).hex()


def body() -> bytes:
    """Makes the body of an event as long as those of an escrow are, about 400 bytes, none like another."""
    words = b'"amount":1000000000000,"block_hash":"%b","height":3000000,"note":"","one_time_key":"%b","tx_hash":"%b"'
    return b'{"type":"deposit_seen","at":%d,%b,"role":"buyer","confirmations":10,"unlock_time":0}' % (
        time.time_ns() // 1000,
        words % tuple(random_id().encode() for _ in range(3)),
    )


def new_streams(number: int) -> list[str]:
    """Names streams that do not exist yet."""
    return [f"esc_{secrets.token_hex(8)}" for _ in range(number)]


async def drive(append: Callable[[int], Awaitable[None]], *, appenders: int, seconds: float) -> Load:
    """Runs `append(n)` for each n below `appenders`, over and over."""
    took: list[float] = []
    begun = time.perf_counter()

    async def one(appender: int) -> None:
        while (sent := time.perf_counter()) < begun + seconds:
            await append(appender)
            took.append(time.perf_counter() - sent)

    await asyncio.gather(*(one(appender) for appender in range(appenders)))
    return load_of(took, events=len(took), seconds=time.perf_counter() - begun)


def load_of(took: Sequence[float], *, events: int, seconds: float) -> Load:
    """Summarises the seconds that each answer took."""
    ordered = sorted(took)
    return Load(
        events_s=round(events / seconds, 1),
        p50_ms=round(ordered[len(ordered) // 2] * 1000, 3),
        p99_ms=round(ordered[len(ordered) * 99 // 100] * 1000, 3),
    )
