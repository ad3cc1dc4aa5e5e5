"""What the processes of a service use, read from the kernel's own account of them."""

import os
from pathlib import Path

import msgspec

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Processor seconds so far, and the memory that wallet processes hold now."""

    cpu_s: float
    wallet_cpu_s: float
    """Of these, those of wallet processes."""
    wallet_mib: float

    def since(self, before: "Usage") -> "Usage":
        """What was used after an earlier moment."""
        return Usage(
            cpu_s=self.cpu_s - before.cpu_s,
            wallet_cpu_s=self.wallet_cpu_s - before.wallet_cpu_s,
            wallet_mib=self.wallet_mib,
        )


def child_of(parent: int, *, running: str) -> int:
    """Returns the pid of the one child whose command line ends so; raises `ValueError` unless there is one."""
    (pid,) = (pid for pid in _children(parent) if _command(pid).endswith(running))
    return pid


def usage_below(pid: int) -> Usage:
    """Adds up a process, its children, and those it has waited for."""
    children = _children(pid)
    wallets = [child for child in children if "monero-wallet-rpc" in _command(child)]
    return Usage(
        cpu_s=sum(_cpu_s(each, waited_for=each == pid) for each in (pid, *children)),
        wallet_cpu_s=sum(_cpu_s(each, waited_for=False) for each in wallets),
        wallet_mib=sum(map(_resident_mib, wallets)),
    )


def cpu_s_of(pid: int) -> float:
    """Returns the processor seconds that one process took so far, without its children."""
    return _cpu_s(pid, waited_for=False)


def resident_mib(pid: int) -> float:
    """Returns the memory that one process holds now."""
    return _resident_mib(pid)


def _children(parent: int) -> list[int]:
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[1]) == parent]


def _cpu_s(pid: int, *, waited_for: bool) -> float:
    fields = _stat(pid)
    return sum(int(each) for each in fields[11 : 15 if waited_for else 13]) / _TICKS


def _stat(pid: int) -> list[str]:
    # The second field is the program's own name in parentheses and may hold anything; count from after it.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _resident_mib(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MIB
    except OSError:
        return 0.0
