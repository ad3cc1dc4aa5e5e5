"""The wallet processes an operator names are checked as a whole, and taken over while the service runs."""

import json
from pathlib import Path

import pytest

from actors.given_slot import GivenHost
from domain.roles import THREE, Role
from service.environment import SettingsWrong, load_settings
from service.given_slots import GivenSlotsWrong, given_slots
from service.settings import Settings

SECRET = "correct-horse"


def entry(port: int, folder: Path, **more: object) -> dict[str, object]:
    return {"url": f"http://127.0.0.1:{port}", "user": "u", "password": SECRET, "wallet_dir": str(folder), **more}


def written(folder: Path, entries: object, *, mode: int = 0o600) -> Settings:
    path = folder / "slots.json"
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return Settings(monero_rpc_file=path)


def mistakes(settings: Settings) -> str:
    with pytest.raises(GivenSlotsWrong) as caught:
        given_slots(settings)
    said = str(caught.value)
    assert SECRET not in said and SECRET not in repr(caught.value)
    return said


def test_entries_belong_to_buyer_vendor_and_arbiter_in_turn(tmp_path: Path) -> None:
    found = given_slots(written(tmp_path, [entry(18082 + number, tmp_path) for number in range(5)]))
    assert [each.role for each in found] == [*THREE, Role.BUYER, Role.VENDOR]


def test_urls_take_one_login_and_a_folder_for_each_role(tmp_path: Path) -> None:
    for role in THREE:
        (tmp_path / role.value).mkdir()
    environ = {
        "MONERO_RPC_URLS": "http://127.0.0.1:18082,http://127.0.0.1:18083,http://127.0.0.1:18084",
        "MONERO_RPC_USER": "u",
        "MONERO_RPC_PASSWORD": SECRET,
        "MONERO_RPC_WALLET_DIR": str(tmp_path),
        "MONERO_DAEMON_URLS": "http://127.0.0.1:18081",
    }
    settings = load_settings(environ)
    found = given_slots(settings)
    assert [each.wallet_dir.name for each in found] == ["buyer", "vendor", "arbiter"]
    assert {each.access.password for each in found} == {SECRET}
    assert SECRET not in repr(found)
    for missing in ("MONERO_RPC_WALLET_DIR", "MONERO_DAEMON_URLS"):
        with pytest.raises(SettingsWrong, match=missing):
            load_settings({name: value for name, value in environ.items() if name != missing})
    with pytest.raises(SettingsWrong, match="not both"):
        load_settings(environ | {"MONERO_RPC_FILE": "slots.json"})
    for number, daemons in enumerate(("http://a:1", "http://a:1,http://b:1"), start=1):
        assert len(load_settings(environ | {"MONERO_DAEMON_URLS": daemons}).monero_daemon_urls) == number
    for daemons in ("http://a:1,http://a:1", "http://a:1,http://b:1,http://c:1", "http://a:1,https://b:1"):
        with pytest.raises(SettingsWrong, match="MONERO_DAEMON_URLS"):
            load_settings(environ | {"MONERO_DAEMON_URLS": daemons})


def test_a_slot_is_named_by_its_process_and_not_by_its_place(tmp_path: Path) -> None:
    entries = [entry(18082 + number, tmp_path) for number in range(3)]
    names = {each.url: each.name for each in given_slots(written(tmp_path, entries))}
    again = {each.url: each.name for each in given_slots(written(tmp_path, entries[::-1]))}
    assert names == again and len(set(names.values())) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"wallet_dir": ""}, "entry 2: wallet_dir: expected the folder"),
        ({"wallet_dir": "/nowhere/at/all"}, "entry 2: wallet_dir: expected a folder"),
        ({"url": "https://127.0.0.1:1"}, "entry 2: fingerprint: expected the SHA-256"),
        ({"url": "https://127.0.0.1:1", "fingerprint": "ab"}, "entry 2: fingerprint"),
        ({"fingerprint": "ab" * 32}, "entry 2: fingerprint: expected only"),
        ({"url": "http://wallets.example:1"}, "entry 2: url: expected https to another machine"),
        ({"url": "http://u:p@127.0.0.1:1"}, "entry 2: url"),
        ({"url": "http://127.0.0.1:99999"}, "entry 2: url"),
        ({"url": "ftp://127.0.0.1:1"}, "entry 2: url"),
        ({"url": "http://127.0.0.1"}, "entry 2: url"),
        ({"url": "http://localhost:1"}, "entry 2: the same process as entry 1"),
        ({"password": None}, "entry 2: user, password"),
        ({"password": 7}, "password"),
        ({"more": SECRET}, "unknown field"),
    ],
)
def test_every_mistake_is_said_without_what_is_secret(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    entries = [entry(1, tmp_path), entry(2, tmp_path) | wrong, entry(3, tmp_path)]
    assert said in mistakes(written(tmp_path, entries))


def test_processes_of_one_role_have_one_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "same").symlink_to(tmp_path)
    entries = [entry(number, tmp_path) for number in range(1, 4)]
    assert len(given_slots(written(tmp_path, [*entries, entry(4, tmp_path / "same")]))) == 4
    said = mistakes(written(tmp_path, [*entries, entry(4, tmp_path / "other")]))
    assert said == "entry 4: wallet_dir: expected the folder of entry 1, which has the same role"


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = written(tmp_path, [entry(number, tmp_path) for number in (1, 2, 3)], mode=0o640)
    assert "0600" in mistakes(settings)


@pytest.mark.parametrize("text", ["", "{", "[]", '[{"url": 1}]', "\ufffe"])
def test_a_file_that_says_nothing_usable_is_refused(tmp_path: Path, text: str) -> None:
    mistakes(written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in mistakes(Settings(monero_rpc_file=tmp_path / "none.json"))


def test_a_host_shows_no_login_when_it_is_printed(tmp_path: Path) -> None:
    (found, *_) = given_slots(written(tmp_path, [entry(number, tmp_path) for number in (1, 2, 3)]))
    assert SECRET not in repr(GivenHost(found.url, access=found.access, files=None).__dict__)  # type: ignore[arg-type]
