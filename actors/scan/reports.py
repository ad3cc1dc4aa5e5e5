"""What was left out of the views, and why: the newest by name, all of them by number."""

from collections import Counter, deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

REPORTS_MAX: Final = 100


class ReportKind(StrEnum):
    """Why something was left out of every view."""

    FALSE_AMOUNT = "false_amount"
    UNREADABLE = "unreadable"
    BAD_KEY_IMAGE = "bad_key_image"
    BAD_TARGET = "bad_target"
    """A target whose address is not a main address of this network, or whose view key is not that of its address."""


class ScanReport(msgspec.Struct, frozen=True):
    """Something left out, and the transaction or escrow concerned."""

    kind: ReportKind
    about: str


class Reports:
    """Remembers the newest `REPORTS_MAX` things left out, each once, and how many there were of each kind."""

    def __init__(self) -> None:
        self._newest: deque[ScanReport] = deque(maxlen=REPORTS_MAX)
        self._counts: Counter[ReportKind] = Counter()

    def add(self, kind: ReportKind, about: str) -> None:
        """Takes something in, unless it was told of lately."""
        report = ScanReport(kind, about)
        if report not in self._newest:
            self._newest.append(report)
            self._counts[kind] += 1

    def newest(self) -> tuple[ScanReport, ...]:
        """Returns the newest, the oldest of them first."""
        return tuple(self._newest)

    def counts(self) -> Mapping[ReportKind, int]:
        """Returns how many there were of each kind."""
        return dict(self._counts)
