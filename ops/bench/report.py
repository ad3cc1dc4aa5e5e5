"""What every benchmark prints: one JSON line, from interleaved rounds, with the bounds it must reach."""

import statistics
import sys
from collections.abc import Mapping, Sequence

import msgspec
import orjson


class Spread(msgspec.Struct, frozen=True):
    """A figure measured in several rounds."""

    median: float
    min: float
    max: float


class Reached(msgspec.Struct, frozen=True):
    """A figure against its bound."""

    value: float
    bound: float
    ok: bool


def spread(values: Sequence[float]) -> Spread:
    """Summarises rounds."""
    return Spread(round(statistics.median(values), 4), round(min(values), 4), round(max(values), 4))


def at_most(value: float, bound: float) -> Reached:
    """Judges a figure that must not pass its bound."""
    return Reached(round(value, 4), bound, value <= bound)


def at_least(value: float, bound: float) -> Reached:
    """Judges a figure that must not fall below its bound."""
    return Reached(round(value, 4), bound, value >= bound)


def finish(
    bench: str, *, figures: Mapping[str, object], ratios: Mapping[str, float], reached: Mapping[str, Reached]
) -> None:
    """Prints the line and ends the program: with an error when a bound is not reached."""
    line = {
        "bench": bench,
        "figures": msgspec.to_builtins(figures),
        "ratios": {name: round(ratio, 4) for name, ratio in ratios.items()},
        "reached": msgspec.to_builtins(reached),
    }
    print(orjson.dumps(line).decode(), flush=True)
    sys.exit(0 if all(each.ok for each in reached.values()) else 1)
