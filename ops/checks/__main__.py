"""Runs every check on this clone and prints what it finds, one line each; exits 1 if there is anything."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ops.checks import addresses, docstrings, promises, purity, sizes
from ops.checks.finding import Finding

CHECKS: tuple[Callable[[Path], Iterable[Finding]], ...] = (
    addresses.addresses_in_locks,
    addresses.registry_names,
    addresses.machine_paths,
    purity.impure_imports,
    purity.impure_syntax,
    sizes.long_functions,
    sizes.long_files,
    docstrings.missing_docstrings,
    docstrings.echoing_docstrings,
    promises.broken_promises,
)


def main() -> int:
    """Prints the findings in the form editors understand (path:line: sentence) and returns the exit code."""
    root = Path(__file__).resolve().parents[2]
    findings = sorted(finding for check in CHECKS for finding in check(root))
    for finding in findings:
        print(f"{finding.path}:{finding.line}: {finding.says}")
    print(f"{len(CHECKS)} own checks, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
