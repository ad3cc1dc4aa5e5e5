"""The README's promise table: every promise names a test, and the test exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ops.checks.finding import Finding

_HEADING = re.compile(r"^(#+)\s+(.*?)\s*#*$")
_REFERENCE = re.compile(r"tests/[\w/.-]+?\.py(?:::[\w:]+)?")
_RULE = re.compile(r"^[\s|:-]+$")


def broken_promises(root: Path) -> Iterator[Finding]:
    """Finds rows under the README's heading "Promises" that name no test, or one that is not there.

    A row names `tests/….py` or `tests/….py::test_name`. Without a README or without the heading nothing is promised.
    """
    readme = root / "README.md"
    if not readme.is_file():
        return
    for number, row in _rows(readme.read_text(encoding="utf-8").splitlines()):
        references = _REFERENCE.findall(row)
        if not references:
            yield Finding(path="README.md", line=number, says="this promise names no test (tests/….py::test_name)")
        for reference in references:
            if not _exists(root, reference):
                yield Finding(path="README.md", line=number, says=f"{reference} does not exist")


def _rows(lines: list[str]) -> Iterator[tuple[int, str]]:
    level, fenced = 0, False
    table: list[tuple[int, str]] = []
    for number, line in enumerate([*lines, ""], 1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and (heading := _HEADING.match(line)):
            level = _level_within(level, heading)
        if level and not fenced and line.lstrip().startswith("|"):
            table.append((number, line))
        else:
            yield from _body(table)
            table = []


def _level_within(level: int, heading: re.Match[str]) -> int:
    """Gives the depth of the "Promises" section that goes on after this heading, 0 outside of it."""
    depth, title = len(heading.group(1)), heading.group(2).lower()
    if title.endswith("promises"):
        return depth
    return level if level and depth > level else 0


def _body(table: list[tuple[int, str]]) -> list[tuple[int, str]]:
    rule = next((at for at, (_, line) in enumerate(table) if _RULE.match(line)), None)
    return [] if rule is None else table[rule + 1 :]


def _exists(root: Path, reference: str) -> bool:
    file, *names = reference.split("::")
    if not (root / file).is_file():
        return False
    scope: ast.AST = ast.parse((root / file).read_text(encoding="utf-8"))
    for name in names:
        found = next((each for each in ast.iter_child_nodes(scope) if getattr(each, "name", None) == name), None)
        if found is None:
            return _is_assigned(scope, name)
        scope = found
    return True


def _is_assigned(scope: ast.AST, name: str) -> bool:
    """Looks for `TestName = Machine.TestCase`, the way hypothesis state machines become tests."""
    targets = (
        target for each in ast.iter_child_nodes(scope) if isinstance(each, ast.Assign) for target in each.targets
    )
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)
