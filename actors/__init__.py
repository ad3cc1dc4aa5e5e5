"""Where things happen, one message at a time: escrows, seats, slots, timers and the ports they reach out by."""
