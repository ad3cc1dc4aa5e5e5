"""How an escrow comes about: what is unique or limited across escrows is claimed first, then the escrow is created.

Each claim is one append to the stream of its limit, held by that stream's own version check, so the limits hold on any
number of nodes. A claim names the command it was made for; a creation that is refused leaves a receipt under that
command, which tells everybody at once that its claims are dead. After a crash in between they expire.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from actors.desk import derived_id
from actors.directory import Parked
from actors.escrow import Accepted, Answer, Rejected
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain import limits
from domain.decide import decide
from domain.evolve import ImpossibleHistory
from domain.ids import CommandId, EscrowId, Micros, UserId
from domain.limits import AnyLimitEvent
from domain.refusals import Refused
from domain.states import TERMINAL, Escrow, money_of
from domain.terms import Terms
from eventstore.api import Append, Conflict, LogBusy, LogUnavailable, NewEvent, OutcomeUnknown, Recorded
from schemas.codec import UnknownEvent
from schemas.limit_codec import decode_limit, encode_limit
from schemas.sealing import SealedKind
from service.house import House
from service.settings import Arbiter

ATTEMPTS_MAX = 20
READ_PAGE = 1000
NOT_KEPT = frozenset({"limit_concurrency", "maintenance"})
"""Refusals that are over by themselves: the same key may try again."""

Limit = Callable[[Sequence[AnyLimitEvent], frozenset[EscrowId]], limits.Decision]
"""Decides over a limit's events, given the escrows among them that are known to be over."""


class ClaimMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim says about itself: who asked, and the creation it was made for."""

    by: str
    for_command: str


class Creation(msgspec.Struct, frozen=True, kw_only=True):
    """One request to create an escrow; the same `command_id` is the same request."""

    command: c.CreateEscrow
    command_id: CommandId
    body_hash: str
    actor: str

    @property
    def terms(self) -> Terms:
        """What the three will have agreed to."""
        return self.command.terms


def escrow_id_of(command_id: CommandId) -> EscrowId:
    """Derives the escrow's id from the command that creates it, so that a repeated command cannot create two."""
    return EscrowId(f"esc_{command_id[:32]}")


def assign_arbiter(arbiters: Sequence[Arbiter], *, parties: Iterable[UserId]) -> Arbiter | Refused:
    """Picks one arbiter at random who is no party of the escrow."""
    free = [arbiter for arbiter in arbiters if arbiter.user_id not in set(parties)]
    return secrets.choice(free) if free else Refused("three_must_differ")


class Creator:
    """Creates escrows within the limits; one in a node, because it remembers the limits' streams."""

    def __init__(self, house: House) -> None:
        self._house, self._log = house, house.store.log
        self._remembered: dict[str, list[Recorded]] = {}
        # One at a time per stream within this node: elsewhere the version check decides, here it would only be retried.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def create(self, creation: Creation) -> Answer:
        """Claims and creates; a refusal changes nothing. Raises what `Desk.handle` raises."""
        if await self._log.receipt(stream_id=creation.terms.escrow_id, command_id=creation.command_id) is None:
            refused = await self._foreseen(creation)
            if refused is not None:
                return await self._record(creation, refused) if creation.body_hash else _rejected(refused)
            refused = await self._claim_all(creation)
            if refused is not None:
                return await self._record(creation, refused)
        answer = await self._house.desk.handle(
            creation.terms.escrow_id,
            creation.command,
            command_id=creation.command_id,
            actor=creation.actor,
            body_hash=creation.body_hash,
        )
        if isinstance(answer, Accepted):
            await self._set_arbiter_address(creation.terms.escrow_id)
        return answer

    async def _foreseen(self, creation: Creation) -> Refused | None:
        """Says why the escrow could not be created as things stand, without claiming or recording anything."""
        maintenance = limits.maintenance_of(map(_event, await self._read(limits.MAINTENANCE_STREAM)))
        refused = limits.refused_by_maintenance(maintenance)
        if refused is not None:
            return refused
        decided = decide(None, creation.command)
        if isinstance(decided, Refused):
            return decided
        for stream, limit in self._limits(creation):
            decision = await self._decide(limit, await self._read(stream), at=creation.command.at)
            if isinstance(decision, Refused):
                return decision
        return None

    async def _claim_all(self, creation: Creation) -> Refused | None:
        for stream, limit in self._limits(creation):
            refused = await self._claim(creation, stream, limit)
            if refused is not None:
                return refused
        return None

    def _limits(self, creation: Creation) -> list[tuple[str, Limit]]:
        """Lists what is claimed, in order: a refused place holds nothing yet, and may be asked for again."""
        settings, terms, at = self._house.settings, creation.terms, creation.command.at
        escrow_id = terms.escrow_id

        def place(events: Sequence[AnyLimitEvent], dead: frozenset[EscrowId]) -> limits.Decision:
            wish = limits.TakePlace(at=at, escrow_id=escrow_id, live_max=settings.max_concurrent_escrows, dead=dead)
            return limits.decide_place(limits.live_of(events), wish)

        def volume(events: Sequence[AnyLimitEvent], dead: frozenset[EscrowId]) -> limits.Decision:
            wish = limits.ReserveVolume(
                at=at,
                escrow_id=escrow_id,
                amount=terms.amount,
                amount_max=settings.max_escrow_amount_atomic,
                volume_max=settings.max_beta_volume_atomic,
                dead=dead,
            )
            return limits.decide_volume(limits.volume_of(events), wish)

        def order(events: Sequence[AnyLimitEvent], dead: frozenset[EscrowId]) -> limits.Decision:
            return limits.decide_order(
                limits.order_of(events), limits.ClaimOrder(at=at, escrow_id=escrow_id, dead=dead)
            )

        return [
            (limits.LIVE_STREAM, place),
            (limits.month_stream(at), volume),
            (limits.order_stream(terms.order_id), order),
        ]

    async def _claim(self, creation: Creation, stream: str, limit: Limit) -> Refused | None:
        async with self._lock_of(stream):
            for _ in range(ATTEMPTS_MAX):
                recorded = await self._read(stream)
                decision = await self._decide(limit, recorded, at=creation.command.at)
                if isinstance(decision, Refused):
                    return decision
                if not decision or await self._append(creation, stream, decision, after=recorded):
                    return None
        raise LogBusy(stream)

    async def _decide(self, limit: Limit, recorded: Sequence[Recorded], *, at: Micros) -> limits.Decision:
        events = [_event(each) for each in recorded]
        decision = limit(events, frozenset())
        # Who is over is looked up only when there is no room: it may ask every escrow that holds some.
        return limit(events, await self._dead(recorded, at=at)) if isinstance(decision, Refused) else decision

    def _lock_of(self, stream: str) -> asyncio.Lock:
        return asyncio.Lock() if stream.startswith("order-") else self._locks[stream]

    async def _append(
        self, creation: Creation, stream: str, events: tuple[AnyLimitEvent, ...], *, after: Sequence[Recorded]
    ) -> bool:
        meta = ClaimMeta(by=creation.actor, for_command=creation.command_id)
        least = after[-1].occurred_at if after else 0
        item = Append(
            stream_id=stream,
            expected_version=len(after),
            events=tuple(_new_event(event, meta, least=least) for event in events),
            command_id=derived_id("claim", stream, creation.command_id, len(after)),
        )
        try:
            return not isinstance(await self._log.append(item), Conflict)
        except OutcomeUnknown:
            return False  # read again: the claim is there or it is not

    async def _dead(self, recorded: Sequence[Recorded], *, at: Micros) -> frozenset[EscrowId]:
        """Names the escrows of a limit's stream that do not count any more."""
        claims: dict[EscrowId, Recorded] = {}
        freed: set[EscrowId] = set()
        for each in recorded:
            event = _event(each)
            if isinstance(event, limits.OrderClaimed | limits.VolumeReserved | limits.PlaceTaken):
                claims[event.escrow_id] = each
                freed.discard(event.escrow_id)
            elif isinstance(event, limits.VolumeFreed | limits.PlaceFreed):
                freed.add(event.escrow_id)
        held = {escrow_id: claim for escrow_id, claim in claims.items() if escrow_id not in freed}
        return frozenset([key for key, claim in held.items() if await self._is_dead(key, claim, at=at)])

    async def _is_dead(self, escrow_id: EscrowId, claim: Recorded, *, at: Micros) -> bool:
        try:
            state = await self._house.desk.state(escrow_id)
        except (UnknownEvent, ImpossibleHistory, Parked):
            return False  # it stands still: it keeps its place until somebody has looked
        if state is not None:
            return _over(state, volume=claim.type == "volume_reserved")
        meta = msgspec.json.decode(claim.meta, type=ClaimMeta)
        receipt = await self._log.receipt(stream_id=escrow_id, command_id=meta.for_command)
        if receipt is not None:
            return receipt.version == 0  # refused; else it was created, by a node that this one has not read yet
        return at >= claim.occurred_at + limits.CLAIM_UNUSED_S * limits.MICROS

    async def _record(self, creation: Creation, refused: Refused) -> Answer:
        """Keeps a refusal as the command's outcome, unless it is one that is over by itself."""
        rejected = _rejected(refused)
        if refused.code in NOT_KEPT:
            return rejected
        item = Append(
            stream_id=creation.terms.escrow_id,
            expected_version=0,
            events=(),
            command_id=creation.command_id,
            body_hash=creation.body_hash,
            outcome=msgspec.json.encode(rejected),
        )
        try:
            await self._log.append(item)
        except OutcomeUnknown:
            raise LogUnavailable(creation.terms.escrow_id) from None
        return rejected

    async def _set_arbiter_address(self, escrow_id: EscrowId) -> None:
        """Sets the configured payout address of the escrow's arbiter, once; a person's own setting goes before."""
        house = self._house
        state = await house.desk.state(escrow_id)
        assert state is not None
        arbiter_id = state.core.terms.arbiter_id
        address = next((each.address for each in house.settings.arbiters if each.user_id == arbiter_id), None)
        if address is None or "arbiter" in state.core.addresses:
            return
        sealing = EscrowSecrets(house.store.vault, escrow_id)
        command = c.SetPayoutAddress(
            at=Micros(house.clock.now()),
            by=arbiter_id,
            tag=await sealing.tag(SealedKind.PAYOUT_ADDRESS, address),
            address=await sealing.seal(SealedKind.PAYOUT_ADDRESS, "arbiter", address),
        )
        command_id = derived_id(escrow_id, "configured arbiter address")
        await house.desk.handle(escrow_id, command, command_id=command_id, actor="settings")

    async def _read(self, stream: str) -> list[Recorded]:
        known = self._remembered.get(stream, [])
        while page := await self._log.read_stream(stream, after_version=len(known), limit=READ_PAGE):
            known = [*known, *page]
        if not stream.startswith("order-"):
            self._remembered[stream] = known
        return known


def _rejected(refused: Refused) -> Rejected:
    return Rejected(code=refused.code, facts=refused.facts)


def _over(state: Escrow, *, volume: bool) -> bool:
    """Says whether an escrow has ended; for the month's volume, whether it ended before any deposit."""
    if not isinstance(state, TERMINAL):
        return False
    money = money_of(state)
    return not volume or money is None or not money.deposits


def _event(recorded: Recorded) -> AnyLimitEvent:
    return decode_limit(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)


def _new_event(event: AnyLimitEvent, meta: ClaimMeta, *, least: int) -> NewEvent:
    event = msgspec.structs.replace(event, at=Micros(max(event.at, least)))
    encoded = encode_limit(event)
    return NewEvent(
        type=encoded.type,
        schema_version=encoded.schema_version,
        occurred_at=event.at,
        meta=msgspec.json.encode(meta, order="deterministic"),
        body=encoded.body,
    )
