"""`ops/install.sh` on machines that lack something, on one that was interrupted, and on one that has all it needs.

The machine's programs are stand-ins on a PATH of their own, so that nothing is ever installed by these tests; the .venv
is a real one, made from a lock of one small wheel that lies beside it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "env", "dirname", "cat", "grep", "tr", "sed", "flock", "rm", "mkdir", "ln", "touch", "true")
BACKEND = """
import zipfile
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{wheel_directory}/clone-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("clone.pth", "")
        wheel.writestr("clone-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: clone\\nVersion: 1\\n")
        wheel.writestr("clone-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("clone-1.dist-info/RECORD", "")
    return "clone-1-py3-none-any.whl"
"""


class Machine:
    """A clone in a folder of its own, and a PATH with only the programs that the test allows."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.path, self.calls = folder / "a clone", folder / "bin", folder / "calls"
        (self.clone / "ops").mkdir(parents=True)
        self.path.mkdir()
        shutil.copy(ROOT / "ops/install.sh", self.clone / "ops")
        for tool in TOOLS:
            (self.path / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
        (self.path / "python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
        self.program("id", "echo 1000")
        self.lock_one_wheel(hash_ok=True)

    def program(self, name: str, does: str) -> None:
        (self.path / name).write_text(f'#!/bin/sh\necho {name} "$@" >>"{self.calls}"\n{does}\n')
        (self.path / name).chmod(0o755)

    def has_monero(self) -> None:
        self.program("monerod", "")
        self.program("monero-wallet-rpc", "")
        self.program("haproxy", "")
        self.program("chromium", "")

    def has_apt(self, *, lists: bool) -> None:
        """An apt whose install brings Monero's programs, at once or only after an update."""
        known = self.path.parent / "lists"
        known.touch() if lists else None
        monero = f'for p in monerod monero-wallet-rpc; do ln -s /bin/true "{self.path}/$p"; done'
        update, install = f'touch "{known}"', f'[ -e "{known}" ] || exit 100\n{monero}'
        self.program("apt-get", f'case "$*" in *update*) {update} ;; *)\n{install} ;; esac')

    def lock_one_wheel(self, *, hash_ok: bool) -> None:
        wheel = self.clone.parent / "small-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("small.py", "answer = 42\n")
            file.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1\n")
            file.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr("small-1.dist-info/RECORD", "")
        digest = hashlib.sha256(wheel.read_bytes() if hash_ok else b"").hexdigest()
        for lock in ("requirements.lock", "requirements-dev.lock"):
            (self.clone / lock).write_text(f"small @ {wheel.as_uri()} --hash=sha256:{digest}\n")
        (self.clone / "backend.py").write_text(BACKEND)
        (self.clone / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.clone / "ops/install.sh"), *arguments],
            env={"PATH": str(self.path), "HOME": str(self.path.parent), "PYTHONPATH": "/nowhere"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def called(self, name: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.split()[0] == name]

    def answer(self) -> str:
        """What the locked package says, run by the .venv's own python."""
        run = [str(self.clone / ".venv/bin/python"), "-c", "import small; print(small.answer)"]
        return subprocess.run(run, capture_output=True, text=True, check=True, env={**os.environ}).stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_with_everything_there_nothing_is_done_or_said(machine: Machine):
    machine.has_monero()
    done = machine.install("--system")
    assert (done.returncode, done.stdout + done.stderr, machine.called("apt-get")) == (0, "", [])


def test_without_root_and_sudo_it_prints_the_one_command_and_fails(machine: Machine):
    machine.has_apt(lists=True)
    done = machine.install()
    *_, command = done.stderr.splitlines()
    assert done.returncode == 1
    assert command.strip().startswith("su - -c 'apt-get update && apt-get install -y")
    assert command.endswith(" monero'")
    assert machine.called("apt-get") == []


def test_with_a_sudo_that_asks_for_a_password_it_prints_the_command_with_sudo(machine: Machine):
    machine.has_apt(lists=True)
    machine.program("sudo", "exit 1")
    done = machine.install()
    assert done.returncode == 1
    assert "    sudo sh -c 'apt-get update && apt-get install -y" in done.stderr
    assert machine.called("sudo") == ["sudo -n true"]


def test_with_a_willing_sudo_it_installs_without_asking(machine: Machine):
    machine.has_apt(lists=True)
    machine.program("sudo", 'shift\nexec "$@"')
    assert machine.install("--system").returncode == 0
    assert [line.split()[-1] for line in machine.called("apt-get")] == ["monero"]
    assert all(line.startswith("sudo -n ") for line in machine.called("sudo"))


def test_root_fetches_the_package_lists_only_when_installing_fails_without(machine: Machine):
    machine.program("id", "echo 0")
    machine.has_apt(lists=False)
    assert machine.install("--system").returncode == 0
    assert [line.split()[-1] for line in machine.called("apt-get")] == ["monero", "update", "monero"]


def test_without_apt_it_says_what_the_machine_needs(machine: Machine):
    done = machine.install()
    assert done.returncode == 1
    for needed in ("Python 3.11 or newer", "venv", "monerod", "monero-wallet-rpc"):
        assert needed in done.stderr


def test_the_checks_need_no_monero(machine: Machine):
    assert machine.install("--system", "--no-monero").returncode == 0


@pytest.mark.parametrize("program", ["haproxy", "chromium"])
def test_without_a_program_of_some_tests_the_tests_are_installed_all_the_same(machine: Machine, program: str):
    machine.has_monero()
    (machine.path / program).unlink()
    machine.program("id", "echo 0")
    machine.program("apt-get", "exit 100")
    assert machine.install("--dev", "--system").returncode == 0


def test_an_unknown_option_is_refused(machine: Machine):
    assert machine.install("--fast").returncode == 1


def test_a_package_that_is_not_the_locked_one_is_refused_and_leaves_no_stamp(machine: Machine):
    machine.has_monero()
    machine.lock_one_wheel(hash_ok=False)
    done = machine.install()
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()
    assert not (machine.clone / ".venv/.installed").exists()


def test_what_only_the_longest_trials_need_is_brought_for_them_alone(machine: Machine):
    machine.has_monero()
    machine.lock_one_wheel(hash_ok=True)
    lock = machine.clone / "requirements-soak.lock"
    lock.write_text(f"small @ file:///nowhere/small-1-py3-none-any.whl --hash=sha256:{'0' * 64}\n")
    assert machine.install("--dev").returncode == 0
    assert machine.install("--soak").returncode != 0
    shutil.copy(machine.clone / "requirements-dev.lock", lock)
    assert machine.install("--soak").returncode == 0
    assert machine.answer() == "42"


def test_it_installs_once_and_mends_what_is_unfinished_changed_or_moved(machine: Machine):
    machine.has_monero()
    machine.install("--dev").check_returncode()
    assert machine.answer() == "42"

    for again in ((), ("--dev",)):  # what serves the tests serves the demo
        done = machine.install(*again)
        assert (done.returncode, done.stderr) == (0, "")

    (machine.clone / ".venv/.unfinished").touch()  # as a kill -9 in the middle leaves it
    (machine.clone / ".venv/bin/pip").write_text("half")
    assert "Making .venv" in machine.install().stderr
    assert machine.answer() == "42"

    with (machine.clone / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    done = machine.install()
    assert "Installing" in done.stderr
    assert "Making .venv" not in done.stderr

    machine.clone = machine.clone.rename(machine.clone.with_name("renamed"))
    assert "Making .venv" in machine.install().stderr
    assert machine.answer() == "42"
