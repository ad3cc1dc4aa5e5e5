"""A serving node keeps heads: it makes its key, signs, writes the file and tells the stream."""

import asyncio
import stat
from pathlib import Path

import pytest

from eventstore.heads import signature_holds
from service.api.stream import HUB
from service.environment import SettingsWrong, load_settings
from service.heads import kept_heads
from service.heads_file import heads_path, read_heads
from service.keys import HEAD_FILE, has_head_key, head_key, known_head_keys
from service.settings import Settings
from tests.patience import PATIENCE_S
from tests.worlds import house_world


async def test_a_node_signs_what_happens_and_tells_who_listens(tmp_path: Path) -> None:
    async with house_world(thirdkey_home=tmp_path, head_interval_s=1) as world:
        app = world.client.app
        assert app is not None
        settings, file = world.house.settings, heads_path(world.house.settings)
        headers = {"Authorization": f"Bearer {world.token('alice')}"}
        async with (
            world.client.ws_connect("/api/stream", headers=headers) as socket,
            kept_heads(world.house, file=file, announce=app[HUB].announce),
            asyncio.timeout(PATIENCE_S),
        ):
            await world.create()
            while (message := await socket.receive_json())["type"] != "signed_head":
                pass
        (key,) = known_head_keys(settings)
        head = next(head for head in read_heads(file) if head.partition == message["data"]["partition"])
        assert signature_holds(head)
        assert (head.key_id, message["data"]["signature"]) == (key, head.signature.hex())
        assert all(row.expired for row in (await world.house.store.duty_leases.held()).values())


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = Settings(thirdkey_home=tmp_path / "home")
    assert not has_head_key(settings)
    first = head_key(settings)
    assert has_head_key(settings)
    assert head_key(settings).private_bytes_raw() == first.private_bytes_raw()
    path = tmp_path / "home" / HEAD_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert known_head_keys(settings) == [first.public_key().public_bytes_raw().hex()]


def test_a_new_key_leaves_the_old_one_known(tmp_path: Path) -> None:
    for number in (1, 2, 1):
        head_key(Settings(thirdkey_home=tmp_path, head_signing_key=bytes([number] * 32)))
    assert len(known_head_keys(Settings(thirdkey_home=tmp_path))) == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HEAD_SIGNING_KEY", "short"), ("HEAD_INTERVAL_S", "0"), ("HEAD_EVENTS_MAX", "-1"), ("HEAD_EVENTS_MAX", "many")],
)
def test_settings_of_heads_that_make_no_sense_are_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsWrong, match=f"{variable}: expected"):
        load_settings({variable: value})
