"""Watching the chain with view keys: points and hashes, transactions, what was seen, and the follower of blocks.

`follower.ScannerWatch` is the real adapter of `actors.ports.Watch`; the other modules know no network and no clock.
"""
