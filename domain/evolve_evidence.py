"""How events tell of evidence."""

from msgspec.structs import replace

from domain import events as e
from domain.evolve_money import with_core
from domain.states import Escrow, Evidence

EvidenceEvent = e.EvidenceAdded | e.EvidenceShown
"""A picture, from when it was added to when the last of the three was shown it."""


def evidence_part(state: Escrow, event: EvidenceEvent) -> Escrow | None:
    """Applies what happens to evidence; None where there is no case."""
    case = state.core.case
    if case is None:
        return None
    match event:
        case e.EvidenceAdded():
            case = replace(case, evidence=(*case.evidence, _added(event)), touched_at=event.at)
        case e.EvidenceShown():
            shown = (_shown(each, event) if each.photo_id == event.photo_id else each for each in case.evidence)
            case = replace(case, evidence=tuple(shown))
    return with_core(state, replace(state.core, case=case))


def _added(event: e.EvidenceAdded) -> Evidence:
    return Evidence(
        photo_id=event.photo_id,
        by=event.by,
        at=event.at,
        cid=event.cid,
        sha256=event.sha256,
        media_type=event.media_type,
        size=event.size,
        width=event.width,
        height=event.height,
        description=event.description,
    )


def _shown(photo: Evidence, event: e.EvidenceShown) -> Evidence:
    first = photo.shown.get(event.by, event.at)
    return replace(photo, shown=photo.shown | {event.by: first}, shown_to=photo.shown_to | {event.user})
