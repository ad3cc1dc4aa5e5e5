"""Who may be an escrow's arbiter: holidays and delegates, conflicts of interest, assistants, readiness, the draws.

Two streams tell of it. What arbiters say of themselves concerns escrows that are created from then on; a conflict also
forbids a decision in those that exist.
"""

from collections.abc import Iterable, Sequence

import msgspec

from domain.draw import LINKS_MAX
from domain.ids import MICROS, EscrowId, Micros, Sealed, UserId
from domain.limit_event import LimitEvent
from domain.refusals import Refused

ARBITERS_STREAM = "arbiters"
DRAWS_STREAM = "arbiter-draws"
DRAFTS_MAX = 100
"""Drafts of one case by its arbiter, and as many by all its assistants: they do not take the arbiter's room."""
CONFLICTS_MAX = 1_000
"""Conflicts of one arbiter."""
ASSISTANTS_MAX = 20
"""Assistants of one arbiter."""
TAKEN_KEPT_MAX = 1_000
"""Links of which is remembered whose they are: a creation that is repeated finds its own."""


class ArbiterAway(LimitEvent, frozen=True, kw_only=True, tag="arbiter_away"):
    """An arbiter is on holiday until a moment, null when back; new escrows go to the delegate, if one is named."""

    arbiter: UserId
    until: Micros | None
    delegate: UserId | None


class ConflictDeclared(LimitEvent, frozen=True, kw_only=True, tag="conflict_declared"):
    """An arbiter is no judge of this party's."""

    arbiter: UserId
    party: UserId
    by: UserId


class ConflictWithdrawn(LimitEvent, frozen=True, kw_only=True, tag="conflict_withdrawn"):
    """An administrator found that there is no conflict any more."""

    arbiter: UserId
    party: UserId
    by: UserId


class AssistantNamed(LimitEvent, frozen=True, kw_only=True, tag="assistant_named"):
    """Somebody may read an arbiter's cases."""

    arbiter: UserId
    assistant: UserId


class AssistantDismissed(LimitEvent, frozen=True, kw_only=True, tag="assistant_dismissed"):
    """Somebody may read them no more."""

    arbiter: UserId
    assistant: UserId


class ArbiterSeen(LimitEvent, frozen=True, kw_only=True, tag="arbiter_seen"):
    """An arbiter showed that it is there."""

    arbiter: UserId


class ChainCommitted(LimitEvent, frozen=True, kw_only=True, tag="chain_committed"):
    """The service committed itself to a chain of secrets, none of which is used yet."""

    chain: int
    anchor: str
    seed: Sealed


class LinkTaken(LimitEvent, frozen=True, kw_only=True, tag="link_taken"):
    """The next link of a chain is an escrow's."""

    chain: int
    link: int
    escrow_id: EscrowId


class DraftPrepared(LimitEvent, frozen=True, kw_only=True, tag="draft_prepared"):
    """An arbiter or an assistant wrote something down about a case; it goes to nobody else."""

    escrow_id: EscrowId
    by: UserId
    draft: Sealed


AnyArbiterEvent = ArbiterAway | ConflictDeclared | ConflictWithdrawn | AssistantNamed | AssistantDismissed | ArbiterSeen
AnyDrawEvent = ChainCommitted | LinkTaken


def draft_stream(escrow_id: EscrowId) -> str:
    """Names the stream of a case's drafts: not the escrow's own, which the parties read."""
    return f"draft-{escrow_id}"


# -- what arbiters say of themselves ---------------------------------------------------------------------------


class Away(msgspec.Struct, frozen=True, kw_only=True):
    """Until when, and who stands in."""

    until: Micros
    delegate: UserId | None


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of arbiters beyond their names."""

    away: dict[UserId, Away] = {}
    conflicts: frozenset[tuple[UserId, UserId]] = frozenset()
    assistants: frozenset[tuple[UserId, UserId]] = frozenset()
    seen: dict[UserId, Micros] = {}

    def conflicted(self, arbiter: UserId, parties: Iterable[UserId]) -> bool:
        """Says whether an arbiter is no judge of one of these."""
        return any((arbiter, party) in self.conflicts for party in parties)

    def assists(self, user: UserId, arbiter: UserId) -> bool:
        """Says whether somebody may read an arbiter's cases."""
        return (arbiter, user) in self.assistants


def enrol(state: Roster, event: AnyArbiterEvent) -> Roster:
    """Applies what an arbiter said."""
    match event:
        case ArbiterAway():
            others = {arbiter: away for arbiter, away in state.away.items() if arbiter != event.arbiter}
            gone = {event.arbiter: Away(until=event.until, delegate=event.delegate)} if event.until is not None else {}
            return msgspec.structs.replace(state, away=others | gone)
        case ConflictDeclared():
            return msgspec.structs.replace(state, conflicts=state.conflicts | {(event.arbiter, event.party)})
        case ConflictWithdrawn():
            return msgspec.structs.replace(state, conflicts=state.conflicts - {(event.arbiter, event.party)})
        case AssistantNamed():
            return msgspec.structs.replace(state, assistants=state.assistants | {(event.arbiter, event.assistant)})
        case AssistantDismissed():
            return msgspec.structs.replace(state, assistants=state.assistants - {(event.arbiter, event.assistant)})
        case ArbiterSeen():
            return msgspec.structs.replace(state, seen=state.seen | {event.arbiter: event.at})


def decide_roster(state: Roster, event: AnyArbiterEvent, *, quiet_s: int) -> tuple[AnyArbiterEvent, ...] | Refused:
    """Takes what an arbiter says, unless it says nothing new; a sign of life counts once in `quiet_s`."""
    match event:
        case ArbiterAway() if event.until is not None and event.until <= event.at:
            return Refused("deadline_invalid")
        case ArbiterAway() if event.delegate == event.arbiter:
            return Refused("three_must_differ")
        case ConflictDeclared() if sum(each == event.arbiter for each, _ in state.conflicts) >= CONFLICTS_MAX:
            return Refused("roster_full", {"conflicts_max": CONFLICTS_MAX})
        case AssistantNamed() if sum(each == event.arbiter for each, _ in state.assistants) >= ASSISTANTS_MAX:
            return Refused("roster_full", {"assistants_max": ASSISTANTS_MAX})
        case ArbiterSeen() if event.at < state.seen.get(event.arbiter, -quiet_s * MICROS) + quiet_s * MICROS:
            return ()
        case ArbiterSeen():
            return (event,)
        case _:
            return (event,) if enrol(state, event) != state else ()


# -- who may be drawn ------------------------------------------------------------------------------------------


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """Who could be an order's arbiter, in order of name, and who could not and why."""

    eligible: tuple[UserId, ...]
    excluded: dict[UserId, str]


def candidates(
    roster: Roster, arbiters: Sequence[UserId], *, parties: frozenset[UserId], at: Micros, ready_s: int
) -> Candidates:
    """Finds who may be an order's arbiter now; with a `ready_s` only who was seen within so many seconds."""
    eligible, excluded = set[UserId](), dict[UserId, str]()
    for arbiter in arbiters:
        standing_in = arbiter
        away = roster.away.get(arbiter)
        if away is not None and away.until > at:
            excluded[arbiter] = "on_holiday"
            if away.delegate is None:
                continue
            standing_in = away.delegate
        why = unfit(roster, standing_in, parties=parties, at=at, ready_s=ready_s)
        if why is None:
            eligible.add(standing_in)
        else:
            excluded[standing_in] = why
    left = {user: why for user, why in excluded.items() if user not in eligible}
    return Candidates(eligible=tuple(sorted(eligible)), excluded=left)


def unfit(roster: Roster, user: UserId, *, parties: frozenset[UserId], at: Micros, ready_s: int) -> str | None:
    """Says why somebody can be no judge of these two now, in a word; None when they can."""
    away = roster.away.get(user)
    if user in parties:
        return "party"
    if roster.conflicted(user, parties):
        return "conflict"
    if away is not None and away.until > at:
        return "on_holiday"
    seen = roster.seen.get(user)
    return "not_ready" if ready_s and (seen is None or seen + ready_s * MICROS < at) else None


# -- the draws -------------------------------------------------------------------------------------------------


class SecretChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of secrets and how many of its links are taken."""

    anchor: str
    seed: Sealed
    taken: int = 0


class Draws(msgspec.Struct, frozen=True, kw_only=True):
    """All chains, by number from 1, and whose the newest links are."""

    chains: tuple[SecretChain, ...] = ()
    taken: dict[EscrowId, tuple[int, int]] = {}

    @property
    def current(self) -> int | None:
        """Number of the first chain with a link left; None when there is none."""
        return next((number for number, each in enumerate(self.chains, start=1) if each.taken < LINKS_MAX), None)


class LinkOutOfTurn(Exception):
    """A stream of draws holds a link or a chain that cannot come next."""


def enter(state: Draws, event: AnyDrawEvent) -> Draws:
    """Applies a commitment or a draw; raises `LinkOutOfTurn`."""
    match event:
        case ChainCommitted():
            if event.chain != len(state.chains) + 1:
                raise LinkOutOfTurn
            begun = SecretChain(anchor=event.anchor, seed=event.seed)
            return msgspec.structs.replace(state, chains=(*state.chains, begun))
        case LinkTaken():
            if event.chain != state.current or event.link != state.chains[event.chain - 1].taken + 1:
                raise LinkOutOfTurn
            before, mine, after = (
                state.chains[: event.chain - 1],
                state.chains[event.chain - 1],
                state.chains[event.chain :],
            )
            mine = msgspec.structs.replace(mine, taken=event.link)
            return Draws(chains=(*before, mine, *after), taken=_remembered(state.taken, event))


def _remembered(taken: dict[EscrowId, tuple[int, int]], event: LinkTaken) -> dict[EscrowId, tuple[int, int]]:
    known = taken | {event.escrow_id: (event.chain, event.link)}
    if len(known) > TAKEN_KEPT_MAX:
        del known[next(iter(known))]
    return known
