"""Small pieces: bounds on the length of functions and files of the rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

from ops.checks.finding import ROOMS, Finding, source_trees, written_files

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 400


def long_functions(root: Path) -> Iterator[Finding]:
    """Finds functions above `FUNCTION_LINES_MAX` lines, from `def` to the last, the docstring included."""
    for path, tree in source_trees(root):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    says = f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}: let it decide, leaves compute"
                    yield Finding(path=path, line=node.lineno, says=says)


def long_files(root: Path) -> Iterator[Finding]:
    """Finds Python files above `FILE_LINES_MAX` lines."""
    for room in ROOMS:
        if not (root / room).is_dir():
            continue
        for path in written_files(root / room, ".py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > FILE_LINES_MAX:
                says = f"the file has {lines} lines, at most {FILE_LINES_MAX}: split it by what changes together"
                yield Finding(path=str(path.relative_to(root)), line=FILE_LINES_MAX + 1, says=says)
