"""Evidence: a picture's way from a party's hands into the case, and to the eyes of the three."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from actors.desk import derived_id
from actors.escrow import Accepted, Answer, replayed
from actors.picture.kinds import PictureLimits
from actors.picture.process import cleaned_apart
from actors.picture.wire import CleanPicture
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain.evidence import may_add, photo_of
from domain.ids import CommandId, EscrowId, Micros, PhotoId, UserId
from domain.states import Escrow, Evidence
from eventstore.api import LogBusy
from eventstore.evidence import EvidenceStore, EvidenceWrong
from schemas.sealing import SealedKind
from service.house import House
from service.problems import Refusal, problem_of, refuse

DECODED_AT_ONCE: Final = 2
"""Processes that take a picture apart at a time, each with `memory_max` at the most."""
OPENED_AT_ONCE: Final = 2
"""Pictures that are fetched and opened at a time: each is in memory several times over."""
USER_SHARE: Final = 4
USER_LEAST: Final = 2


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a party lays before the arbiter, and what makes it happen once."""

    content: bytes
    description: str
    by: UserId
    command_id: CommandId
    body_hash: str

    def __repr__(self) -> str:
        return "Offered(…)"


class EvidenceRoom:
    """Takes pictures in and shows them, for one node."""

    def __init__(self, house: House) -> None:
        settings = house.settings
        self._house = house
        self._store: EvidenceStore = house.evidence or house.store.evidence
        self.limits = PictureLimits(bytes_max=settings.evidence_bytes_max, pixels_max=settings.evidence_pixels_max)
        self._decoding, self._opening = asyncio.Semaphore(DECODED_AT_ONCE), asyncio.Semaphore(OPENED_AT_ONCE)
        self._transfers: Counter[UserId] = Counter()
        self.results: Counter[str] = Counter()
        """Pictures that were sent, by what became of them: `added`, or the code of why not."""

    @property
    def transfers(self) -> int:
        """How many pictures come and go now."""
        return self._transfers.total()

    @contextmanager
    def transfer(self, user: UserId) -> Iterator[None]:
        """Takes a place among the pictures that come and go; raises `LogBusy` when there is none."""
        most = self._house.settings.evidence_transfers_max
        if self._transfers.total() >= most or self._transfers[user] >= max(USER_LEAST, most // USER_SHARE):
            self.results["busy"] += 1
            raise LogBusy("pictures come and go as many as may")
        self._transfers[user] += 1
        try:
            yield
        finally:
            self._transfers[user] -= 1
            self._transfers += Counter()  # forgets who has none left

    async def add(self, state: Escrow, offered: Offered) -> tuple[Accepted, Evidence]:
        """Lays a picture before the arbiter of a case; returns what is known of it from now on.

        Its bytes are stored and read back before anything is in the log. Raises `Refusal`, `BadPicture`,
        `EvidenceUnavailable`, `EvidenceWrong`, and what `Desk.handle` raises.
        """
        try:
            answer, photo = await self._added(state, offered)
        except Exception as refused:
            self.results[problem_of(refused).code] += 1
            raise
        self.results["added"] += 1
        return answer, photo

    async def _added(self, state: Escrow, offered: Offered) -> tuple[Accepted, Evidence]:
        escrow_id, photo_id = state.core.terms.escrow_id, photo_id_of(offered.command_id)
        answer = await self._answered(escrow_id, offered) or await self._laid(state, photo_id, offered)
        if not isinstance(answer, Accepted):
            raise refuse(answer)
        now = await self._house.desk.state(escrow_id)
        photo = photo_of(now.core.case, photo_id) if now is not None else None
        assert photo is not None, "accepted, and not in the case"
        return answer, photo

    async def _answered(self, escrow_id: EscrowId, offered: Offered) -> Answer | None:
        """Finds what the same request was answered before: then nothing is taken apart again."""
        if not offered.body_hash:
            return None
        receipt = await self._house.store.log.receipt(stream_id=escrow_id, command_id=offered.command_id)
        return replayed(receipt, body_hash=offered.body_hash) if receipt is not None else None

    async def _laid(self, state: Escrow, photo_id: PhotoId, offered: Offered) -> Answer:
        _check(state, offered.by)
        picture = await self._cleaned(offered.content)
        sha256 = await _sha256(picture.content)
        _check(state, offered.by, sha256=sha256)
        command = await self._stored(state.core.terms.escrow_id, photo_id, offered, picture, sha256=sha256)
        return await self._house.desk.handle(
            state.core.terms.escrow_id,
            command,
            command_id=offered.command_id,
            actor=offered.by,
            body_hash=offered.body_hash,
        )

    async def _cleaned(self, content: bytes) -> CleanPicture:
        async with self._decoding:
            try:
                return await cleaned_apart(content, limits=self.limits)
            except OSError as failure:
                raise LogBusy(f"no process can be started: {type(failure).__name__}") from None

    async def _stored(
        self, escrow_id: EscrowId, photo_id: PhotoId, offered: Offered, picture: CleanPicture, *, sha256: str
    ) -> c.AddEvidence:
        sealing = EscrowSecrets(self._house.store.vault, escrow_id)
        sealed = await sealing.seal_bytes(SealedKind.PICTURE, photo_id, picture.content)
        cid = await self._store.add(escrow_id, sealed)
        if await self._store.get(escrow_id, cid) != sealed:
            raise EvidenceWrong("other bytes than those that were added")
        return c.AddEvidence(
            at=Micros(self._house.clock.now()),
            by=offered.by,
            photo_id=photo_id,
            cid=cid,
            sha256=sha256,
            media_type=picture.media_type,
            size=len(picture.content),
            width=picture.width,
            height=picture.height,
            description=await sealing.seal(SealedKind.PICTURE_DESCRIPTION, photo_id, offered.description),
        )

    async def show(self, state: Escrow, photo: Evidence, *, by: UserId, assists: bool = False) -> bytes:
        """Returns a picture, its hash checked, once it is in the log that this person is shown it.

        Raises `EvidenceUnavailable`, `EvidenceWrong`, `SealBroken`, `Refusal`, and what `Desk.handle` raises.
        """
        escrow_id = state.core.terms.escrow_id
        async with self._opening:
            sealed = await self._store.get(escrow_id, photo.cid)
            sealing = EscrowSecrets(self._house.store.vault, escrow_id)
            content = await sealing.open_bytes(SealedKind.PICTURE, photo.photo_id, sealed)
            if await _sha256(content) != photo.sha256:
                raise EvidenceWrong("another picture than the one that was added")
        if by not in photo.shown_to:
            at = Micros(self._house.clock.now())
            command = c.ShowEvidence(at=at, by=by, photo_id=photo.photo_id, assists=assists)
            once = derived_id("evidence_shown", escrow_id, photo.photo_id, by)
            answer = await self._house.desk.handle(escrow_id, command, command_id=once, actor=by)
            if not isinstance(answer, Accepted):
                raise refuse(answer)
        return content


def photo_id_of(command_id: CommandId) -> PhotoId:
    """Names the picture that a command adds."""
    return PhotoId(f"photo_{derived_id('photo', command_id)[:32]}")


def _check(state: Escrow, by: UserId, *, sha256: str | None = None) -> None:
    """Refuses before anything is done what would be refused afterwards."""
    refused = may_add(state, by=by, sha256=sha256)
    if refused:
        raise Refusal(refused.code, facts=refused.facts)


async def _sha256(content: bytes) -> str:
    return (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
