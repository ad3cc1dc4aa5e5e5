"""How long a repeated trial goes on: its short form in every test run, all of it by `make soak`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
"""How long `make soak` lets one trial go on; 0 asks for the short form, which is never cut."""

_done: dict[str, tuple[int, int]] = {}


def size(*, short: int, full: int) -> int:
    """Returns how much one trial does in all."""
    return full if SECONDS else short


def rounds(what: str, *, short: int, full: int) -> Iterator[int]:
    """Counts the rounds of a trial, and tells at the end of the run how many there were.

    Under `make soak` it ends early when its seconds are over; a trial that never began a round fails.
    """
    end = time.monotonic() + SECONDS if SECONDS else float("inf")
    most = size(short=short, full=full)
    for number in range(most):
        if number and time.monotonic() > end:
            return
        yield number
        done(what, number + 1, full=full)


def done(what: str, count: int, *, full: int) -> None:
    """Notes how much of a trial is done."""
    _done[what] = (count, full)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: repeats something as often as `make soak` asks for")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives a repeated trial the time that it was asked to take, and more for its beginning and its end."""
    for item in items:
        if SECONDS and item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(2 * SECONDS + 900), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells how much of each trial was done, where the run asked for all of it; in the file `SOAK_REPORT` as well."""
    if SECONDS:
        lines = [f"{count:>9} of {full} {what}" for what, (count, full) in _done.items()]
        terminalreporter.section("repeated trials")
        for line in lines:
            terminalreporter.line(line)
        if report := os.environ.get("SOAK_REPORT"):
            Path(report).write_text("".join(f"{line}\n" for line in lines))
