"""Which keys open what is sealed, as the environment and the data folder say."""

from pathlib import Path

import pytest

from service.environment import SettingsWrong, load_settings
from service.keys import KeyFileWrong, encryption_key, other_keys
from service.settings import Settings

ONE, TWO, THREE = "11" * 32, "22" * 32, "33" * 32


def test_old_keys_and_the_next_one_open_beside_the_one_that_wraps() -> None:
    old = {"ENCRYPTION_KEY_OLD": f"{TWO},{THREE}", "ENCRYPTION_KEY_NEXT": "44" * 32}
    settings = load_settings({"ENCRYPTION_KEY": ONE} | old)
    assert encryption_key(settings) == bytes.fromhex(ONE)
    assert other_keys(settings) == tuple(map(bytes.fromhex, (TWO, THREE, "44" * 32)))


@pytest.mark.parametrize("other", ["ENCRYPTION_KEY_OLD", "ENCRYPTION_KEY_NEXT"])
def test_the_same_key_twice_is_a_mistake_that_is_told_without_the_key(other: str) -> None:
    with pytest.raises(SettingsWrong) as wrong:
        load_settings({"ENCRYPTION_KEY": ONE, other: ONE})
    assert any("expected other keys than ENCRYPTION_KEY" in mistake for mistake in wrong.value.mistakes)
    assert ONE not in str(wrong.value)


def test_a_malformed_old_key_is_told_without_its_value() -> None:
    with pytest.raises(SettingsWrong) as wrong:
        load_settings({"ENCRYPTION_KEY_OLD": f"{ONE},hunter2"})
    assert wrong.value.mistakes == ("ENCRYPTION_KEY_OLD: expected 64 hex digits",)


def test_the_data_folder_keeps_the_key_before_beside_its_own(tmp_path: Path) -> None:
    settings = Settings(thirdkey_home=tmp_path)
    first = encryption_key(settings)
    (tmp_path / "encryption.key").rename(tmp_path / "encryption.old.key")
    assert encryption_key(settings) != first
    assert other_keys(settings) == (first,)
    (tmp_path / "encryption.old.key").chmod(0o644)
    with pytest.raises(KeyFileWrong, match="readable by others"):
        other_keys(settings)


def test_a_retention_that_could_miss_late_money_is_refused() -> None:
    with pytest.raises(SettingsWrong, match="SECRETS_RETENTION_DAYS"):
        load_settings({"SECRETS_RETENTION_DAYS": "1"})
