"""`thirdkey decision`: it signs a decision's statement, to the byte, says what it says, and signs nothing else."""

import asyncio
import hashlib
import io
import sys
from pathlib import Path

import msgspec
import pytest

from actors.identity import Identity, verified
from domain.decision import HEADER, Statement, read_statement, statement, statement_bytes
from domain.events import Verdict
from domain.ids import CaseId, UserId
from service.commands.decision import STATEMENT_BYTES_MAX, show_key, sign
from tests.given import terms
from tests.own_key_world import key_file

OWNER = Identity(bytes([5]) * 32)
DIGEST = "ab" * 32
SAID = statement(terms(), case_id=CaseId("case_1"), verdict=Verdict.SPLIT, buyer_share_bp=3_050, reason_digest=DIGEST)
RIGHT = statement_bytes(SAID)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_file(tmp_path, seed=bytes([5]) * 32)


def fields(**changes: object) -> bytes:
    """A statement with fields as nobody who decides would write them."""
    return HEADER + msgspec.json.encode(msgspec.to_builtins(SAID) | changes)


def signed(capsys: pytest.CaptureFixture[str], key: Path, folder: Path, content: bytes) -> tuple[int, str, str]:
    """Has a file signed; the exit code, standard output, standard error."""
    file = folder / "statement.txt"
    file.write_bytes(content)
    code = sign(key, statement=file)
    said = capsys.readouterr()
    return code, said.out, said.err


# -- what is signed --------------------------------------------------------------------------------------------


def test_a_statement_is_read_as_it_was_written() -> None:
    named = msgspec.structs.replace(SAID, buyer_id=UserId('Zoë \u2028 \U0001f5dd \\ " \x07'))
    for said in (SAID, named, msgspec.structs.replace(SAID, decision=Verdict.REFUND, buyer_share_bp=None)):
        assert read_statement(statement_bytes(said)) == said


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("name", ["bob", "Zoë", "Zoe\u0308", "вася", "\U0001f5dd"])
def test_the_signature_is_over_the_statements_own_bytes_and_no_line_end_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path, name: str, end: bytes
) -> None:
    right = statement_bytes(msgspec.structs.replace(SAID, vendor_id=UserId(name)))
    code, out, err = signed(capsys, key, tmp_path, right + end)
    assert (code, out[-1]) == (0, "\n")
    assert verified(OWNER.public, right, signature=out.strip())
    assert name in err or ascii(name) in err


def test_a_statement_copied_where_lines_end_otherwise_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path
) -> None:
    _, out, _ = signed(capsys, key, tmp_path, RIGHT.replace(b"\n", b"\r\n") + b"\r\n")
    assert verified(OWNER.public, RIGHT, signature=out.strip())


def test_it_says_in_words_what_it_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path) -> None:
    _, out, err = signed(capsys, key, tmp_path, RIGHT)
    told = dict(line.split(maxsplit=1) for line in err.splitlines())
    assert told["decision"] == "Split between the two: 30.5 % to the buyer"
    assert told["fee"] == "0.0400 XMR to the arbiter (40000000000 atomic units)"
    assert [told[name] for name in ("order", "case", "escrow")] == ["order-1", "case_1", "esc_1"]
    assert [told[name] for name in ("buyer", "vendor", "arbiter")] == ["alice", "bob", "judy"]
    assert told["statement"] == f"SHA-256 {hashlib.sha256(RIGHT).hexdigest()}"
    assert OWNER.public in err and OWNER.public not in out


def test_a_name_gives_no_orders_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path) -> None:
    for name in ("\x1b[2J\x1b[1;1Hrefund", "a\nvendor     alice", "\u202eecila", "a\x9b31m"):
        code, _, err = signed(capsys, key, tmp_path, fields(vendor_id=name))
        assert (code, ascii(name) in err) == (0, True)
        assert all(line.isprintable() for line in err.splitlines())
        assert len(err.splitlines()) == 12


# -- what is not -----------------------------------------------------------------------------------------------


NOT_SIGNED = {
    "nothing": b"",
    "a line end": b"\n",
    "the first line alone": HEADER,
    "no first line": RIGHT.partition(b"\n")[2],
    "a line before": b"\n" + RIGHT,
    "a blank before": b" " + RIGHT,
    "a byte order mark": b"\xef\xbb\xbf" + RIGHT,
    "a format to come": RIGHT.replace(b"decision 1", b"decision 2", 1),
    "a set-up's message": RIGHT.replace(b"thirdkey decision 1", b"thirdkey set-up 1", 1),
    "one line": RIGHT.replace(b"\n", b" ", 1),
    "a line between": RIGHT.replace(b"\n", b"\n\n", 1),
    "another line end": RIGHT.replace(b"\n", b"\r", 1),
    "the end missing": RIGHT[:-1],
    "a blank behind": RIGHT + b" ",
    "a zero behind": RIGHT + b"\x00",
    "two statements": RIGHT + b"\n" + RIGHT,
    "a blank within": RIGHT.replace(b",", b", ", 1),
    "a character written otherwise": RIGHT.replace(b"alice", b"\\u0061lice"),
    "no UTF-8": RIGHT.replace(b"alice", b"al\xffce"),
    "half a character": RIGHT.replace(b"alice", b"\\ud800"),
    "a key twice": RIGHT.replace(b'{"', b'{"order_id":"order-2","', 1),
    "a key more": RIGHT.replace(b"}", b',"more":1}'),
    "a deep key more": RIGHT.replace(b"}", b',"more":' + b"[" * 10_000 + b"}"),
    "a key less": RIGHT.replace(b'"order_id":"order-1",', b""),
    "a share as a float": RIGHT.replace(b"3050", b"3050.0"),
    "a share as a text": RIGHT.replace(b"3050", b'"3050"'),
    "a share as a truth": RIGHT.replace(b"3050", b"true"),
    "a digest in capitals": RIGHT.replace(DIGEST.encode(), DIGEST.upper().encode()),
    "a list": HEADER + b"[]",
    "a deep list": HEADER + b"[" * 10_000,
    "more than all": fields(buyer_share_bp=10_001),
    "less than nothing": fields(buyer_share_bp=-1),
    "a split of nothing said": fields(buyer_share_bp=None),
    "a refund with a share": fields(decision="refund"),
    "no decision": fields(decision="burn"),
    "a fee below nothing": fields(fee_atomic=-1),
    "a fee above all there is": RIGHT.replace(b"40000000000", b"1" + b"0" * 40),
    "a fee that no number holds": RIGHT.replace(b"40000000000", b"1" + b"0" * 9_000),
    "a digest cut": fields(reason_sha256="ab"),
    "too long": fields(buyer_id="x" * STATEMENT_BYTES_MAX),
}


@pytest.mark.parametrize("content", NOT_SIGNED.values(), ids=NOT_SIGNED)
def test_nothing_but_a_whole_statement_is_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path, content: bytes
) -> None:
    assert content != RIGHT
    code, out, err = signed(capsys, key, tmp_path, content)
    assert (code, out) == (1, "")
    assert err.startswith("nothing is signed: ")
    assert len(err) < 200 and err.strip().isprintable()


def test_every_single_byte_of_a_statement_counts() -> None:
    for place in range(len(RIGHT)):
        for other in (b" ", b"0", b'"', b"\\", b"\x00", b"\xff"):
            changed = RIGHT[:place] + other + RIGHT[place + 1 :]
            read = read_statement(changed)
            assert read is None or statement_bytes(read) == changed


# -- the key ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_key_that_others_may_read_signs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path, mode: int
) -> None:
    key.chmod(mode)
    code, out, err = signed(capsys, key, tmp_path, RIGHT)
    assert (code, out, "readable by others" in err) == (1, "", True)


@pytest.mark.parametrize("content", ["", "05" * 31, "05" * 33, "zz" * 32, "05" * 32 + "\n" + "05" * 32, "\udcff"])
def test_what_is_no_key_signs_nothing_and_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path, content: str
) -> None:
    key.write_text(content, errors="surrogateescape")
    code, out, err = signed(capsys, key, tmp_path, RIGHT)
    assert (code, out, "expected 64 hex digits" in err) == (1, "", True)
    assert "0505" not in err and "zzzz" not in err


def test_files_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert signed(capsys, nowhere, tmp_path, RIGHT)[:2] == (1, "")
    assert sign(key, statement=nowhere) == 1
    assert str(nowhere) in capsys.readouterr().err
    assert signed(capsys, tmp_path, tmp_path, RIGHT)[:2] == (1, "")
    assert not nowhere.exists()


def test_a_key_is_made_once_and_shown_by_its_public_half_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "judy.key"
    assert show_key(path) == 0
    first = capsys.readouterr()
    seed = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.out.strip() == Identity(bytes.fromhex(seed)).public
    assert show_key(path) == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (first.out, "")
    assert seed not in first.out + first.err
    path.chmod(0o644)
    assert (show_key(path), capsys.readouterr().out) == (1, "")
    assert show_key(tmp_path / "missing" / "judy.key") == 1


# -- where it runs ---------------------------------------------------------------------------------------------


def test_a_statement_comes_by_standard_input_as_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RIGHT + b"\n")))
    assert sign(key) == 0
    assert capsys.readouterr().out.strip() == OWNER.sign(RIGHT)


async def test_it_needs_no_setting_and_leaves_nothing_behind(tmp_path: Path) -> None:
    key = key_file(tmp_path, seed=bytes([5]) * 32)
    (tmp_path / "empty").mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "decision", "sign", "--key-file", str(key)),
        cwd=tmp_path / "empty",
        # Settings that would stop every command that reads them.
        env={
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "DATABASE_URL": "nowhere",
            "THIRDKEY_HOME": "/dev/null",
            "LC_ALL": "C",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    right = statement_bytes(msgspec.structs.replace(SAID, vendor_id=UserId("Zoë")))
    out, err = await process.communicate(right)
    assert (process.returncode, out.decode().strip()) == (0, OWNER.sign(right)), err
    assert OWNER.public in err.decode()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_statement_is_bounded_far_above_the_longest_that_there_is() -> None:
    long = "x" * 128  # as long as the name of an order or user may be
    longest: Statement = msgspec.structs.replace(
        SAID, escrow_id="esc_" + "0" * 32, order_id=long, buyer_id=long, vendor_id=long, arbiter_id=long
    )
    assert len(statement_bytes(longest)) < 2_000 < STATEMENT_BYTES_MAX
