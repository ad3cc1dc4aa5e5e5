"""Every event finds the one part of `evolve` that applies it."""

import inspect
from collections import Counter
from typing import get_args

import pytest

from domain.events import EVENT_TYPES, EscrowCreated
from domain.evolve import PARTS


def test_every_event_but_the_first_has_exactly_one_part():
    applied = Counter(event for _, events in PARTS for event in get_args(events))
    assert applied == Counter(set(EVENT_TYPES.values()) - {EscrowCreated})


@pytest.mark.parametrize(("part", "events"), PARTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_part_takes_the_events_it_is_listed_for(part, events):
    assert inspect.signature(part).parameters["event"].annotation == events
