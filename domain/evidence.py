"""Evidence: which pictures a party may lay before the arbiter, and that being shown one is noted once for each."""

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent
from domain.ids import PhotoId, UserId
from domain.refusals import Refused
from domain.roles import PARTIES, Role
from domain.states import Case, Escrow, Evidence

EVIDENCE_PER_SIDE_MAX = 20
"""Pictures of one side in one case."""


def add(state: Escrow, command: c.AddEvidence) -> list[AnyEvent] | Refused:
    """Takes a party's picture into the case."""
    role, case = state.core.terms.role_of(command.by), state.core.case
    refused = may_add(state, by=command.by, sha256=command.sha256)
    if refused:
        return refused
    assert role is not None and case is not None
    added = e.EvidenceAdded(
        at=command.at,
        case_id=case.case_id,
        photo_id=command.photo_id,
        by=role,
        cid=command.cid,
        sha256=command.sha256,
        media_type=command.media_type,
        size=command.size,
        width=command.width,
        height=command.height,
        description=command.description,
    )
    return [added]


def may_add(state: Escrow, *, by: UserId, sha256: str | None = None) -> Refused | None:
    """Says why a user may not lay a picture, or this one, before the arbiter; None when they may."""
    role, case = state.core.terms.role_of(by), state.core.case
    if role not in PARTIES:
        return Refused("not_a_party")
    if case is None:
        return Refused("no_case")
    if not case.undecided:
        return Refused("case_closed")
    own = [each for each in case.evidence if each.by is role]
    same = next((each for each in own if each.sha256 == sha256), None)
    if same is not None:
        return Refused("photo_known", {"photo_id": same.photo_id})
    if len(own) >= EVIDENCE_PER_SIDE_MAX:
        return Refused("photos_full", {"photos_max": EVIDENCE_PER_SIDE_MAX})
    return None


def show(state: Escrow, command: c.ShowEvidence) -> list[AnyEvent] | Refused:
    """Notes that somebody who may see it is shown a picture, the first time for each person."""
    role, photo = state.core.terms.role_of(command.by), photo_of(state.core.case, command.photo_id)
    if role is None and command.assists:
        role = Role.ARBITER
    if role is None or photo is None:
        return Refused("no_such_photo")
    if command.by in photo.shown_to:
        return []
    shown = e.EvidenceShown(at=command.at, photo_id=photo.photo_id, by=role, user=command.by, sha256=photo.sha256)
    return [shown]


def photo_of(case: Case | None, photo_id: PhotoId) -> Evidence | None:
    """Finds a picture of a case by its name."""
    return next((each for each in case.evidence if each.photo_id == photo_id), None) if case else None
