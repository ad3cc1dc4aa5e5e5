"""Slots come, go, break and heal by chance under seats that come and go: none is held twice, everybody is served."""

import asyncio
import random

import pytest

from actors.ailments import Ailment, SlotUnusable
from actors.slot_messages import AddSlot
from actors.slots import LeasedSlot
from tests.sim_world import until_true
from tests.unit.test_slots_come_and_go import Ward, ward

STEPS = 60
SEEDS = range(8)


class Chance:
    """One seed's history."""

    def __init__(self, seed: int, here: Ward) -> None:
        self.draw, self.here = random.Random(seed), here
        self.wishes: dict[str, asyncio.Future[LeasedSlot]] = {}
        self.held: dict[str, LeasedSlot] = {}
        self.served = 0
        self.seats = 0
        self.slots = len(here.hosts)

    async def step(self) -> None:
        """Does one thing, lets what follows happen, and looks at the promises."""
        acts = (self.come, self.come, self.give_back, self.give_back, self.break_one, self.heal, self.drain, self.add)
        await self.draw.choice(acts)()
        for _ in range(self.draw.randint(0, 40)):
            await asyncio.sleep(0)
        self.look()

    def look(self) -> None:
        for seat, wish in list(self.wishes.items()):
            if wish.done():
                leased = self.held[seat] = self.wishes.pop(seat).result()
                leased.hold.check()
                self.served += 1
        names = [leased.slot.name for leased in self.held.values()]
        assert len(names) == len(set(names)), "a slot held by two"

    async def come(self) -> None:
        self.seats += 1
        seat = f"{self.seats}/buyer"
        self.wishes[seat] = await self.here.wish(seat)

    async def give_back(self) -> None:
        if self.held:
            seat = self.draw.choice(sorted(self.held))
            self.here.give_back(self.held.pop(seat), clean=self.draw.random() < 0.5)

    async def break_one(self) -> None:
        host = self.here.hosts[self.draw.choice(sorted(self.here.hosts))]
        host.broken = SlotUnusable(self.draw.choice(list(Ailment)), ended=self.draw.random() < 0.5)

    async def heal(self) -> None:
        for host in self.here.hosts.values():
            host.broken = None

    async def drain(self) -> None:
        if self.slots > 1:
            names = sorted(self.here.shown())
            if names and await self.here.drain(self.draw.choice(names)):
                self.slots -= 1

    async def add(self) -> None:
        self.slots += 1
        slot = self.here.slot(f"late-{self.seats}-{self.slots}-{self.draw.random()}")
        await self.here.supervisor.actor_ref.ask(AddSlot(slot=slot), timeout_s=20)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_to_slots_none_is_held_twice_and_all_who_wait_are_served(seed: int) -> None:
    async with ward(2) as here:
        chance = Chance(seed, here)
        for _ in range(STEPS):
            await chance.step()
        await chance.heal()
        await chance.add()

        def all_served() -> bool:
            chance.look()
            for seat in list(chance.held):
                here.give_back(chance.held.pop(seat))
            return not chance.wishes

        await until_true(all_served, timeout_s=60)
        assert chance.served == chance.seats
        await until_true(lambda: {state for state, _ in here.shown().values()} == {"free"}, timeout_s=60)
