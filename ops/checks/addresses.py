"""Nothing in the repository depends on one registry or one machine."""

import re
from collections.abc import Iterator
from pathlib import Path

from ops.checks.finding import Finding, written_files

_ADDRESS = re.compile(r"[a-z+]+://|--(?:extra-)?index-url|--find-links", re.IGNORECASE)
_REGISTRY = re.compile(r"\b(?:pypi\.(?:org|io)|pythonhosted\.org|npmjs\.(?:org|com))", re.IGNORECASE)
# A home folder with a name in it, or a work folder at the root; a service's own account is no machine.
_MACHINE = re.compile(r"(?<![\w.~/-])/(?:home/(?!thirdkey\b)\w+|Users/\w+|root/\.?\w+|work/\w+)")

_LOCKS = ("*.lock", "*requirements*.txt", ".npmrc", "package-lock.json")


def addresses_in_locks(root: Path) -> Iterator[Finding]:
    """Finds registry addresses in lock files: a lock names versions and hashes, the machine chooses the registry."""
    for path in written_files(root):
        if any(path.match(pattern) for pattern in _LOCKS):
            yield from _lines_with(_ADDRESS, path, root, "a lock must name no address; make it with `make lock`")


def registry_names(root: Path) -> Iterator[Finding]:
    """Finds the host names of package registries anywhere in what we write."""
    for path in written_files(root):
        yield from _lines_with(_REGISTRY, path, root, "no registry host is named in this repository")


def machine_paths(root: Path) -> Iterator[Finding]:
    """Finds paths that exist on one machine only: home folders and work folders of whoever wrote the line."""
    for path in written_files(root):
        yield from _lines_with(_MACHINE, path, root, "this path exists on one machine only; make it relative")


def _lines_with(pattern: re.Pattern[str], path: Path, root: Path, says: str) -> Iterator[Finding]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return  # a picture or a recording
    for number, line in enumerate(lines, 1):
        if found := pattern.search(line):
            yield Finding(path=str(path.relative_to(root)), line=number, says=f"{found.group()!r}: {says}")
