"""The last processor before a log line is written: what must never leave the process is cut out, wherever it stands."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

HEX_SHOWN = 16
ADDRESS_SHOWN = 6
DEPTH_MAX = 6

_BASE58 = "1-9A-HJ-NP-Za-km-z"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\beyJ[\w-]+\.[\w-]*(?:\.[\w-]*)+"), "(token)"),
    (re.compile(r"\bBearer\s+\S+", re.IGNORECASE), "Bearer (token)"),
    (re.compile(r"(?<=://)[^/\s@]+@"), "(login)@"),
    (re.compile(r"\b[a-z2-7]{56}(?:\.onion)?\b|\b[a-z2-7]{16}\.onion\b", re.IGNORECASE), "(onion)"),
    (re.compile(r"\bMultisig\w{16,}"), "(multisig message)"),
    (re.compile(rf"(?<![0-9a-fA-F])([0-9a-fA-F]{{{HEX_SHOWN}}})[0-9a-fA-F]{{48,}}(?![0-9a-fA-F])"), r"\1…"),
    (re.compile(rf"(?<![{_BASE58}])([{_BASE58}]{{{ADDRESS_SHOWN}}})[{_BASE58}]{{84,}}(?![{_BASE58}])"), r"\1…"),
    (re.compile(r"((?:password|passwd|secret|seed|token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',&}]+", re.IGNORECASE), r"\1(…)"),
)
_SECRET_NAMES = re.compile(
    r"password|passwd|secret|token|seed|authorization|cookie|login|dsn|database_url|view_key|claim|notes", re.IGNORECASE
)
_PEOPLE = frozenset({"user", "sub", "caller", "by", "buyer_id", "vendor_id", "arbiter_id"})


def scrub(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cuts addresses, keys, tokens, passwords and onion names from a log record, and amounts beside a person."""
    named = bool(_PEOPLE & set(record))
    for name, value in list(record.items()):
        record[name] = "(amount)" if named and "amount" in name else _scrubbed(name, value, depth=0)
    return record


def scrub_text(text: str) -> str:
    """Cuts what must not be shown from one text."""
    for pattern, shown in _RULES:
        text = pattern.sub(shown, text)
    return text


def _scrubbed(name: str, value: object, *, depth: int) -> object:
    if _SECRET_NAMES.search(name):
        return "(secret)"
    if isinstance(value, str):
        return scrub_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= DEPTH_MAX:
        return "(…)"
    if isinstance(value, Mapping):
        return {scrub_text(str(inner)): _scrubbed(str(inner), each, depth=depth + 1) for inner, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrubbed("", each, depth=depth + 1) for each in value]
    if isinstance(value, bytes | bytearray):
        return "(bytes)"
    return scrub_text(str(value))
