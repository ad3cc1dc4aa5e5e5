"""Copies of wallet files: whole or not there."""

import subprocess
import sys

import pytest

from actors.ports import KeysFileUnreadable, WalletUnknown
from actors.wallet_files import FolderFiles


@pytest.fixture
def files(tmp_path):
    (tmp_path / "w").write_bytes(b"cache 1")
    (tmp_path / "w.keys").write_bytes(b"keys 1")
    return FolderFiles(tmp_path)


def test_a_copy_brings_both_files_back(files, tmp_path):
    files.save("w", label="before-make")
    (tmp_path / "w").write_bytes(b"cache 2")
    (tmp_path / "w.keys").write_bytes(b"keys 2")
    files.restore("w", label="before-make")
    assert ((tmp_path / "w").read_bytes(), (tmp_path / "w.keys").read_bytes()) == (b"cache 1", b"keys 1")


def test_a_copy_without_its_keys_is_no_copy(files, tmp_path):
    files.save("w", label="one")
    (tmp_path / "set-up-copies" / "w" / "one" / "w.keys").unlink()
    assert not files.saved("w", label="one")
    with pytest.raises(FileNotFoundError):
        files.restore("w", label="one")
    assert (tmp_path / "w").read_bytes() == b"cache 1", "nothing was touched"


def test_a_wallet_saved_without_a_cache_is_restored_without_one(files, tmp_path):
    files.drop_cache("w")
    files.save("w", label="one")
    (tmp_path / "w").write_bytes(b"of another round")
    files.restore("w", label="one")
    assert not (tmp_path / "w").exists()


def test_saving_again_without_a_cache_forgets_the_cache_saved_before(files, tmp_path):
    files.save("w", label="one")
    files.drop_cache("w")
    files.save("w", label="one")
    files.restore("w", label="one")
    assert not (tmp_path / "w").exists()


def test_labels_and_wallets_keep_their_own_copies(files, tmp_path):
    (tmp_path / "v.keys").write_bytes(b"v")
    files.save("w", label="one")
    files.save("v", label="one")
    files.drop_saved("w")
    assert not files.saved("w", label="one") and files.saved("v", label="one")
    assert files.exists("w") and not files.exists("nobody")


def test_copies_are_for_our_eyes_alone(files, tmp_path):
    files.save("w", label="one")
    copies = list((tmp_path / "set-up-copies" / "w" / "one").iterdir())
    assert len(copies) == 2 and all(each.stat().st_mode & 0o077 == 0 for each in copies)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../w"])
def test_a_name_cannot_lead_out_of_the_folder(files, name):
    with pytest.raises(AssertionError):
        files.exists(name)


HOLDER = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"


def test_files_of_a_wallet_that_a_process_has_open_are_neither_put_back_nor_dropped(files, tmp_path):
    files.save("w", label="one")
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "w.keys")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        holder.stdout.readline()
        assert files.in_use("w")
        for change in (lambda: files.restore("w", label="one"), lambda: files.drop_cache("w")):
            with pytest.raises(WalletUnknown, match="locked"):
                change()
        assert (tmp_path / "w").exists()
        holder.communicate(b"\n", timeout=60)
    assert not files.in_use("w")
    files.restore("w", label="one")


# -- backups -------------------------------------------------------------------------------------------------

WHOLE = bytes(8) + bytes([5]) + b"12345"
"""As a keys file is built: an IV, how many bytes follow, and those."""


def test_a_whole_keys_file_is_read_as_it_is(files, tmp_path):
    (tmp_path / "w.keys").write_bytes(WHOLE)
    assert files.keys("w") == WHOLE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "keys_file_missing"),
        (b"", "keys_file_not_whole"),
        (WHOLE[:-1], "keys_file_not_whole"),
        (WHOLE + b"6", "keys_file_not_whole"),
        (bytes(8) + b"\x80\x80\x04" + bytes(1 << 16), "keys_file_not_whole"),
    ],
    ids=["none", "empty", "cut", "longer", "too large"],
)
def test_no_backup_is_made_of_a_keys_file_that_is_not_there_to_its_last_byte(files, tmp_path, content, reason):
    (tmp_path / "w.keys").unlink()
    if content is not None:
        (tmp_path / "w.keys").write_bytes(content)
    with pytest.raises(KeysFileUnreadable, match=reason):
        files.keys("w")


def test_a_keys_file_that_cannot_be_read_says_so(files, tmp_path):
    (tmp_path / "w.keys").unlink()
    (tmp_path / "w.keys").mkdir()
    with pytest.raises(KeysFileUnreadable, match="keys_file_unreadable"):
        files.keys("w")


def test_a_lost_wallet_gets_its_keys_back_alone_and_for_its_owner(files, tmp_path):
    files.put_back("new", WHOLE)
    assert {path.name for path in tmp_path.iterdir()} == {"w", "w.keys", "new.keys"}
    assert files.keys("new") == WHOLE and (tmp_path / "new.keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", ["w", "w.keys"])
def test_keys_are_not_put_back_beside_anything_that_is_left_of_the_wallet(files, tmp_path, left):
    for each in ("w", "w.keys"):
        if each != left:
            (tmp_path / each).unlink()
    before = (tmp_path / left).read_bytes()
    assert not files.lost("w")
    with pytest.raises(FileExistsError):
        files.put_back("w", WHOLE)
    assert [path.name for path in tmp_path.iterdir()] == [left] and (tmp_path / left).read_bytes() == before


def test_a_name_that_leads_to_nothing_is_left_of_the_wallet_too(files, tmp_path):
    for each in ("w", "w.keys"):
        (tmp_path / each).unlink()
    assert files.lost("w")
    (tmp_path / "w").symlink_to(tmp_path / "a disk that is away")
    assert not files.lost("w")
