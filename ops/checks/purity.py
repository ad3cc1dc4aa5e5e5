"""The domain's allow-list, which import-linter's lists of forbidden modules cannot express."""

import ast
from collections.abc import Iterator
from pathlib import Path

from ops.checks.finding import Finding, source_trees

DOMAIN_MAY_IMPORT = frozenset({"domain", "msgspec"})

COMPUTES_ONLY = frozenset(
    {"collections", "copy", "dataclasses", "enum", "types", "typing", "abc", "__future__"}
    | {"contextlib", "functools", "graphlib", "heapq", "bisect", "itertools", "operator"}
    | {"datetime", "decimal", "fractions", "math", "numbers"}
    | {"base64", "binascii", "hashlib", "hmac", "json", "re", "string", "struct", "textwrap", "unicodedata", "zlib"}
)
"""The part of the standard library that computes: no clock, chance, file, network, thread. (`datetime` has a clock as
well: `impure_syntax` finds that.)"""

_CLOCK = {"now", "utcnow", "today"}


def impure_imports(root: Path) -> Iterator[Finding]:
    """Finds imports of the domain beyond msgspec and the parts of the standard library that only compute."""
    for path, tree in source_trees(root):
        if path.startswith("domain/"):
            for line, top in _imports(tree):
                if not _allowed(top):
                    yield Finding(path=path, line=line, says=f"the domain must not import {top}")


def impure_syntax(root: Path) -> Iterator[Finding]:
    """Finds `async`, `await` and readings of the clock in the domain: time comes in with the command."""
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    for path, tree in source_trees(root):
        if path.startswith("domain/"):
            for node in ast.walk(tree):
                if isinstance(node, waiting):
                    yield Finding(path=path, line=node.lineno, says="the domain awaits nothing")
                elif isinstance(node, ast.Attribute) and node.attr in _CLOCK:
                    yield Finding(path=path, line=node.lineno, says="the domain reads no clock")


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


def _allowed(top: str) -> bool:
    return top in DOMAIN_MAY_IMPORT or top in COMPUTES_ONLY
