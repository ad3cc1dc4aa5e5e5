"""Faults on order: what the next calls of a method do instead of answering."""

from collections import defaultdict, deque
from collections.abc import Callable
from enum import StrEnum

import msgspec

from actors.ports import WalletFault
from actors.simulation.messages import SetMessage


class Fault(StrEnum):
    """What happens to one call."""

    LATE = "late"  # has its effect and answers after some seconds
    LOST_BEFORE = "lost_before"  # never reaches the other side
    LOST_AFTER = "lost_after"  # has its effect, the answer is lost
    DOUBLED = "doubled"  # sent again by whatever lies between: has its effect twice, the second answer comes
    HUNG = "hung"  # the process is stopped before it, and does nothing until it goes on or ends
    REFUSED = "refused"
    KILLED_BEFORE = "killed_before"  # the process dies before it begins
    KILLED_HALFWAY = "killed_halfway"  # dies between writing `.keys` and the cache: a torn wallet
    KILLED_AFTER = "killed_after"  # dies when all is done and nothing answered


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, with its delay in seconds or its kind of refusal."""

    fault: Fault
    seconds: float = 0.0
    refusal: WalletFault = WalletFault.OTHER


class Faults:
    """A queue of faults per method; a method without one works."""

    def __init__(self) -> None:
        self._planned: dict[str, deque[PlannedFault]] = defaultdict(deque)
        self.forge: Callable[[SetMessage], SetMessage] | None = None
        """What a dishonest proposer makes of its transaction sets; None leaves them as they are."""

    def plan(
        self,
        method: str,
        fault: Fault,
        *,
        times: int = 1,
        seconds: float = 0.0,
        refusal: WalletFault = WalletFault.OTHER,
    ) -> None:
        """Orders a fault for the next calls of a method; `*` stands for any method."""
        self._planned[method].extend([PlannedFault(fault=fault, seconds=seconds, refusal=refusal)] * times)

    def take(self, method: str) -> PlannedFault | None:
        """Hands out the fault of the call that now begins, if one is ordered."""
        queue = self._planned.get(method) or self._planned.get("*")
        return queue.popleft() if queue else None

    def left(self, method: str) -> int:
        """Counts the faults that no call of a method has suffered yet."""
        return len(self._planned.get(method, ()))

    def clear(self) -> None:
        """Calls off whatever is ordered."""
        self._planned.clear()
