"""What can be asked, as pure functions: from where an escrow stands to its rows in each read model."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from domain.deadlines import deadlines
from domain.decision import statement, statement_bytes
from domain.dispute import fee_tx_hash
from domain.ids import EscrowId
from domain.roles import THREE, Role, SeatKind
from domain.setup import arbiter_unready
from domain.states import TERMINAL, Case, CaseStatus, Completed, Disputed, Escrow, Refunded, money_of, name
from domain.terms import Terms
from domain.turns import in_line, turns
from projections.folds import Standing
from projections.rows import (
    DeadlineRow,
    DisputeRow,
    EscrowRow,
    MarkRow,
    MessageRow,
    PhotoRow,
    RecoveryRow,
    Row,
    StoppedRow,
    TurnRow,
    WalletRow,
)

UNREADABLE = "unreadable"
"""The reason of a recovery item whose escrow stands still."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A read model: its name, the kind of its rows, and how one escrow's rows follow from where it stands."""

    name: str
    row: type[Row]
    rows: Callable[[Standing], Sequence[Row]]
    counted: bool = False
    """Whether only the number of its rows by mark is kept."""


def escrows(standing: Standing) -> Sequence[EscrowRow]:
    """Makes the line of an escrow."""
    state = standing.state
    if state is None:
        return ()
    terms = state.core.terms
    row = EscrowRow(
        escrow_id=standing.escrow_id,
        order_id=terms.order_id,
        buyer_id=terms.buyer_id,
        vendor_id=terms.vendor_id,
        arbiter_id=terms.arbiter_id,
        amount=terms.amount,
        state=name(state),
        outcome=outcome_of(state),
        created_at=state.core.created_at,
        version=state.core.version,
        position=standing.position,
        watched=money_of(state) is not None,
        unready=arbiter_unready(state),
    )
    return (row,)


def outcome_of(state: Escrow) -> str | None:
    """Names how an escrow ended in payment; None while it has not."""
    match state:
        case Completed():
            return state.outcome
        case Refunded():
            return "refunded"
        case _:
            return None


def disputes(standing: Standing) -> Sequence[DisputeRow]:
    """Makes the row of an escrow's case, if it has one."""
    state = standing.state
    case = state.core.case if state is not None else None
    if state is None or case is None:
        return ()
    terms, signed = state.core.terms, case.signed
    row = DisputeRow(
        escrow_id=standing.escrow_id,
        case_id=case.case_id,
        order_id=terms.order_id,
        buyer_id=terms.buyer_id,
        vendor_id=terms.vendor_id,
        arbiter_id=terms.arbiter_id,
        amount=terms.amount,
        state=name(state),
        status=case.status,
        awaited=not case.over,
        opened_by=case.opened_by,
        opened_at=case.opened_at,
        touched_at=case.touched_at,
        escalated_at=case.escalated_at,
        buyer_claim=case.claims.get(Role.BUYER),
        vendor_claim=case.claims.get(Role.VENDOR),
        decision=case.verdict.value if case.verdict else None,
        buyer_share_bp=case.buyer_share_bp,
        reason=case.reason,
        reason_salt=case.reason_salt,
        statement=_statement(terms, case),
        signing_key=signed.key if signed else None,
        signature=signed.signature if signed else None,
        fee_atomic=case.fee_atomic,
        decided_at=case.decided_at,
        winner_tx_hash=case.winner_tx_hash if case.status is CaseStatus.RESOLVED else None,
        arbiter_fee_tx_hash=fee_tx_hash(state),
    )
    return (row,)


def _statement(terms: Terms, case: Case) -> str | None:
    if case.signed is None or case.verdict is None:
        return None
    said = statement(
        terms,
        case_id=case.case_id,
        verdict=case.verdict,
        buyer_share_bp=case.buyer_share_bp,
        reason_digest=case.signed.reason_digest,
    )
    return statement_bytes(said).decode()


def messages(standing: Standing) -> Sequence[MessageRow]:
    """Makes a row for each message of an escrow's case, in order."""
    case = standing.state.core.case if standing.state is not None else None
    return tuple(
        MessageRow(
            escrow_id=standing.escrow_id,
            number=each.number,
            by=each.by,
            at=each.at,
            message=each.text,
            reply_to=each.reply_to,
        )
        for each in (case.messages if case else ())
    )


def photos(standing: Standing) -> Sequence[PhotoRow]:
    """Makes a row for each picture of an escrow's case."""
    case = standing.state.core.case if standing.state is not None else None
    return tuple(_photo(standing.escrow_id, case, number) for number in range(len(case.evidence))) if case else ()


def _photo(escrow_id: EscrowId, case: Case, number: int) -> PhotoRow:
    photo = case.evidence[number]
    return PhotoRow(
        escrow_id=escrow_id,
        photo_id=photo.photo_id,
        case_id=case.case_id,
        number=number,
        uploader=photo.by,
        at=photo.at,
        cid=photo.cid,
        sha256=photo.sha256,
        media_type=photo.media_type,
        size=photo.size,
        width=photo.width,
        height=photo.height,
        description=photo.description,
        buyer_saw_at=photo.shown.get(Role.BUYER),
        vendor_saw_at=photo.shown.get(Role.VENDOR),
        arbiter_saw_at=photo.shown.get(Role.ARBITER),
    )


def recovery(standing: Standing) -> Sequence[RecoveryRow]:
    """Makes the row of an escrow that people must look at: open items, a dispute, or a history that cannot be read."""
    state = standing.state
    if state is None or not (state.core.recovery or isinstance(state, Disputed) or standing.stop):
        return ()
    core = state.core
    row = RecoveryRow(
        escrow_id=standing.escrow_id,
        order_id=core.terms.order_id,
        state=name(state),
        amount=core.terms.amount,
        reasons=(*core.recovery, *((UNREADABLE,) if standing.stop else ())),
        case_id=core.case.case_id if core.case else None,
        active_at=core.active_at,
    )
    return (row,)


def wallets(standing: Standing) -> Sequence[WalletRow]:
    """Makes the row of an escrow's three wallets."""
    state = standing.state
    if state is None:
        return ()
    kinds, seats = state.core.terms.seats, state.core.seats
    ids = {role: seats[role].wallet_id if role in seats else None for role in THREE}
    row = WalletRow(
        escrow_id=standing.escrow_id,
        buyer_kind=kinds[Role.BUYER],
        vendor_kind=kinds[Role.VENDOR],
        arbiter_kind=kinds[Role.ARBITER],
        buyer_wallet=ids[Role.BUYER],
        vendor_wallet=ids[Role.VENDOR],
        arbiter_wallet=ids[Role.ARBITER],
    )
    return (row,)


def open_turns(standing: Standing) -> Sequence[TurnRow]:
    """Makes a row for each wallet step that is asked for; nothing is asked of an escrow that stands still."""
    state = standing.state
    if state is None or standing.stop:
        return ()
    return tuple(
        TurnRow(
            escrow_id=standing.escrow_id,
            role=turn.role,
            kind=state.core.terms.seats[turn.role],
            step=turn.step,
            turn_id=turn.turn_id,
            since=turn.since,
            in_line=in_line(state, turn),
        )
        for turn in turns(state)
    )


def due(standing: Standing) -> Sequence[DeadlineRow]:
    """Makes a row for each deadline; an escrow that stands still keeps no time."""
    state = standing.state
    if state is None or standing.stop:
        return ()
    return tuple(
        DeadlineRow(escrow_id=standing.escrow_id, kind=each.kind, start=each.start, due=each.due)
        for each in deadlines(state)
    )


def stopped(standing: Standing) -> Sequence[StoppedRow]:
    """Makes the row of an escrow that stands still."""
    stop = standing.stop
    if stop is None:
        return ()
    return (StoppedRow(escrow_id=standing.escrow_id, version=stop.version, position=stop.position, says=stop.says),)


def capacity(standing: Standing) -> Sequence[MarkRow]:
    """Marks an escrow for the counts: what it is, whether it is alive, and its wallets on hosted seats."""
    state = standing.state
    return () if state is None else tuple(MarkRow(escrow_id=standing.escrow_id, mark=mark) for mark in _marks(state))


def _marks(state: Escrow) -> Iterator[str]:
    yield "created"
    yield f"status:{name(state)}"
    if state.core.case is not None:
        yield "disputed"
    if state.core.recovery:
        yield "recovery"
    if isinstance(state, TERMINAL):
        return
    yield "alive"
    for role in state.core.seats:
        if state.core.terms.seats[role] is SeatKind.POOL:
            yield f"hosted:{role.value}"


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(name="escrows", row=EscrowRow, rows=escrows),
        Model(name="disputes", row=DisputeRow, rows=disputes),
        Model(name="messages", row=MessageRow, rows=messages),
        Model(name="photos", row=PhotoRow, rows=photos),
        Model(name="recovery", row=RecoveryRow, rows=recovery),
        Model(name="wallets", row=WalletRow, rows=wallets),
        Model(name="turns", row=TurnRow, rows=open_turns),
        Model(name="deadlines", row=DeadlineRow, rows=due),
        Model(name="stopped", row=StoppedRow, rows=stopped),
        Model(name="capacity", row=MarkRow, rows=capacity, counted=True),
    )
}
"""Every read model by its name."""
