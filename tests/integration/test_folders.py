"""How the test folders are run: those of `real` by one process, and the seconds of each are told."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = "import pytest\n@pytest.mark.parametrize('i', range(6))\ndef test_claim(i): ...\n"


def test_the_tests_of_real_share_one_process_and_each_folder_is_told(tmp_path: Path):
    for folder in ("real", "unit"):
        for file in ("test_a.py", "test_b.py"):
            path = tmp_path / "tests" / folder / f"{folder}_{file}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f"test_{path.name}").write_text(CLAIMS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    plugins = ["-p", "tests.folder_seconds", "-p", "no:cacheprovider"]
    run = [sys.executable, "-m", "pytest", *plugins, "-v", "-n", "2", "--dist=loadgroup", f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [*run, "-c", str(tmp_path / "pytest.ini"), str(tmp_path / "tests")],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    by = re.findall(r"\[(gw\d)\].* PASSED (?:\S*/)?tests/(\w+)/", done.stdout)
    assert len({worker for worker, folder in by if folder == "real"}) == 1
    assert len(by) == 24
    assert re.search(r"^real +[\d.]+ s +12 tests$", done.stdout, re.MULTILINE)
    assert re.search(r"^unit +[\d.]+ s +12 tests$", done.stdout, re.MULTILINE)
