"""How long tests wait for what must come: a machine that stands still for some seconds fails none of them."""

from eventstore.grouped import LogLimits

PATIENCE_S = 120.0
"""Far longer than anything here takes; a test ends the moment that it has what it waits for."""

PATIENT = LogLimits(
    append_timeout_s=PATIENCE_S, lock_timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S, read_timeout_s=PATIENCE_S
)
"""For stores of tests: none gives up a call on a busy machine, unless that is the test's claim."""
