"""The repository's own checks find what they are for, and leave alone what is right."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ops.checks import addresses, docstrings, promises, purity, sizes
from ops.checks.finding import Finding

Check = Callable[[Path], Iterable[Finding]]

INDEX = "--index-url " + "ht" + "tps://registry.invalid/simple"
HOME = "/ho" + "me/somebody/thirdkey"
REGISTRY = "py" + "pi.org"


def lines_found(check: Check, root: Path, files: dict[str, str]) -> list[tuple[str, int]]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted((finding.path, finding.line) for finding in check(root))


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "web/package-lock.json", "web/.npmrc"])
def test_an_address_in_any_lock_is_found(tmp_path: Path, name: str):
    assert lines_found(addresses.addresses_in_locks, tmp_path, {name: f"first\n{INDEX}\n"}) == [(name, 2)]


def test_a_lock_of_versions_and_hashes_is_right(tmp_path: Path):
    lock = "orjson==3.13.0 ; python_version >= '3.11' \\\n    --hash=sha256:00\n    # via -c requirements.lock\n"
    assert lines_found(addresses.addresses_in_locks, tmp_path, {"requirements-dev.lock": lock}) == []


def test_a_registry_named_in_prose_is_found(tmp_path: Path):
    assert lines_found(addresses.registry_names, tmp_path, {"README.md": f"see {REGISTRY}\n"}) == [("README.md", 1)]


@pytest.mark.parametrize("path", [HOME, "/wo" + "rk/main", "/Us" + "ers/me", "/ro" + "ot/.cache"])
def test_a_path_of_one_machine_is_found(tmp_path: Path, path: str):
    assert lines_found(addresses.machine_paths, tmp_path, {"Makefile": f"all:\n\tls {path}\n"}) == [("Makefile", 2)]


@pytest.mark.parametrize(
    "path", ["/usr/bin/python3.11", "/var/lib/thirdkey", "docs/work/main", "~/work/x", "/workflow"]
)
def test_a_path_that_every_machine_may_have_is_right(tmp_path: Path, path: str):
    assert lines_found(addresses.machine_paths, tmp_path, {"Makefile": f"all:\n\tls {path}\n"}) == []


def test_made_files_are_not_checked(tmp_path: Path):
    files = dict.fromkeys([".venv/pip.txt", "thirdkey.egg-info/top.txt", "ops/__pycache__/x.txt"], HOME)
    assert lines_found(addresses.machine_paths, tmp_path, files) == []


def test_a_function_of_61_lines_is_found_and_one_of_60_is_not(tmp_path: Path):
    def of(lines: int) -> str:
        return f"def f_{lines}():\n" + "    pass\n" * (lines - 1)

    assert lines_found(sizes.long_functions, tmp_path, {"domain/a.py": of(60) + of(61)}) == [("domain/a.py", 61)]


def test_a_method_is_measured_as_well(tmp_path: Path):
    method = "class A:\n    async def f(self):\n" + "        pass\n" * 60
    assert lines_found(sizes.long_functions, tmp_path, {"actors/a.py": method}) == [("actors/a.py", 2)]


def test_a_file_of_401_lines_is_found_and_one_of_400_is_not(tmp_path: Path):
    files = {"domain/a.py": "x = 1\n" * 400, "domain/b.py": "x = 1\n" * 401, "tests/c.py": "x = 1\n" * 500}
    assert lines_found(sizes.long_files, tmp_path, files) == [("domain/b.py", 401)]


def test_a_public_function_without_a_docstring_is_found_in_a_private_module_too(tmp_path: Path):
    files = {"actors/_inner.py": "def take(): ...\ndef _leaf(): ...\nclass Seat:\n    def go(self): ...\n"}
    found = lines_found(docstrings.missing_docstrings, tmp_path, files)
    assert found == [("actors/_inner.py", 1), ("actors/_inner.py", 3)]


@pytest.mark.parametrize(
    ("name", "docstring"),
    [("open_turns", "The open turns."), ("EscrowActor", "Escrow actor"), ("release_lease", "Releases the lease.")],
)
def test_a_docstring_that_only_spells_out_the_name_is_found(tmp_path: Path, name: str, docstring: str):
    files = {"actors/a.py": f'def {name}():\n    """{docstring}"""\n'}
    assert lines_found(docstrings.echoing_docstrings, tmp_path, files) == [("actors/a.py", 1)]


def test_a_docstring_that_says_one_thing_more_is_right(tmp_path: Path):
    files = {"actors/a.py": 'def open_turns():\n    """Open turns by seat."""\n'}
    assert lines_found(docstrings.echoing_docstrings, tmp_path, files) == []


@pytest.mark.parametrize(
    "line", ["import aiohttp", "from pykka import Actor", "import time", "import os.path", "import yaml"]
)
def test_the_domain_imports_nothing_that_acts_or_is_not_listed(tmp_path: Path, line: str):
    found = lines_found(purity.impure_imports, tmp_path, {"domain/a.py": line, "actors/a.py": line})
    assert found == [("domain/a.py", 1)]


def test_the_domain_may_import_msgspec_and_what_only_computes(tmp_path: Path):
    text = "import enum\nimport msgspec\nfrom collections.abc import Iterator\nfrom domain.ids import EscrowId\n"
    assert lines_found(purity.impure_imports, tmp_path, {"domain/a.py": text}) == []


@pytest.mark.parametrize("line", ["async def f(): ...", "at = datetime.now(UTC)"])
def test_the_domain_neither_waits_nor_reads_a_clock(tmp_path: Path, line: str):
    assert lines_found(purity.impure_syntax, tmp_path, {"domain/a.py": line}) == [("domain/a.py", 1)]


def readme(*rows: str, heading: str = "## Promises") -> str:
    return "\n".join(["# Thirdkey", heading, "", "| promise | test |", "|---|---|", *rows, "", "## Next", "| a | b |"])


TESTS = {"tests/unit/test_a.py": "def test_kept(): ...\nclass TestB:\n    def test_c(self): ...\nTestD = M.TestCase\n"}


@pytest.mark.parametrize(
    "reference",
    ["tests/unit/test_a.py", *(f"tests/unit/test_a.py::{n}" for n in ("test_kept", "TestB::test_c", "TestD"))],
)
def test_a_promise_with_a_test_that_exists_is_right(tmp_path: Path, reference: str):
    assert (
        lines_found(promises.broken_promises, tmp_path, {**TESTS, "README.md": readme(f"| x | `{reference}` |")}) == []
    )


@pytest.mark.parametrize(
    "row",
    [
        "| no test at all | soon |",
        "| no such test | tests/unit/test_a.py::test_gone |",
        "| no such method | tests/unit/test_a.py::TestB::test_gone |",
        "| no such file | tests/unit/test_b.py |",
        "| one of two | tests/unit/test_a.py::test_kept, tests/unit/test_b.py::test_x |",
    ],
)
@pytest.mark.parametrize("heading", ["## Promises", "### The promises ###"])
def test_a_promise_without_a_test_is_found(tmp_path: Path, row: str, heading: str):
    files = {**TESTS, "README.md": readme("| x | `tests/unit/test_a.py` |", row, heading=heading)}
    assert lines_found(promises.broken_promises, tmp_path, files) == [("README.md", 7)]


def test_tables_of_other_sections_promise_nothing(tmp_path: Path):
    assert (
        lines_found(promises.broken_promises, tmp_path, {"README.md": readme("| a | b |", heading="## Glossary")}) == []
    )
