"""The pictures of a case as its three see them listed."""

from aiohttp import web

from actors.sealed import EscrowSecrets
from domain.ids import EscrowId
from domain.roles import Role
from projections.rows import PhotoRow
from schemas.answers import moment
from schemas.case_answers import CasePhoto
from schemas.sealing import SealedKind
from service.api.asking import open_text
from service.api.door import house_of

PHOTOS = "photos"
"""The read model they come from."""


async def photos_of(request: web.Request, escrow_id: EscrowId, sealing: EscrowSecrets) -> tuple[CasePhoto, ...]:
    """Lists the pictures of an escrow's case in the order in which they were added, their descriptions opened."""
    found = await house_of(request).models.rows.photos(escrow_id)
    return tuple([_photo(each, description=await _description(sealing, each)) for each in found])


async def _description(sealing: EscrowSecrets, row: PhotoRow) -> str | None:
    return await open_text(sealing, SealedKind.PICTURE_DESCRIPTION, row.photo_id, row.description)


def _photo(row: PhotoRow, *, description: str | None) -> CasePhoto:
    saw = {Role.BUYER: row.buyer_saw_at, Role.VENDOR: row.vendor_saw_at, Role.ARBITER: row.arbiter_saw_at}
    return CasePhoto(
        photo_id=row.photo_id,
        uploader_role=row.uploader.value,
        at=moment(row.at),
        description=description,
        ipfs_hash=row.cid,
        sha256=row.sha256,
        media_type=row.media_type,
        size=row.size,
        width=row.width,
        height=row.height,
        shown={role.value: None if at is None else moment(at) for role, at in saw.items()},
    )
