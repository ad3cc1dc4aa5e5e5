"""What a check says, and which files it reads."""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOMS = ("domain", "schemas", "eventstore", "actors", "projections", "service", "ops")
"""The top-level folders that hold source; tests are none of them."""

_MADE_FOLDERS = {"__pycache__", "build", "node_modules"}
_WRITTEN_HIDDEN = {".ci", ".github"}


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One broken promise: where, and a sentence that says what to change."""

    path: str
    """Relative to the root of the clone."""
    line: int
    says: str


def written_files(root: Path, *suffixes: str) -> Iterator[Path]:
    """Yields every file that people write, sorted; made ones (caches, builds, .venv, .thirdkey) are left out.

    Without suffixes all files are meant. A folder that is walked needs no git, so a tarball is checked as well.
    """
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.is_symlink() and _is_written(path):
            yield from written_files(path, *suffixes)
        elif path.is_file() and (not suffixes or path.suffix in suffixes):
            yield path


def source_trees(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yields each Python file of the rooms as (relative path, syntax tree)."""
    for room in ROOMS:
        if (root / room).is_dir():
            for path in written_files(root / room, ".py"):
                yield str(path.relative_to(root)), ast.parse(path.read_text(encoding="utf-8"), str(path))


def _is_written(folder: Path) -> bool:
    if folder.name.startswith("."):
        return folder.name in _WRITTEN_HIDDEN
    return folder.name not in _MADE_FOLDERS and not folder.name.endswith(".egg-info")
