"""How an escrow comes about: what is unique or limited across escrows is claimed first, then the escrow is created.

Each claim is an append to the stream of its limit, held by that stream's own version check, so the limits hold on any
number of nodes. A claim names the command it was made for; a creation that is refused leaves a receipt under that
command, which tells everybody at once that its claims are dead. After a crash in between they expire.
"""

from collections.abc import Sequence

import msgspec

from actors.desk import derived_id
from actors.escrow import Accepted, Answer, Rejected
from actors.limit_events import event_of
from actors.sealed import EscrowSecrets
from domain import commands as c
from domain import limits
from domain.arbiters import Candidates
from domain.decide import decide
from domain.ids import CommandId, EscrowId, Micros
from domain.limits import AnyLimitEvent
from domain.refusals import Refused
from domain.terms import Terms
from eventstore.api import Append, LogUnavailable, OutcomeUnknown
from schemas.sealing import SealedKind
from service.arbiters import Arbiters, with_arbiter
from service.claims import Claim, Claims, Limit
from service.house import House

NOT_KEPT = frozenset({"limit_concurrency", "maintenance", "slots_busy"})
"""Refusals that are over by themselves: the same key may try again."""


class Creation(msgspec.Struct, frozen=True, kw_only=True):
    """One request to create an escrow; the same `command_id` is the same request."""

    command: c.CreateEscrow
    command_id: CommandId
    body_hash: str
    actor: str
    candidates: Candidates
    """Who may be its arbiter; the terms name one of them until it is drawn."""

    @property
    def terms(self) -> Terms:
        """What the three will have agreed to."""
        return self.command.terms


def escrow_id_of(command_id: CommandId) -> EscrowId:
    """Derives the escrow's id from the command that creates it, so that a repeated command cannot create two."""
    return EscrowId(f"esc_{command_id[:32]}")


class Creator:
    """Creates escrows within the limits; one in a node, because it remembers the limits' streams."""

    def __init__(self, house: House, arbiters: Arbiters) -> None:
        self._house, self._log, self._arbiters = house, house.store.log, arbiters
        self._claims = Claims(house.store.log, house.desk)

    async def create(self, creation: Creation) -> Answer:
        """Claims and creates; a refusal changes nothing. Raises what `Desk.handle` raises."""
        if await self._log.receipt(stream_id=creation.terms.escrow_id, command_id=creation.command_id) is None:
            refused = await self._foreseen(creation)
            if refused is not None:
                return await self._record(creation, refused) if creation.body_hash else _rejected(refused)
            refused = await self._claim_all(creation, dry=False)
            if refused is not None:
                return await self._record(creation, refused)
            # Only now: a draw for what is refused would use up a link.
            creation = await self._drawn(creation)
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

    async def _drawn(self, creation: Creation) -> Creation:
        """Lets the arbiter be drawn, where there is a pool to draw from."""
        if self._house.settings.arbiter_mode == "single":
            return creation
        terms, at = creation.terms, creation.command.at
        draw = await self._arbiters.draw(terms, creation.candidates, at=at)
        command = msgspec.structs.replace(creation.command, terms=with_arbiter(terms, draw), draw=draw)
        return msgspec.structs.replace(creation, command=command)

    async def _foreseen(self, creation: Creation) -> Refused | None:
        """Says why the escrow could not be created as things stand, without claiming or recording anything."""
        maintenance = limits.maintenance_of(map(event_of, await self._claims.read(limits.MAINTENANCE_STREAM)))
        refused = limits.refused_by_maintenance(maintenance)
        if refused is not None:
            return refused
        pool = self._house.pool
        refused = limits.refused_by_full_line(creation.terms, full=pool is not None and pool.full())
        if refused is not None:
            return refused
        decided = decide(None, creation.command)
        if isinstance(decided, Refused):
            return decided
        return await self._claim_all(creation, dry=True)

    async def _claim_all(self, creation: Creation, *, dry: bool) -> Refused | None:
        for stream, limit in self._limits(creation):
            claim = Claim(
                limit=limit, at=creation.command.at, by=creation.actor, command_id=creation.command_id, dry=dry
            )
            refused = await self._claims.ask(stream, claim)
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


def _rejected(refused: Refused) -> Rejected:
    return Rejected(code=refused.code, facts=refused.facts)
