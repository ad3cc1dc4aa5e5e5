"""Command lines of `monerod` and `monero-wallet-rpc` 0.18, everything on loopback, and how they are brought up."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from actors.ports import WalletUnknown
from actors.processes import Process, ProcessKeeper, Program, port_answers
from actors.wallet_rpc import HttpWallet

LOOPBACK = "127.0.0.1"
READY_LIMIT_S = 60.0
"""One process starts in about a second, thirty on two cores in two; a loaded machine takes longer."""

Network = Literal["mainnet", "stagenet", "testnet", "regtest"]

_NETWORK_FLAGS: dict[Network, tuple[str, ...]] = {
    "mainnet": (),
    "stagenet": ("--stagenet",),
    "testnet": ("--testnet",),
    # A private chain has mainnet's addresses; its wallets run without a flag.
    "regtest": (),
}


class WalletProgram(msgspec.Struct, frozen=True, kw_only=True):
    """One `monero-wallet-rpc` to run; `folder` holds its logs and configuration, and its wallet files by default."""

    name: str
    folder: Path
    port: int
    daemon_address: str
    """`host:port` of the daemon, trusted."""
    network: Network = "regtest"
    login: tuple[str, str] | None = None
    """User and password asked of callers; None leaves the port open to every program on this machine."""
    binary: str = "monero-wallet-rpc"
    wallets: Path | None = None
    """A folder of wallet files that several processes of one role share."""
    rings: Path | None = None
    """Where it remembers the rings it used, if that is to outlive `folder`."""

    @property
    def wallet_folder(self) -> Path:
        """Where the wallet files lie."""
        return self.wallets or self.folder / "wallets"

    @property
    def url(self) -> str:
        """Where the process answers."""
        return f"http://{LOOPBACK}:{self.port}"


async def launch_wallet(keeper: ProcessKeeper, wallet: WalletProgram) -> tuple[Process, HttpWallet]:
    """Starts a wallet process, waits until it answers and turns its own refreshing off (which holds its only thread).

    Raises `ProgramFailed`. The caller closes the client and stops the process.
    """
    process = await keeper.start(wallet_program(wallet))
    user, password = wallet.login or (None, None)
    client = HttpWallet(wallet.url, user=user, password=password)

    async def quieted() -> bool:
        with contextlib.suppress(WalletUnknown):
            await client.auto_refresh(enable=False)
            return True
        return False

    try:
        await process.ready(quieted, limit_s=READY_LIMIT_S)
    except BaseException:
        await client.aclose()
        await process.kill()
        raise
    return process, client


def wallet_program(wallet: WalletProgram) -> Program:
    """Returns the command line and writes the file that holds the login, which `ps` would show otherwise."""
    for folder in (wallet.folder, wallet.wallet_folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = (
        wallet.binary,
        *_NETWORK_FLAGS[wallet.network],
        *_login_arguments(wallet),
        *("--wallet-dir", str(wallet.wallet_folder)),
        *("--rpc-bind-ip", LOOPBACK, "--rpc-bind-port", str(wallet.port)),
        *("--daemon-address", wallet.daemon_address, "--trusted-daemon"),
        # Each TLS end that stays off saves a 4096-bit RSA key per create and open (5.2 s to 1.5 s, one sample).
        *("--rpc-ssl", "disabled", "--daemon-ssl", "disabled", "--kdf-rounds", "1"),
        # The default is one folder in the user's home, shared by all wallets.
        *("--shared-ringdb-dir", str(wallet.rings or wallet.folder / "ringdb")),
        *_log_arguments(wallet.folder / "wallet-rpc.log"),
    )
    return Program(name=wallet.name, argv=argv)


def regtest_program(*, folder: Path, port: int, p2p_port: int, name: str = "monerod") -> Program:
    """Returns the command line of a private chain: offline, difficulty 1, kept across restarts."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    argv = (
        *("monerod", "--regtest", "--keep-fakechain", "--offline", "--fixed-difficulty", "1"),
        *("--data-dir", str(folder), "--rpc-bind-ip", LOOPBACK, "--rpc-bind-port", str(port)),
        *("--p2p-bind-ip", LOOPBACK, "--p2p-bind-port", str(p2p_port), "--hide-my-port", "--no-igd", "--no-zmq"),
        *("--check-updates", "disabled", "--disable-dns-checkpoints", "--rpc-ssl", "disabled", "--disable-rpc-ban"),
        *_log_arguments(folder / "monerod.log"),
    )
    # It ends within a second when asked.
    return Program(name=name, argv=argv, stop_limit_s=60.0)


async def launch_regtest(keeper: ProcessKeeper, *, folder: Path, port: int) -> Process:
    """Starts a private chain and waits until it answers; raises `ProgramFailed`."""
    with reserved_port() as p2p_port:
        process = await keeper.start(regtest_program(folder=folder, port=port, p2p_port=p2p_port))
        await process.ready(lambda: port_answers(port), limit_s=READY_LIMIT_S)
    return process


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yields a free port of the loopback address that for the block nobody gets who asks the system for any port.

    A program that is told the port listens on it meanwhile, as those that set SO_REUSEADDR may beside a socket that
    does not listen. A port let go at once was sometimes another's before its program, a second later, came for it.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((LOOPBACK, 0))
        yield reserved.getsockname()[1]


def _login_arguments(wallet: WalletProgram) -> tuple[str, ...]:
    if wallet.login is None:
        return ("--disable-rpc-login",)
    user, password = wallet.login
    assert not set("\r\n:") & set(user) and not set("\r\n") & set(password), "a login is one line"
    path = wallet.folder / "wallet-rpc.conf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"rpc-login={user}:{password}\n")
    return ("--config-file", str(path))


def _log_arguments(log: Path) -> tuple[str, ...]:
    return ("--non-interactive", "--log-level", "0", "--log-file", str(log), "--max-log-files", "3")
