"""Sorts the tests by their folder's cost: a marker for each folder, and its seconds at the end of the run."""

from collections import defaultdict
from pathlib import PurePath

import pytest

FOLDERS = ("unit", "contract", "simulation", "integration", "chaos", "real", "browser")

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: defaultdict[str, int] = defaultdict(int)


def pytest_configure(config: pytest.Config) -> None:
    for folder in FOLDERS:
        config.addinivalue_line("markers", f"{folder}: every test below tests/{folder}, marked by itself")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by its folder; those of `real` begin first, all in one process.

    Their wallets keep one core busy and their one private chain serves them all; begun last, they would run on alone.
    """
    for item in items:
        folder = _folder(item.nodeid)
        if folder in FOLDERS:
            item.add_marker(folder)
        if folder == "real" and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("real"))
    items.sort(key=lambda item: _folder(item.nodeid) != "real")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    folder = _folder(report.nodeid)
    _seconds[folder] += report.duration
    _tests[folder] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("seconds of each folder, summed over the processes")
    for folder in (*FOLDERS, *sorted(set(_seconds) - set(FOLDERS))):
        terminalreporter.line(f"{folder:<12} {_seconds[folder]:8.1f} s {_tests[folder]:6} tests")


def _folder(nodeid: str) -> str:
    parts = PurePath(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 else "."
