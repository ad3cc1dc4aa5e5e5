"""Watching the chain with view keys.

`follower.ScannerWatch` reads one daemon (or two, `witnessed`) for many addresses; `process.ScannerProcess` has that
done in a process of its own, which is what the service uses. Both implement `actors.ports.Watch`. `points`, `extra`,
`transactions`, `watched` and `trail` know no network and no clock.
"""
