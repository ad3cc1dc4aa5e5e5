"""Arbitrary people, seats, chains and clocks around one escrow: its promises hold after every command."""

import random

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import UNSET, UnsetType

from domain.events import EVENT_TYPES
from domain.evolve import fold
from domain.roles import THREE, Role, SeatKind
from domain.states import NAMES, money_of, name
from domain.terms import FeeSettlement
from schemas.codec import decode, encode
from tests.given import AMOUNT
from tests.unit.escrow_promises import spent_once
from tests.unit.escrow_world import HOURS, World

READY = (UNSET, 2 * 3_600)
few = st.integers(0, 8)
amounts = st.sampled_from((AMOUNT, AMOUNT, 4_000_000_000, 1))


class EscrowMachine(RuleBasedStateMachine):
    """Plays with one escrow; `World.give` checks every promise after every command."""

    world: World

    @initialize(
        kind=st.sampled_from(SeatKind),
        amount=amounts,
        same=st.booleans(),
        settlement=st.sampled_from((UNSET, *FeeSettlement)),
        ready_s=st.sampled_from(READY),
        backed_up=st.booleans(),
        ready=st.integers(0, 3),
    )
    def create(
        self,
        kind: SeatKind,
        amount: int,
        same: bool,
        settlement: FeeSettlement | UnsetType,
        ready_s: int | UnsetType,
        backed_up: bool,
        ready: int,
    ) -> None:
        self.world = World(
            seats=kind,
            amount=amount,
            same_address=same,
            settlement=settlement,
            ready_s=ready_s,
            backed_up=backed_up,
        )
        if ready:
            self.world.set_up()

    @rule(times=st.integers(1, 3))
    def go_on(self, times: int) -> None:
        for _ in range(times):
            self.world.go_on()

    @rule(who=st.integers(0, 3), what=st.integers(0, 15), n=few)
    def person(self, who: int, what: int, n: int) -> None:
        self.world.person(who, what, n)

    @rule(role=st.sampled_from(THREE), manner=few, n=few)
    def seat(self, role: Role, manner: int, n: int) -> None:
        self.world.seat(role, manner, n)

    @rule(what=st.integers(0, 6), n=few, watched=st.booleans())
    def move_chain(self, what: int, n: int, watched: bool) -> None:
        self.world.move_chain(what, n, watched=watched)

    @rule(hours=st.sampled_from(HOURS), outage=st.booleans())
    def pass_time(self, hours: int, outage: bool) -> None:
        self.world.pass_time(hours, outage=outage)

    @invariant()
    def deposits_are_spent_once(self) -> None:
        money = money_of(self.world.live)
        assert money is None or spent_once(money)

    def teardown(self) -> None:
        event(name(self.world.live))
        self.world.observe()
        self.world.compare_with_chain()
        self.world.shred()
        kept = [encode(each) for each in self.world.events]
        read = [decode(type=each.type, schema_version=each.schema_version, body=each.body) for each in kept]
        assert fold(read) == self.world.state


TestEscrowMachine = EscrowMachine.TestCase
TestEscrowMachine.settings = settings(stateful_step_count=50)


# -- the machine goes everywhere -----------------------------------------------------------------------------


def play(seed: int, *, steps: int = 40) -> World:
    """Plays one life whose every choice comes from a seed."""
    rng = random.Random(seed)
    amount = rng.choice((AMOUNT, AMOUNT, AMOUNT, 4_000_000_000))
    world = World(
        seats=rng.choice(tuple(SeatKind)),
        amount=amount,
        same_address=rng.random() < 0.2,
        settlement=rng.choice((UNSET, *FeeSettlement)),
        ready_s=READY[seed // 2 % 2],
        backed_up=seed % 2 == 0,
    )
    if rng.random() < 0.8:
        world.set_up()
    for _ in range(steps):
        match rng.randrange(8):
            case 0 | 1 | 2:
                world.go_on()
            case 3 | 4:
                world.person(rng.randrange(4), rng.randrange(16), rng.randrange(8))
            case 5:
                world.seat(rng.choice(THREE), rng.randrange(8), rng.randrange(9))
            case 6:
                world.move_chain(rng.randrange(7), rng.randrange(8), watched=rng.random() < 0.8)
            case _:
                world.pass_time(rng.choice(HOURS), outage=rng.random() < 0.2)
    return world


def test_lives_at_random_reach_every_state_and_every_event() -> None:
    states: set[str] = set()
    kinds: set[str] = set()
    for seed in range(400):
        world = play(seed)
        world.observe()
        world.compare_with_chain()
        world.shred()
        states |= world.reached
        kinds |= world.promises.kinds
    assert set(NAMES.values()) - states == set()
    assert set(EVENT_TYPES) - kinds == set()
