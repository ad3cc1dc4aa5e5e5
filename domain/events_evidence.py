"""What can happen to evidence: a picture is laid before the arbiter, and somebody is shown it for the first time."""

from domain.event import Event
from domain.ids import CaseId, Cid, PhotoId, Sealed, UserId
from domain.roles import Role


class EvidenceAdded(Event, frozen=True, kw_only=True):
    """A party laid a picture before the arbiter; its sealed bytes were stored, and read back, before this."""

    case_id: CaseId
    photo_id: PhotoId
    by: Role
    cid: Cid
    """Of the sealed bytes: where they are found, and that they are the same."""
    sha256: str
    """Of the clean picture, hex: what the three are shown, to the byte."""
    media_type: str
    size: int
    """Of the clean picture, in bytes; width and height in pixels."""
    width: int
    height: int
    description: Sealed


class EvidenceShown(Event, frozen=True, kw_only=True):
    """Somebody was shown a picture, its hash checked, for the first time: one of the three, or for the arbiter."""

    photo_id: PhotoId
    by: Role
    user: UserId
    """The person: an arbiter's assistants see what it sees."""
    sha256: str
    """Of what was shown, hex."""
