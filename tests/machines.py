"""Machines on one event loop: all that a program on one of them does can be held up, for a while or for ever.

Whatever is put on the loop belongs to the machine that puts it there, and a task to the machine it was begun on.
A machine that stands still runs none of it, as if its programs had been sent SIGSTOP; one that is dead never again,
as after SIGKILL: no `finally` of theirs is run. Calls carried out by wallet processes belong to no machine.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from actors.simulation.wallet import CALL_TASK
from tests.warp import WarpLoop

_T = TypeVar("_T")

Context = contextvars.Context


class Machine:
    """Something that can stand still and die."""

    def __init__(self, loop: "MachinesLoop") -> None:
        self._loop = loop
        self.still = self.dead = False
        self._remains: list[asyncio.Task[Any]] = []
        self._waiting: list[tuple[asyncio.Handle, Context, Callable[[], object]]] = []

    @property
    def at_work(self) -> bool:
        """Whether it does anything."""
        return not (self.still or self.dead)

    def run(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Begins something on this machine."""
        return self._loop.begin(work, on=self)

    def stop(self, seconds: float) -> None:
        """Holds up everything for so long."""
        self.still = True
        self._ends = self._loop.begin(self._stand_still(seconds), on=None)

    def go_on(self) -> None:
        """Does what came while it stood still, in the order in which it came, but for what was called off since."""
        self.still = False
        if self.dead and not self._loop.over:
            return
        waiting, self._waiting = self._waiting, []
        for handle, context, do in waiting:
            self._loop.call_soon(self._loop.owned(self, partial(_unless_called_off, handle, do)), context=context)

    async def _stand_still(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.go_on()

    def kill(self) -> None:
        """Holds up everything for ever."""
        self.dead = True
        # What nobody refers to any more would be collected, and its `finally` run by whoever is at work then.
        self._remains = self._loop.tasks_of(self)

    def keep(self, handle: asyncio.Handle, context: Context, do: Callable[[], object]) -> None:
        """Keeps what cannot be done now."""
        self._waiting.append((handle, context, do))


class _Owned:
    """A callback and the machine that it belongs to."""

    __slots__ = ("context", "do", "handle", "loop", "machine")

    def __init__(self, loop: "MachinesLoop", machine: Machine, do: Callable[[], object]) -> None:
        self.loop, self.machine, self.do = loop, machine, do
        self.handle: asyncio.Handle | None = None
        self.context: Context | None = None

    def __call__(self) -> None:
        machine, loop = self.machine, self.loop
        if not (machine.at_work or loop.over):
            assert self.handle is not None and self.context is not None
            machine.keep(self.handle, self.context, self.do)
            return
        before, loop.acting = loop.acting, machine
        try:
            self.do()
        finally:
            loop.acting = before


class MachinesLoop(WarpLoop):
    """A loop whose time is waited away, shared by several machines and whatever is outside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.acting: Machine | None = None
        """Whose turn it is; None is nobody's."""
        self.over = False
        """From then on nobody is held up any more."""
        self._machines: list[Machine] = []
        self.set_exception_handler(lambda loop, context: None)  # what the dead leave behind is heard of by nobody
        self._owners: WeakKeyDictionary[asyncio.Task[Any], Machine | None] = WeakKeyDictionary()

    def machine(self) -> Machine:
        """Adds a machine."""
        self._machines.append(Machine(self))
        return self._machines[-1]

    def begin(self, work: Coroutine[Any, Any, _T], *, on: Machine | None) -> "asyncio.Task[_T]":
        """Begins a task on a machine, or on none."""
        before, self.acting = self.acting, on
        try:
            return self.create_task(work)
        finally:
            self.acting = before

    def end(self) -> None:
        """Lets everything that was held up go on, so that it can be cancelled."""
        self.over = True
        for machine in self._machines:
            machine.go_on()

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> Any:
        """Begins a task on the machine at work; a call carried out by a wallet process is begun on none."""
        before = self.acting
        if name == CALL_TASK:
            self.acting = None
        try:
            task = super().create_task(coro, name=name, context=context)
            self._owners[task] = self.acting
            return task
        finally:
            self.acting = before

    def call_soon(  # type: ignore[override]  # types of arguments that are only passed on
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Puts something on the loop, for the machine that it belongs to."""
        owned, context = self._owned(callback, args, context)
        handle = super().call_soon(owned, context=context)
        return _noted(owned, handle, context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Puts something on the loop for later, for the machine at work."""
        owned, context = self._owned(callback, args, context)
        handle = super().call_at(when, owned, context=context)
        _noted(owned, handle, context)
        return handle

    def tasks_of(self, machine: Machine) -> list[asyncio.Task[Any]]:
        """Lists what a machine has not ended."""
        return [task for task in asyncio.all_tasks(self) if self._owners.get(task) is machine]

    def owned(self, machine: Machine, do: Callable[[], object]) -> Callable[[], object]:
        """Wraps something that belongs to a machine."""
        return _Owned(self, machine, do)

    def _owned(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> tuple[Callable[[], object], Context]:
        context = context if context is not None else contextvars.copy_context()
        if isinstance(callback, _Owned):
            return callback, context
        # The steps of a task are its own machine's, whoever woke it.
        task = getattr(callback, "__self__", None)
        owner = self._owners.get(task, self.acting) if isinstance(task, asyncio.Task) else self.acting
        do = (lambda: callback(*args)) if args else callback
        return (do if owner is None else _Owned(self, owner, do)), context


def _unless_called_off(handle: asyncio.Handle, do: Callable[[], object]) -> None:
    if not handle.cancelled():
        do()


def _noted(owned: Callable[[], object], handle: asyncio.Handle, context: Context) -> asyncio.Handle:
    if isinstance(owned, _Owned):
        owned.handle, owned.context = handle, context
    return handle
