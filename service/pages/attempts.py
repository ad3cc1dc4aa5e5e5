"""Failed logins, counted by sender for a minute; the table of senders is bounded."""

from collections import OrderedDict

SENDERS_MAX = 10_000
"""Senders remembered at once, the longest silent forgotten first; about 0.2 kB each."""


class Attempts:
    """Says when a sender has failed too often in the present window; one in a node."""

    window_s = 60

    def __init__(self, *, failures_max: int, senders_max: int = SENDERS_MAX) -> None:
        self._failures_max, self._senders_max = failures_max, senders_max
        self._counted: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def failed(self, sender: str, *, now_s: int) -> bool:
        """Counts a failure; False once there are more than the bound."""
        window = now_s // self.window_s
        began, failures = self._counted.pop(sender, (window, 0))
        self._counted[sender] = (window, failures + 1 if began == window else 1)
        while len(self._counted) > self._senders_max:
            self._counted.popitem(last=False)
        return self._counted[sender][1] <= self._failures_max
