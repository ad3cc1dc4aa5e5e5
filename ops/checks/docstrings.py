"""Docstrings that say something, also where ruff's D1 rules do not look.

Ruff takes a module whose name begins with an underscore, and all in it, for private, and is content with a docstring
that only spells out the name. Here a function or class without an underscore of its own has a docstring, and every
docstring says more than the name does. Methods may go without one: a port describes each once, and the two that
implement it would only repeat it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ops.checks.finding import Finding, source_trees

_Public = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_EMPTY_WORDS = {"a", "an", "and", "are", "for", "in", "is", "it", "its", "of", "on", "one", "or", "the", "this", "to"}
_EMPTY_WORDS |= {"class", "exception", "function", "method", "property", "return", "struct"}


def missing_docstrings(root: Path) -> Iterator[Finding]:
    """Finds public functions and classes of a module without a docstring."""
    for path, tree in source_trees(root):
        for node in _public_in(tree):
            if ast.get_docstring(node) is None and not _is_overload(node):
                yield Finding(path=path, line=node.lineno, says=f"{node.name} is public and has no docstring")


def echoing_docstrings(root: Path) -> Iterator[Finding]:
    """Finds docstrings, those of methods included, whose every word stands in the name already."""
    for path, tree in source_trees(root):
        for node in _public_below(tree):
            docstring = ast.get_docstring(node)
            if docstring is not None and _words(docstring) <= _words(_spaced(node.name)):
                says = f"the docstring of {node.name} repeats its name: say what it does, its units, its errors"
                yield Finding(path=path, line=node.lineno, says=says)


def _public_in(parent: ast.Module | ast.ClassDef) -> Iterator[_Public]:
    for node in parent.body:
        if isinstance(node, _Public) and not node.name.startswith("_"):
            yield node


def _public_below(parent: ast.Module | ast.ClassDef) -> Iterator[_Public]:
    for node in _public_in(parent):
        yield node
        if isinstance(node, ast.ClassDef):
            yield from _public_below(node)


def _is_overload(node: _Public) -> bool:
    return any(getattr(each, "attr", getattr(each, "id", "")) == "overload" for each in node.decorator_list)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ")


def _words(text: str) -> set[str]:
    words = set(re.findall(r"[a-z0-9]+", text.lower())) - _EMPTY_WORDS
    return {word[:-1] if word.endswith("s") and len(word) > 3 else word for word in words}
