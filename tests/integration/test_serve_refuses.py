"""`thirdkey serve` where it cannot serve: one sentence and exit code 1, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.embedded import folder_lock


def served(home: Path, **environment: str) -> tuple[int, list[str]]:
    """Runs `thirdkey serve` to its end; returns the exit code and the lines it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        env={**os.environ, "THIRDKEY_HOME": str(home), "SERVER_PORT": "0", "METRICS_PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


def test_a_second_service_in_a_folder_says_that_there_is_one(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        assert served(tmp_path) == (1, [f"FolderInUse: a service already runs in {tmp_path}"])


@pytest.mark.parametrize("network", ["stagenet", "testnet"])
def test_a_network_that_cannot_be_served_yet_is_named(tmp_path: Path, network: str) -> None:
    code, said = served(tmp_path, MONERO_NETWORK=network)
    assert (code, len(said)) == (1, 1)
    assert "MONERO_NETWORK=regtest" in said[0]
    assert list(tmp_path.iterdir()) == []
