"""The draw of an arbiter: what anybody can compute again, what nobody can choose, and who is never drawn."""

import hashlib
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn_by
from hypothesis import strategies as st

from domain import arbiters as d
from domain import commands as c
from domain import events as e
from domain.draw import LINKS_MAX, ArbiterDraw, anchor_of, draw_holds, drawn, hashed, link_of
from domain.ids import EscrowId, Micros, OrderId, Sealed, UserId
from service.transitions import StreamCheck
from tests.given import ARBITER, BUYER, START, VENDOR, Life, terms
from tests.model_worlds import recorded

SEED = bytes(32)
MARA, NOOR = UserId("mara"), UserId("noor")
POOL = (ARBITER, MARA, NOOR)
PARTIES = frozenset({BUYER, VENDOR})


def draw_of(*, link: int = 1, eligible: tuple[UserId, ...] = POOL, order: str = "order-1") -> tuple[Any, ArbiterDraw]:
    """An order's terms with the arbiter that was drawn, and the draw."""
    secret = link_of(SEED, link)
    asked = msgspec.structs.replace(terms(), order_id=OrderId(order))
    draw = ArbiterDraw(chain=1, anchor=anchor_of(SEED), link=link, secret=secret, eligible=eligible, excluded={})
    return msgspec.structs.replace(asked, arbiter_id=drawn(asked, secret=secret, eligible=eligible)), draw


# -- commit and reveal -----------------------------------------------------------------------------------------


def test_every_link_leads_forward_to_the_anchor_and_to_the_link_before_it() -> None:
    anchor = anchor_of(SEED)
    for link in (1, 2, 3, LINKS_MAX - 1, LINKS_MAX):
        assert hashed(bytes.fromhex(link_of(SEED, link)), times=link).hex() == anchor
    for link in (1, 2, 1_000):
        forward = hashlib.sha256(bytes.fromhex(link_of(SEED, link + 1))).hexdigest()
        assert forward == link_of(SEED, link)


def test_a_draw_is_computed_from_its_own_words_alone() -> None:
    asked, draw = draw_of()
    said = [draw.secret, asked.order_id, asked.buyer_id, asked.vendor_id, asked.amount, sorted(draw.eligible)]
    number = int(hashlib.sha256(b"thirdkey draw 1\n" + msgspec.json.encode(said)).hexdigest(), 16)
    assert asked.arbiter_id == sorted(draw.eligible)[number % 3]
    assert draw_holds(asked, draw)


def test_the_escrows_own_id_which_the_service_may_choose_changes_no_draw() -> None:
    asked, draw = draw_of()
    for number in range(20):
        other = msgspec.structs.replace(asked, escrow_id=EscrowId(f"esc_{number}"))
        assert drawn(other, secret=draw.secret, eligible=draw.eligible) == asked.arbiter_id


def test_everybody_is_drawn_about_as_often() -> None:
    counts = Counter(draw_of(link=link)[0].arbiter_id for link in range(1, 601))
    assert set(counts) == set(POOL)
    assert min(counts.values()) > 150, counts


@drawn_by(st.integers(1, LINKS_MAX), st.sets(st.sampled_from((*POOL, UserId("olga"), UserId("per"))), min_size=1))
def test_a_draw_that_was_made_rightly_holds(link: int, among: set[UserId]) -> None:
    assert draw_holds(*draw_of(link=link, eligible=tuple(sorted(among))))


@pytest.mark.parametrize(
    "change",
    [
        {"secret": link_of(SEED, 2)},
        {"secret": "00" * 32},
        {"secret": "zz"},
        {"link": 2},
        {"link": 0},
        {"link": LINKS_MAX + 1},
        {"anchor": "00" * 32},
        {"eligible": ()},
        {"eligible": POOL[::-1]},
        {"eligible": (*POOL, POOL[-1])},
        {"eligible": (BUYER, *POOL)},
        {"excluded": {ARBITER: "on_holiday"}},
    ],
)
def test_a_draw_that_was_tampered_with_does_not_hold(change: dict[str, Any]) -> None:
    asked, draw = draw_of()
    assert not draw_holds(asked, msgspec.structs.replace(draw, **change))


def test_another_arbiter_than_the_drawn_one_does_not_hold() -> None:
    asked, draw = draw_of()
    for other in set(POOL) - {asked.arbiter_id}:
        assert not draw_holds(msgspec.structs.replace(asked, arbiter_id=other), draw)


def test_an_auditor_finds_an_escrow_whose_arbiter_was_not_the_drawn_one() -> None:
    asked, draw = draw_of()
    life = Life().when(c.CreateEscrow(at=START, terms=asked, by=BUYER, draw=draw))
    assert findings(life) == []
    other = next(user for user in POOL if user != asked.arbiter_id)
    (first, *rest) = life.events
    assert isinstance(first, e.EscrowCreated)
    swapped = msgspec.structs.replace(first, terms=msgspec.structs.replace(asked, arbiter_id=other))
    life.events[:] = [swapped, *rest]
    assert findings(life) == ["the arbiter is not the one that was drawn"]


def findings(life: Life) -> list[str]:
    check = StreamCheck("esc_1")
    return [says for each in recorded(life) for says in check.take(each)]


def test_no_escrow_is_created_with_another_arbiter_than_the_drawn_one() -> None:
    asked, draw = draw_of()
    other = next(user for user in POOL if user != asked.arbiter_id)
    wrong = msgspec.structs.replace(asked, arbiter_id=other)
    with pytest.raises(AssertionError, match="drawn"):
        Life().when(c.CreateEscrow(at=START, terms=wrong, by=BUYER, draw=draw))


# -- links in order --------------------------------------------------------------------------------------------


def committed(chain: int) -> d.ChainCommitted:
    return d.ChainCommitted(at=START, chain=chain, anchor=anchor_of(SEED), seed=Sealed("seed"))


def taken(chain: int, link: int) -> d.LinkTaken:
    return d.LinkTaken(at=START, chain=chain, link=link, escrow_id=EscrowId(f"esc_{chain}_{link}"))


def test_links_are_taken_one_after_the_other_and_then_those_of_the_next_chain() -> None:
    draws = d.enter(d.enter(d.Draws(), committed(1)), committed(2))
    for link in range(1, LINKS_MAX + 1):
        draws = d.enter(draws, taken(1, link))
    assert draws.current == 2
    draws = d.enter(draws, taken(2, 1))
    assert [each.taken for each in draws.chains] == [LINKS_MAX, 1]
    assert len(draws.taken) == d.TAKEN_KEPT_MAX
    assert draws.taken[EscrowId("esc_2_1")] == (2, 1)


@pytest.mark.parametrize("event", [taken(1, 2), taken(1, 0), taken(2, 1), committed(1), committed(3)])
def test_no_link_is_skipped_or_taken_twice(event: d.AnyDrawEvent) -> None:
    with pytest.raises(d.LinkOutOfTurn):
        d.enter(d.enter(d.Draws(), committed(1)), event)


# -- who may be drawn ------------------------------------------------------------------------------------------


def roster(*events: d.AnyArbiterEvent) -> d.Roster:
    state = d.Roster()
    for event in events:
        state = d.enrol(state, event)
    return state


def away(arbiter: UserId, *, seconds: int | None, delegate: UserId | None = None) -> d.ArbiterAway:
    until = None if seconds is None else Micros(START + seconds * 1_000_000)
    return d.ArbiterAway(at=START, arbiter=arbiter, until=until, delegate=delegate)


def conflict(arbiter: UserId, party: UserId) -> d.ConflictDeclared:
    return d.ConflictDeclared(at=START, arbiter=arbiter, party=party, by=arbiter)


def found(state: d.Roster, *, arbiters: tuple[UserId, ...] = POOL, ready_s: int = 0, later_s: int = 0) -> d.Candidates:
    at = Micros(START + later_s * 1_000_000)
    return d.candidates(state, arbiters, parties=PARTIES, at=at, ready_s=ready_s)


def test_a_party_is_never_its_own_judge() -> None:
    among = found(roster(), arbiters=(BUYER, *POOL, VENDOR))
    assert (among.eligible, among.excluded) == (POOL, {BUYER: "party", VENDOR: "party"})


def test_an_arbiter_in_conflict_with_either_party_is_never_drawn() -> None:
    state = roster(conflict(MARA, VENDOR), conflict(NOOR, UserId("somebody else")))
    assert found(state) == d.Candidates(eligible=(ARBITER, NOOR), excluded={MARA: "conflict"})
    withdrawn = d.ConflictWithdrawn(at=START, arbiter=MARA, party=VENDOR, by=UserId("root"))
    assert found(d.enrol(state, withdrawn)).eligible == POOL


def test_an_arbiter_on_holiday_is_not_drawn_until_it_is_over() -> None:
    state = roster(away(MARA, seconds=60))
    assert found(state) == d.Candidates(eligible=(ARBITER, NOOR), excluded={MARA: "on_holiday"})
    assert found(state, later_s=60).eligible == POOL
    assert found(d.enrol(state, away(MARA, seconds=None))).eligible == POOL


def test_a_delegate_stands_in_unless_it_may_not_itself() -> None:
    state = roster(away(ARBITER, seconds=60, delegate=MARA))
    assert found(state, arbiters=(ARBITER,)).eligible == (MARA,)
    assert found(roster(away(ARBITER, seconds=60, delegate=BUYER)), arbiters=(ARBITER,)).eligible == ()
    both = d.enrol(state, away(MARA, seconds=60, delegate=NOOR))
    assert found(both, arbiters=(ARBITER,)).excluded == {ARBITER: "on_holiday", MARA: "on_holiday"}
    assert found(d.enrol(state, conflict(MARA, BUYER)), arbiters=(ARBITER,)).eligible == ()


def test_only_who_was_seen_lately_is_ready_where_that_is_asked() -> None:
    state = roster(d.ArbiterSeen(at=START, arbiter=MARA))
    assert found(state, ready_s=60, later_s=60).eligible == (MARA,)
    assert found(state, ready_s=60, later_s=61).excluded == dict.fromkeys(POOL, "not_ready")
    assert found(state).eligible == POOL


def test_what_says_nothing_new_adds_nothing() -> None:
    state = roster(conflict(MARA, BUYER), away(NOOR, seconds=60), d.ArbiterSeen(at=START, arbiter=MARA))
    again = (conflict(MARA, BUYER), away(NOOR, seconds=60), d.ArbiterSeen(at=Micros(START + 59_000_000), arbiter=MARA))
    for event in again:
        assert d.decide_roster(state, event, quiet_s=60) == ()
    seen = d.ArbiterSeen(at=Micros(START + 60_000_000), arbiter=MARA)
    assert d.decide_roster(state, seen, quiet_s=60) == (seen,)


def test_what_cannot_be_is_refused() -> None:
    for event, code in (
        (away(MARA, seconds=0), "deadline_invalid"),
        (away(MARA, seconds=60, delegate=MARA), "three_must_differ"),
    ):
        refused = d.decide_roster(d.Roster(), event, quiet_s=60)
        assert not isinstance(refused, tuple) and refused.code == code


def test_an_arbiter_names_no_more_than_so_many() -> None:
    state = roster(*(conflict(MARA, UserId(f"u{n}")) for n in range(d.CONFLICTS_MAX)))
    refused = d.decide_roster(state, conflict(MARA, BUYER), quiet_s=60)
    assert not isinstance(refused, tuple) and refused.code == "roster_full"
    named = [d.AssistantNamed(at=START, arbiter=MARA, assistant=UserId(f"u{n}")) for n in range(d.ASSISTANTS_MAX + 1)]
    refused = d.decide_roster(roster(*named[:-1]), named[-1], quiet_s=60)
    assert not isinstance(refused, tuple) and refused.code == "roster_full"
    assert roster(named[0]).assists(UserId("u0"), MARA)
    gone = d.AssistantDismissed(at=START, arbiter=MARA, assistant=UserId("u0"))
    assert not roster(named[0], gone).assists(UserId("u0"), MARA)
