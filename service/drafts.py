"""Drafts of a case: what an arbiter's assistants prepare, in a stream beside the escrow's, which the parties read."""

from actors.escrow import KeyReused
from actors.limit_events import event_of, new_limit_event, read_on
from domain.arbiters import DRAFTS_MAX, DraftPrepared, draft_stream
from domain.ids import CommandId, EscrowId, Micros, UserId
from eventstore.api import AlreadyDone, Append, Appended, EventLog, LogBusy, LogUnavailable, OutcomeUnknown
from service.problems import Refusal

CONFLICTS_MAX = 20


async def drafts_of(event_log: EventLog, escrow_id: EscrowId) -> list[DraftPrepared]:
    """Reads the drafts of a case, in order; raises `LogUnavailable`."""
    found = []
    for each in await read_on(event_log, draft_stream(escrow_id), []):
        event = event_of(each)
        assert isinstance(event, DraftPrepared)
        found.append(event)
    return found


async def prepare(
    event_log: EventLog, draft: DraftPrepared, *, arbiter: UserId, command_id: CommandId, body_hash: str
) -> int:
    """Keeps a draft of a case's arbiter or of an assistant, once for a command; returns its number.

    Raises `Refusal`, `KeyReused`, `LogBusy`, `LogUnavailable`.
    """
    stream = draft_stream(draft.escrow_id)
    for _ in range(CONFLICTS_MAX):
        receipt = await event_log.receipt(stream_id=stream, command_id=command_id)
        if receipt is not None:
            return _first_answer(receipt.version, same=receipt.body_hash == body_hash)
        there = await drafts_of(event_log, draft.escrow_id)
        if sum((each.by == arbiter) == (draft.by == arbiter) for each in there) >= DRAFTS_MAX:
            raise Refusal("drafts_full", facts={"drafts_max": DRAFTS_MAX})
        outcome = await _append(event_log, stream, draft, there, command_id=command_id, body_hash=body_hash)
        if isinstance(outcome, Appended):
            return len(there) + 1
        if isinstance(outcome, AlreadyDone):
            return _first_answer(outcome.receipt.version, same=outcome.receipt.body_hash == body_hash)
    raise LogBusy(stream)


def _first_answer(version: int, *, same: bool) -> int:
    if not same:
        raise KeyReused
    return version


async def _append(
    event_log: EventLog,
    stream: str,
    draft: DraftPrepared,
    there: list[DraftPrepared],
    *,
    command_id: CommandId,
    body_hash: str,
) -> object:
    at = Micros(max(draft.at, there[-1].at if there else 0))
    later = DraftPrepared(at=at, escrow_id=draft.escrow_id, by=draft.by, draft=draft.draft)
    item = Append(
        stream_id=stream,
        expected_version=len(there),
        events=(new_limit_event(later, meta={"by": draft.by}),),
        command_id=command_id,
        body_hash=body_hash,
    )
    try:
        return await event_log.append(item)
    except OutcomeUnknown:
        raise LogUnavailable(stream) from None
