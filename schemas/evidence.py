"""What the API answers to whoever lays evidence before an arbiter."""

from schemas.answers import Answer


class PhotoAdded(Answer, frozen=True, kw_only=True):
    """The picture as it is kept and served from now on."""

    photo_id: str
    ipfs_hash: str
    """CIDv1 of the sealed bytes, in whichever store they lie."""
    uploader_role: str
    at: str
    sha256: str
    """Of the picture as it is served."""
    media_type: str
    size: int
    width: int
    height: int
    case_id: str
    escrow_id: str
    version: int
    state: str
    cursor: str
