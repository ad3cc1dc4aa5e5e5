"""Settings, problems, the scrubber, cursors and moments: the doors' small parts."""

import io
import json
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from nacl.public import PrivateKey

from actors.directory import DirectoryFull, Parked
from actors.escrow import KeyReused
from actors.mail import AskTimeout, MailboxFull
from domain.ids import Micros, UserId
from domain.refusals import SENTENCES
from domain.roles import THREE, Role, SeatKind
from domain.terms import Policy
from eventstore.api import LogBusy, LogUnavailable
from schemas.answers import micros, moment
from schemas.cursor import BadCursor, decode_cursor, encode_cursor
from service.environment import SettingsWrong, load_settings
from service.keys import KeyFileWrong, encryption_key, issuer_key
from service.logs import bind_correlation, configure_logs
from service.problems import DOOR_SENTENCES, STATUS, Refusal, problem_of, response
from service.scrub import scrub, scrub_text
from service.settings import Arbiter, Settings
from tests.given import ADDRESS
from tests.worlds import address_of

ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"
TOKEN = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


# -- settings ------------------------------------------------------------------------------------------------


def test_without_an_environment_everything_has_its_default() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert settings.policy() == Policy()
    assert (settings.server_port, settings.metrics_port, settings.log_partitions) == (8080, 8081, 4)


def test_all_mistakes_are_listed_at_once_and_no_value_is_repeated() -> None:
    environment = {
        "SERVER_PORT": "http",
        "LOG_PARTITIONS": "0",
        "MONERO_NETWORK": "moonnet",
        "ENCRYPTION_KEY": "hunter2",
        "ARBITER_FEE_PERCENTAGE": "2%",
        "MONERO_RPC_URLS": "http://user:hunter2@127.0.0.1:18082",
        "STUCK_S": "4,3,2,1",
        "DEFAULT_SEATS": "buyer=relay",
        "MAX_ESCROW_AMOUNT_ATOMIC": "1.5",
        "ARBITER_ADDRESS": "hunter2",
    }
    with pytest.raises(SettingsWrong) as wrong:
        load_settings(environment)
    assert {mistake.partition(":")[0] for mistake in wrong.value.mistakes} == set(environment)
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(("least", "most", "slots"), [("3", "3", (1, 1)), ("4", "6", (2, 2)), ("5", "11", (2, 3))])
def test_wallet_processes_come_in_threes_within_their_bounds(least: str, most: str, slots: tuple[int, int]) -> None:
    settings = load_settings({"POOL_MIN": least, "POOL_MAX": most})
    assert (settings.slots_per_role_min, settings.slots_per_role_max) == slots


@pytest.mark.parametrize(("least", "most"), [("6", "5"), ("4", "5"), ("31", "32"), ("7", "3")])
def test_bounds_between_which_no_multiple_of_three_lies_are_refused(least: str, most: str) -> None:
    with pytest.raises(SettingsWrong) as wrong:
        load_settings({"POOL_MIN": least, "POOL_MAX": most})
    assert [mistake.partition(":")[0] for mistake in wrong.value.mistakes] == ["POOL_MIN"]


@pytest.mark.parametrize(
    ("text", "ppm"), [("0.02", 20_000), ("0", 0), ("1", 1_000_000), ("0.000001", 1), ("0.1", 100_000)]
)
def test_a_fraction_is_read_digit_by_digit(text: str, ppm: int) -> None:
    assert load_settings({"ARBITER_FEE_PERCENTAGE": text}).policy().arbiter_fee_ppm == ppm


@pytest.mark.parametrize("text", ["1.1", "0.0000001", "-0.1", "2e-2", "0,02", ".02", "nan", "0.\u0661"])
def test_a_fraction_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsWrong):
        load_settings({"ARBITER_FEE_PERCENTAGE": text})


def test_arbiters_pair_with_their_addresses_entry_by_entry() -> None:
    one, two = address_of(Role.BUYER), address_of(Role.VENDOR)
    environment = {"ARBITER_MODE": "pool", "ARBITER_USER_ID": "judy, mara", "ARBITER_ADDRESS": f"{one},{two}"}
    assert load_settings(environment).arbiters == (
        Arbiter(user_id=UserId("judy"), address=one),
        Arbiter(user_id=UserId("mara"), address=two),
    )
    assert load_settings({"ARBITER_MODE": "single_admin", "ARBITER_USER_ID": "judy"}).arbiter_mode == "single"
    for wrong in ({"ARBITER_ADDRESS": one + "," + two}, {"ARBITER_USER_ID": "a,b"}, {"ARBITER_USER_ID": "a,,b"}):
        with pytest.raises(SettingsWrong):
            load_settings(wrong)


def test_hosted_seats_are_the_default_on_test_networks_only() -> None:
    assert set(load_settings({}).default_seats.values()) == {SeatKind.POOL}
    mainnet = load_settings({"MONERO_NETWORK": "mainnet", "ARBITER_USER_ID": "judy"})
    assert set(mainnet.default_seats.values()) == {SeatKind.RELAY}
    assert mainnet.seat_kinds() == frozenset()
    mixed = load_settings({"DEFAULT_SEATS": "buyer=relay,vendor=pool,arbiter=registered"})
    assert [mixed.default_seats[role] for role in THREE] == [SeatKind.RELAY, SeatKind.POOL, SeatKind.REGISTERED]


WORDS = ("arbiter_fee_ppm", "stuck_s", "fee_settlement", "arbiter_backup_key")
"""Figures that are not written as one whole number."""


def test_every_figure_of_the_rules_can_be_set() -> None:
    figures = {field.upper(): "7" for field in Policy.__struct_fields__ if field not in WORDS}
    policy = load_settings(figures | {"STUCK_S": "1,2,3,4", "FEE_SETTLEMENT": "sweep"}).policy()
    assert all(getattr(policy, field.lower()) == 7 for field in figures)
    assert policy.stuck_s == (1, 2, 3, 4)
    assert policy.sweeps and not load_settings({}).policy().sweeps


def test_a_backup_key_is_written_into_the_terms_and_one_that_anybody_could_open_is_refused() -> None:
    public = bytes(PrivateKey(bytes(range(32))).public_key).hex()
    assert load_settings({"ARBITER_BACKUP_KEY": public.upper()}).policy().arbiter_backup_key == public
    assert load_settings({}).policy().arbiter_backup_key is UNSET
    for weak in ("00" * 32, "01" + "00" * 31, public[:-2], "no key"):
        with pytest.raises(SettingsWrong, match="ARBITER_BACKUP_KEY"):
            load_settings({"ARBITER_BACKUP_KEY": weak})


def test_a_database_of_ones_own_needs_a_key_of_ones_own() -> None:
    with pytest.raises(SettingsWrong):
        load_settings({"DATABASE_URL": "postgresql://x"})
    settings = load_settings({"DATABASE_URL": "postgresql://u:hunter2@x", "ENCRYPTION_KEY": "ab" * 32})
    assert "hunter2" not in repr(settings)
    assert "ab" * 32 not in repr(settings) + str(list(settings.__rich_repr__()))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:p%40:ss@h:5432/db",
        "postgres://h",
        "postgresql:///db?host=/run/pg&port=5433",
        "postgresql://u@[::1]:5432,h2:5433/db?target_session_attrs=primary",
    ],
)
def test_an_address_of_a_database_is_taken_as_it_is(address: str) -> None:
    assert load_settings({"DATABASE_URL": address, "ENCRYPTION_KEY": "ab" * 32}).database_url == address


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:hunter2@h:abc/db",
        "postgresql://u:hunter2@h:70000/db",
        "postgresql://u:hunter2@h:0/db",
        "postgresql://u:hunter2@h1:1,h2:x/db",
        "postgresql://u:hunter2@[::1/db",
        "postgresql:///hunter2?host=h&port=x",
        "mysql://u:hunter2@h/db",
        "hunter2",
    ],
)
def test_what_is_no_address_of_a_database_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SettingsWrong, match="DATABASE_URL: expected postgresql://") as wrong:
        load_settings({"DATABASE_URL": address, "ENCRYPTION_KEY": "ab" * 32})
    assert "hunter2" not in str(wrong.value)


def test_the_embedded_default_makes_keys_that_only_their_owner_reads(tmp_path: Path) -> None:
    settings = Settings(thirdkey_home=tmp_path / "home")
    key = encryption_key(settings)
    assert len(key) == 32
    assert encryption_key(settings) == key
    assert issuer_key(settings).private_bytes_raw() == issuer_key(settings).private_bytes_raw() != key
    files = list((tmp_path / "home").iterdir())
    assert len(files) == 2
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    os.chmod(files[0], 0o644)
    os.chmod(files[1], 0o644)
    with pytest.raises(KeyFileWrong):
        encryption_key(settings)


def test_a_broken_key_file_is_never_taken_for_a_key(tmp_path: Path) -> None:
    settings = Settings(thirdkey_home=tmp_path)
    encryption_key(settings)
    (tmp_path / "encryption.key").write_text("")
    with pytest.raises(KeyFileWrong):
        encryption_key(settings)


# -- problems ------------------------------------------------------------------------------------------------


def test_every_code_has_a_status_and_a_sentence() -> None:
    assert set(STATUS) == set(SENTENCES) | set(DOOR_SENTENCES)
    assert not set(SENTENCES) & set(DOOR_SENTENCES)
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LogBusy("x"), 503, "busy"),
        (MailboxFull(actor="x", mailbox_max=1), 503, "busy"),
        (DirectoryFull(resident_max=1), 503, "busy"),
        (LogUnavailable("x"), 503, "unavailable"),
        (AskTimeout(actor="x", timeout_s=1, begun=True), 503, "unavailable"),
        (Parked(id="x"), 503, "escrow_stopped"),
        (KeyReused(), 422, "idempotency_key_reused"),
        (Refusal("wrong_state"), 409, "wrong_state"),
        (web.HTTPNotFound(), 404, "not_found"),
        (RuntimeError("password hunter2"), 500, "internal"),
    ],
)
def test_an_error_becomes_its_problem_and_tells_nothing_of_the_inside(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    answer = response(problem, retry_after_s=7)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert answer.content_type == "application/problem+json"
    assert isinstance(answer.body, bytes)
    assert "hunter2" not in answer.body.decode()
    assert json.loads(answer.body)["title"]


# -- logs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize(
    "secret",
    [ADDRESS, "ab" * 32, TOKEN, ONION, ONION.removesuffix(".onion"), "MultisigxV2R1" + "a" * 200],
    ids=["address", "key", "token", "onion", "onion without its end", "multisig message"],
)
def test_a_secret_is_cut_wherever_it_stands(secret: str, lines: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info(
        f"in the event {secret}", text=f"<{secret}>", deep={"list": [(secret,)], secret: 1}, obj=ValueError(secret)
    )
    try:
        raise RuntimeError(f"in an exception: {secret}")
    except RuntimeError:
        log.exception("failed")
    written = lines.getvalue()
    assert "failed" in written
    assert secret not in written
    assert secret[20:60] not in written
    assert len([json.loads(line) for line in written.splitlines()]) == 2


def test_what_is_secret_by_its_name_is_not_shown() -> None:
    record = scrub(None, "", {"password": "x1", "rpc_login": "x2", "deep": {"view_key": "x3"}, "text": "password=x4"})
    assert not {"x1", "x2", "x3"} & set(json.dumps(record).replace('"', " ").split())
    assert "x4" not in json.dumps(record)
    assert scrub_text("postgresql://user:x5@host/db") == "postgresql://(login)@host/db"


def test_an_amount_is_not_shown_beside_a_person() -> None:
    assert scrub(None, "", {"buyer_id": "alice", "amount": 5})["amount"] == "(amount)"
    assert scrub(None, "", {"amount": 5})["amount"] == 5


def test_what_is_not_secret_is_shown_as_it_is() -> None:
    plain = {"escrow": "esc_" + "ab" * 16, "status": 200, "ms": 1.5, "route": "/api/escrows/{escrow_id}"}
    assert scrub(None, "", dict(plain)) == plain


@given(st.text(alphabet="0123456789abcdef", min_size=64, max_size=200))
def test_of_a_long_hex_string_sixteen_digits_are_shown(text: str) -> None:
    assert scrub_text(f"key {text}.") == f"key {text[:16]}…."


def test_a_correlation_id_is_taken_from_the_sender_only_if_it_has_the_form_of_one() -> None:
    assert bind_correlation("abcd-1234") == "abcd-1234"
    assert bind_correlation("x" * 65) != "x" * 65
    assert bind_correlation(None) != bind_correlation('"}\n')
    structlog.contextvars.clear_contextvars()


# -- cursors and moments -------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(0, 1023), st.integers(0, 2**62), max_size=20))
def test_a_cursor_is_read_as_it_was_written(positions: dict[int, int]) -> None:
    assert decode_cursor(encode_cursor(positions)) == positions


@pytest.mark.parametrize("text", ["", "%%", "é", "e30=x", "bnVsbA", "A" * 20_000])
def test_another_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        decode_cursor(text)


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_moment_keeps_every_microsecond(at: int) -> None:
    assert micros(datetime.fromisoformat(moment(Micros(at)))) == at
