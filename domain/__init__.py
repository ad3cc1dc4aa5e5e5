"""What an escrow is: frozen records and pure functions, no clock, no I/O, no randomness."""
