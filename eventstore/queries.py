"""Named SQL: `.sql` files cut at their `-- name:` lines."""

from collections.abc import Mapping
from pathlib import Path


def load_queries(file: Path) -> Mapping[str, str]:
    """Reads a file of named queries.

    Each query follows a line `-- name: NAME` and ends with a semicolon before the next one or the end of the file.
    Raises `ValueError` when a name comes twice.
    """
    queries: dict[str, str] = {}
    for part in file.read_text().split("-- name:")[1:]:
        name, _, text = part.partition("\n")
        if name.strip() in queries:
            raise ValueError(f"{file.name}: {name.strip()} comes twice")
        queries[name.strip()] = text.strip().rstrip(";")
    return queries


_FILES = ("queries.sql", "heads.sql", "keys.sql", "primed.sql", "evidence.sql")
QUERIES = {name: text for file in _FILES for name, text in load_queries(Path(__file__).with_name(file)).items()}
