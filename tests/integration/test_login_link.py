"""`thirdkey login-link`: what an operator gives somebody who shall log in."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.commands.login_link import login_link
from service.environment import SettingsWrong, load_settings
from service.keys import issuer_key
from service.settings import Settings
from tests.given import BUYER
from tests.page_world import Site
from tests.worlds import house_world

REACHED = ("https://a.example", "http://127.0.0.1:8080", "http://[::1]:1", f"http://{'a' * 56}.onion")
NOT_REACHED = ("http://a.example", "https://a.example/x", "https://u:p@a.example", "ftp://a.example", "a")
USUAL = {"rights": (), "onward": None, "ttl_s": 600, "session_s": 3_600}


async def test_a_printed_link_leads_to_where_its_bearer_shall_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(thirdkey_home=tmp_path, public_url="https://escrow.example")
    onward = "/cases/case_1?a=b"
    assert login_link(settings, sub=BUYER, rights=(), onward=onward, ttl_s=600, session_s=3_600) == 0
    address, _, code = capsys.readouterr().out.strip().partition("#")
    assert address == "https://escrow.example/login?next=%2Fcases%2Fcase_1%3Fa%3Db"
    public = issuer_key(settings).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    async with house_world(issuer_public_key=public) as world, Site(world) as site:
        assert await site.browser().log_in(code) == "/cases"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"onward": "https://evil.example"}, "expected a path"),
        ({"ttl_s": 100_000}, "lives 1 to 86400 seconds"),
        ({"session_s": 0}, "lives 1 to 86400 seconds"),
        ({"rights": ("boss",)}, "boss"),
    ],
)
def test_a_link_that_nobody_could_use_is_not_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, object], says: str
) -> None:
    assert login_link(Settings(thirdkey_home=tmp_path), sub=BUYER, **(USUAL | wrong)) == 1  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert (said.out, says in said.err) == ("", True)


def test_with_an_issuer_elsewhere_links_come_from_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(thirdkey_home=tmp_path, issuer_public_key=bytes(32))
    assert login_link(settings, sub=BUYER, **USUAL) == 1  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "url", ["https://a.example", "http://127.0.0.1:8080", "http://[::1]:1", f"http://{'a' * 56}.onion"]
)
def test_pages_are_reached_by_https_or_where_nobody_listens(url: str) -> None:
    assert load_settings({"PUBLIC_URL": f"{url}/"}).public_url == url


@pytest.mark.parametrize(
    "url", ["http://a.example", "https://a.example/x", "https://u:p@a.example", "ftp://a.example", "a"]
)
def test_pages_are_reached_in_no_other_way(url: str) -> None:
    with pytest.raises(SettingsWrong, match="PUBLIC_URL"):
        load_settings({"PUBLIC_URL": url})
