"""What pages are made of: amounts and words, the timeline, previews, failed logins, pages that wait."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jinja2
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from domain.amounts import Amounts
from domain.events import EVENT_TYPES, Verdict
from domain.ids import Address, Sealed
from domain.money import ATOMIC_MAX, ATOMIC_PER_XMR
from domain.payout import change_of
from domain.preview import preview
from domain.refusals import Refused
from domain.roles import Role
from domain.terms import FeeSettlement, Policy
from eventstore.api import Recorded
from service.pages import words
from service.pages.attempts import Attempts
from service.pages.door import local_path
from service.pages.moves import Moves
from service.pages.timeline import TOLD, UNREADABLE, fields_of, timeline
from tests.given import AMOUNT, NETWORK_FEE, Life, funded
from tests.unit.test_dispute import dispute, resolve

SAMPLES = Path(__file__).parents[2] / "schemas" / "events" / "samples"
PAGES = Path(words.__file__).parent


# -- words -----------------------------------------------------------------------------------------------------


@drawn(st.integers(min_value=0, max_value=ATOMIC_MAX))
def test_an_amount_is_written_exactly(atomic: int) -> None:
    whole, _, decimals = words.xmr(atomic).partition(".")
    assert int(whole) * ATOMIC_PER_XMR + int(decimals.ljust(12, "0") or 0) == atomic


@drawn(st.integers(min_value=0, max_value=10_000))
def test_a_share_is_read_as_it_is_written(bp: int) -> None:
    assert words.read_share(words.percent(bp)) == bp


@pytest.mark.parametrize("text", ["", "-1", "100.01", "101", "1e1", "1.234", "٣", "50 % of it", "0x1", ".5", "1..2"])
def test_what_is_no_share_is_none(text: str) -> None:
    assert words.read_share(text) is None


def test_an_age_is_told_in_its_largest_whole_unit() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    ages = {
        0: "just now",
        59: "just now",
        60: "1 min",
        7_199: "1 h",
        86_400: "1 d",
        86_400 * 9 + 5: "9 d",
        -5: "just now",
    }
    for seconds, told in ages.items():
        at = (now - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        assert words.age(at, now) == told


@pytest.mark.parametrize("text", [None, "", "x", "//x", "/\\x", "/a\\b", "https://x", "/\n/x", "/\u2028x", "/\x00"])
def test_what_could_lead_to_another_site_is_no_path(text: str | None) -> None:
    assert local_path(text) is None
    assert local_path("/cases/case_1?a=b") == "/cases/case_1?a=b"


# -- the timeline ----------------------------------------------------------------------------------------------


def _recorded(type: str, *, schema_version: int = 1, body: bytes = b"{}") -> Recorded:
    return Recorded(1, 1, "esc_1", 1, type, schema_version, "c", 0, 0, b"{}", body, b"", b"", b"")


def _mentions(hint: Any, *kinds: Any) -> bool:
    return hint in kinds or any(_mentions(part, *kinds) for part in get_args(hint))


def test_every_type_of_event_has_its_words_and_none_of_them_tells_what_is_sealed() -> None:
    assert set(TOLD) == set(EVENT_TYPES)
    for type, told in TOLD.items():
        there = set(EVENT_TYPES[type].__struct_fields__)
        assert fields_of(told.text) <= there, type
        hints = get_type_hints(EVENT_TYPES[type])
        assert not any(_mentions(hints[field], Sealed, Address) for field in fields_of(told.text)), type
        assert told.who in there or told.who in ("buyer", "vendor", "arbiter", "admin", "chain", "service"), type


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.v[0-9].json")), ids=lambda path: path.stem)
def test_every_event_ever_written_can_be_told(path: Path) -> None:
    type, version, _ = path.name.split(".")
    (line,) = timeline([_recorded(type, schema_version=int(version[1:]), body=path.read_bytes())])
    assert line.text and "{" not in line.text
    assert line.who in ("buyer", "vendor", "arbiter", "admin", "chain", "service")


def test_an_event_of_a_newer_program_is_told_as_such() -> None:
    (line,) = timeline([_recorded("deposit_seen", schema_version=99)])
    assert line.text == UNREADABLE


# -- previews --------------------------------------------------------------------------------------------------


def _previewed(life: Life, verdict: Verdict, bp: int | None) -> Amounts:
    found = preview(life.state, verdict=verdict, buyer_share_bp=bp, at=life.now)
    assert isinstance(found, Amounts)
    return found


@pytest.mark.parametrize("settlement", list(FeeSettlement))
@pytest.mark.parametrize(
    ("verdict", "bp"), [(Verdict.RELEASE, None), (Verdict.REFUND, None), (Verdict.SPLIT, 7_000), (Verdict.SPLIT, 3_333)]
)
def test_a_preview_is_what_is_paid_but_for_the_network_fee(
    settlement: FeeSettlement, verdict: Verdict, bp: int | None
) -> None:
    life = dispute(funded(policy=Policy(fee_settlement=settlement)))
    before = _previewed(life, verdict, bp)
    assert sum(before.parts) == AMOUNT
    resolve(life, verdict, bp=bp)
    proposer = Role.VENDOR if verdict is Verdict.RELEASE else Role.BUYER
    life.give_proposal(proposer)
    payout = life.money.payout
    assert payout is not None and payout.epoch is not None and payout.epoch.proposal is not None
    paid = {role: share.amount for share in payout.epoch.proposal.shares for role in share.roles}
    kept = change_of(life.money, payout.epoch)
    assert before.arbiter == paid.get(Role.ARBITER, 0) + kept
    for told, role in ((before.buyer, Role.BUYER), (before.vendor, Role.VENDOR)):
        assert 0 <= told - paid.get(role, 0) <= NETWORK_FEE
    assert sum(before.parts) - sum(paid.values()) - kept == NETWORK_FEE


def test_a_preview_changes_nothing_and_says_why_there_can_be_none() -> None:
    life = dispute(funded())
    before = life.state
    _previewed(life, Verdict.REFUND, None)
    assert life.state == before
    assert preview(before, verdict=Verdict.SPLIT, buyer_share_bp=10_001, at=life.now) == Refused("bp_invalid")
    resolve(life)
    decided = preview(life.state, verdict=Verdict.REFUND, buyer_share_bp=None, at=life.now)
    assert isinstance(decided, Refused) and decided.code == "case_closed"


# -- logins and waits ------------------------------------------------------------------------------------------


def test_failures_are_counted_by_sender_and_minute_in_a_bounded_table() -> None:
    attempts = Attempts(failures_max=2, senders_max=3)
    assert [attempts.failed("a", now_s=60 + n) for n in range(3)] == [True, True, False]
    assert attempts.failed("b", now_s=63)
    assert attempts.failed("a", now_s=120)
    for sender in "cde":
        attempts.failed(sender, now_s=121)
    assert len(attempts._counted) == 3


async def test_those_who_wait_for_a_stream_are_woken_by_it_alone() -> None:
    moves = Moves(waits_max=2)
    with moves.listening("a") as one, moves.listening("b") as two:
        assert one is not None and two is not None
        with moves.listening("a") as none:
            assert none is None
        moves.note("a")
        assert (one.is_set(), two.is_set()) == (True, False)
        moves.stop()
        async with asyncio.timeout(5):
            await two.wait()
    assert moves.waiting == 0
    with moves.listening("a") as later:
        assert later is None


# -- templates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((PAGES / "templates").glob("*.html")), ids=lambda path: path.name)
def test_no_template_trusts_a_text_or_needs_anything_from_elsewhere(path: Path) -> None:
    text = path.read_text()
    jinja2.Environment(autoescape=True).parse(text)
    for forbidden in ("|safe", "| safe", "autoescape", "Markup", " style=", " onclick", "javascript:", "<style", "://"):
        assert forbidden not in text
    assert text.count("<script") == text.count("<script src=")


def test_nothing_that_pages_ask_for_names_another_site() -> None:
    for path in (PAGES / "static").iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "") and "@import" not in text and "url(" not in text, path.name
