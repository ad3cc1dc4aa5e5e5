"""Which pictures a party may lay before the arbiter, and how it is noted who was shown them."""

import msgspec
import pytest

from domain import commands as c
from domain import events as e
from domain.events import Verdict
from domain.evidence import EVIDENCE_PER_SIDE_MAX
from domain.ids import PhotoId, Sealed, UserId
from domain.roles import Role
from domain.states import Case
from service.evidence_told import evidence_told
from tests.given import ARBITER, BUYER, VENDOR, Life, add_evidence, disputed, funded
from tests.model_worlds import recorded, shown

FIRST = PhotoId(f"photo-{BUYER}-1")


def _lay(life: Life, by: UserId = BUYER, *, number: int = 1) -> Life:
    return life.when(add_evidence(at=life.later(60).now, by=by, number=number))


def _show(life: Life, by: UserId, photo_id: PhotoId = FIRST) -> Life:
    return life.when(c.ShowEvidence(at=life.later(60).now, by=by, photo_id=photo_id))


def _case(life: Life) -> Case:
    case = life.state.core.case
    assert case is not None
    return case


def test_both_parties_lay_pictures_before_the_arbiter() -> None:
    life = disputed()
    _lay(life).then(e.EvidenceAdded)
    _lay(life, VENDOR).then(e.EvidenceAdded)
    assert [(each.by, each.photo_id) for each in _case(life).evidence] == [
        (Role.BUYER, FIRST),
        (Role.VENDOR, f"photo-{VENDOR}-1"),
    ]
    assert _case(life).touched_at == life.now


def test_the_arbiter_and_strangers_lay_none() -> None:
    for by in (ARBITER, UserId("mallory")):
        _lay(disputed(), by).refused("not_a_party")


def test_without_a_case_there_is_nobody_to_lay_a_picture_before() -> None:
    _lay(funded()).refused("no_case")


def test_no_picture_comes_after_the_decision() -> None:
    life = disputed()
    decided = c.ResolveDispute(
        at=life.now, by=ARBITER, verdict=Verdict.REFUND, buyer_share_bp=None, reason=Sealed("because")
    )
    _lay(life.when(decided)).refused("case_closed")


def test_the_same_picture_of_the_same_side_is_laid_once() -> None:
    life = _lay(disputed())
    again = msgspec.structs.replace(add_evidence(at=life.now, by=BUYER), photo_id=PhotoId("photo-other"))
    life.when(again).refused("photo_known")
    assert life.answer.facts == {"photo_id": FIRST}  # type: ignore[union-attr]
    _lay(life, VENDOR).then(e.EvidenceAdded)


def test_each_side_lays_so_many_pictures_whatever_the_other_does() -> None:
    life = disputed()
    for number in range(EVIDENCE_PER_SIDE_MAX):
        _lay(life, number=number).then(e.EvidenceAdded)
    _lay(life, number=99).refused("photos_full")
    _lay(life, VENDOR, number=99).then(e.EvidenceAdded)


@pytest.mark.parametrize("by", [BUYER, VENDOR, ARBITER])
def test_being_shown_a_picture_is_noted_once_for_each_of_the_three(by: UserId) -> None:
    life = _show(_lay(disputed()), by).then(e.EvidenceShown)
    role = life.state.core.terms.role_of(by)
    assert _case(life).evidence[0].shown == {role: life.now}
    _show(life, by).then()


def test_nobody_else_is_shown_a_picture_and_none_that_is_not_there() -> None:
    life = _lay(disputed())
    _show(life, UserId("mallory")).refused("no_such_photo")
    _show(life, BUYER, PhotoId("photo-2")).refused("no_such_photo")


def test_a_bundle_tells_the_hash_of_every_picture_and_who_was_shown_it() -> None:
    told = list(evidence_told(recorded(shown())))
    assert told == [
        f"picture photo-{BUYER}-1 of the buyer: image/jpeg, 1000 bytes, sha256 hash-1, sealed as cid-1",
        f"picture photo-{VENDOR}-1 of the vendor: image/jpeg, 1000 bytes, sha256 hash-1, sealed as cid-1",
        f"picture photo-{VENDOR}-1 shown to {ARBITER} (arbiter), sha256 hash-1",
    ]


def test_an_assistant_is_shown_what_the_arbiter_is_and_is_noted_by_name() -> None:
    life, ann = _lay(disputed()), UserId("ann")
    life.when(c.ShowEvidence(at=life.now, by=ann, photo_id=FIRST, assists=True)).then(e.EvidenceShown)
    assert (_case(life).evidence[0].shown_to, list(_case(life).evidence[0].shown)) == (frozenset({ann}), [Role.ARBITER])
    first = _case(life).evidence[0].shown[Role.ARBITER]
    _show(life, ARBITER).then(e.EvidenceShown)
    assert _case(life).evidence[0].shown == {Role.ARBITER: first}


def test_looking_at_a_picture_keeps_no_escalation_waiting() -> None:
    life = _lay(disputed())
    before = life.state.core.active_at
    assert _show(life, ARBITER).state.core.active_at == before
