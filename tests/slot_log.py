"""What the service's log tells of slots: who waited, and how long somebody did while a slot of that role was free."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

FREED, GONE = ("slot_free",), ("slot_taken", "slot_unusable", "slot_lease_lost", "slot_left")


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of all roles together; seconds."""

    asked: int
    granted: int
    waited_s: float
    """Sum of what each waited."""
    longest_s: float
    beside_free_s: float
    """In which somebody waited while a healthy slot of that role was free; each role counts for itself."""


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Reads the lines of a log that are events."""
    return [msgspec.json.decode(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]


def waits_in(lines: Iterable[Mapping[str, Any]]) -> Waits:
    """Adds up what a log tells of slots; its lines are in order."""
    lines = [line for line in lines if str(line.get("event")).startswith("slot_")]
    role_of = {line["slot"]: line["role"] for line in lines if "slot" in line and "role" in line}
    granted = [line["waited_s"] for line in lines if line["event"] == "slot_granted"]
    return Waits(
        asked=sum(line["event"] == "slot_asked" for line in lines),
        granted=len(granted),
        waited_s=sum(granted),
        longest_s=max(granted, default=0.0),
        beside_free_s=sum(
            _beside_free_s([line for line in lines if (line.get("role") or role_of.get(line.get("slot"))) == role])
            for role in set(role_of.values())
        ),
    )


def _beside_free_s(lines: Iterable[Mapping[str, Any]]) -> float:
    waiting, free, total, before = set[str](), set[str](), 0.0, 0.0
    for line in lines:
        now = datetime.fromisoformat(line["timestamp"]).timestamp()
        if waiting and free:
            total += now - before
        before = now
        _follow(line, waiting, free)
    return total


def _follow(line: Mapping[str, Any], waiting: set[str], free: set[str]) -> None:
    event = line["event"]
    if event == "slot_asked":
        waiting.add(line["seat"])
    elif event == "slot_granted":
        waiting.discard(line["seat"])
    elif event in FREED:
        free.add(line["slot"])
    elif event in GONE:
        free.discard(line["slot"])
