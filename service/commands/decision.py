"""`thirdkey decision`: what an arbiter with a key of its own does where that key is; it asks nobody anything."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from actors.identity import Identity
from domain.decision import HEADER, Statement, read_statement, statement_bytes
from service.keys import KeyFileWrong, key_in, make_key
from service.pages.words import VERDICTS, percent, xmr

STATEMENT_BYTES_MAX = 16_384
"""Bytes of a statement; the longest names that orders and users may have come to less than 2,000."""


class StatementWrong(Exception):
    """What was given to sign is no statement of a decision; the words say why, and repeat nothing of it."""


def sign(key_file: Path, *, statement: Path | None = None) -> int:
    """Tells on standard error what a statement says, prints its signature and returns 0; 1 where nothing is signed."""
    try:
        said = _read(_given(statement))
        identity = Identity(key_in(key_file))
    except (StatementWrong, KeyFileWrong, OSError) as wrong:
        print(f"nothing is signed: {wrong}", file=sys.stderr)
        return 1
    for line in told(said, key=identity.public):
        print(line, file=sys.stderr)
    print(identity.sign(statement_bytes(said)))
    return 0


def show_key(key_file: Path) -> int:
    """Prints the public half of a key, which is made first where there is none, and returns 0; 1 where it is no key."""
    try:
        if not key_file.exists():
            make_key(key_file)
            print(f"made {key_file}: who has it decides as you, and without it you cannot", file=sys.stderr)
        public = Identity(key_in(key_file)).public
    except (KeyFileWrong, OSError) as wrong:
        print(wrong, file=sys.stderr)
        return 1
    print(public)
    return 0


def told(said: Statement, *, key: str) -> Iterator[str]:
    """Says line by line what is signed, and with which key (public)."""
    share = "" if said.buyer_share_bp is None else f": {percent(said.buyer_share_bp)} to the buyer"
    facts = {
        "decision": f"{VERDICTS[said.decision]}{share}",
        "fee": f"{xmr(said.fee_atomic)} XMR to the arbiter ({said.fee_atomic} atomic units)",
        "order": said.order_id,
        "buyer": said.buyer_id,
        "vendor": said.vendor_id,
        "arbiter": said.arbiter_id,
        "case": said.case_id,
        "escrow": said.escrow_id,
        "terms": f"SHA-256 {said.terms_sha256}",
        "reason": f"SHA-256 {said.reason_sha256}, with its salt before it",
        "statement": f"SHA-256 {hashlib.sha256(statement_bytes(said)).hexdigest()}",
        "your key": key,
    }
    for name, fact in facts.items():
        # Whoever wrote the statement may have put a terminal's commands into a name.
        yield f"{name:<10} {fact if fact.isprintable() else ascii(fact)}"


def _given(statement: Path | None) -> bytes:
    if statement is not None:
        with statement.open("rb") as file:
            return file.read(STATEMENT_BYTES_MAX + 1)
    if sys.stdin.isatty():
        print("Paste the statement, then press Enter and Ctrl-D:", file=sys.stderr)
    return sys.stdin.buffer.read(STATEMENT_BYTES_MAX + 1)


def _read(content: bytes) -> Statement:
    """Reads a statement as it was copied, perhaps with line ends of another system's, or one more at its end."""
    if len(content) > STATEMENT_BYTES_MAX:
        raise StatementWrong(f"a statement has no more than {STATEMENT_BYTES_MAX} bytes")
    content = content.replace(b"\r\n", b"\n").rstrip(b"\n")
    if not content.startswith(HEADER):
        raise StatementWrong(f"a decision's statement begins with the line `{HEADER.decode().strip()}`")
    said = read_statement(content)
    if said is None:
        raise StatementWrong("this is not a whole statement, byte for byte as it was shown")
    return said
