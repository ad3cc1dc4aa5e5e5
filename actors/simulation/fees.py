"""Fees as the wallet prices them: weights recorded on a private chain (0.18.0.0, priority 1, ring size 16).

A transaction is priced for its destinations plus one output, also when there is no change.
"""

from collections.abc import Mapping

from domain.money import Atomic

FEE_PER_WEIGHT = 1_200_000
"""`get_fee_estimate`, recorded."""

# (inputs, destinations) -> weight, with a subaddress among two or more destinations.
WEIGHTS: Mapping[tuple[int, int], int] = {
    (1, 1): 1507,
    (1, 2): 2194,
    (1, 3): 2301,
    (2, 1): 2171,
    (2, 2): 2853,
    (2, 3): 2960,
    (3, 1): 2850,
    (3, 2): 3512,
}
_PER_INPUT = 659
_PER_DESTINATION = 107
"""Beyond the table, from its last steps; not recorded."""

DUST = Atomic(_PER_INPUT * FEE_PER_WEIGHT)
"""An output worth less than its own input is never picked (500,000,000 was left lying, recorded)."""


def network_fee(*, inputs: int, destinations: int, keys_per_output: bool) -> Atomic:
    """Returns the fee; `keys_per_output` when a subaddress is among several receivers (one more key an output)."""
    known_inputs, known_destinations = min(inputs, 3), min(destinations, 3)
    if (known_inputs, known_destinations) not in WEIGHTS:
        known_inputs -= 1
    weight = WEIGHTS[(known_inputs, known_destinations)]
    weight += _PER_INPUT * (inputs - known_inputs) + _PER_DESTINATION * (destinations - known_destinations)
    if destinations > 1 and not keys_per_output:
        # The list of extra keys: a tag, a count, 32 bytes an output (2,194 against 2,095 recorded).
        weight -= 3 + 32 * (destinations + 1)
    return Atomic(weight * FEE_PER_WEIGHT)
