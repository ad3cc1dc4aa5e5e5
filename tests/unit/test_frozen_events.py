"""Every event ever written stays readable: schemas and samples are frozen, and today's events are held to them."""

import msgspec
import pytest

from domain.events import SetupStarted
from domain.ids import Micros
from ops import freeze
from schemas.frozen import ALL_TYPES, current_version


def test_every_event_is_what_is_frozen_of_it() -> None:
    assert list(freeze.differences(ALL_TYPES)) == []


def test_a_field_added_without_a_new_version_is_told_with_what_to_do() -> None:
    changed = msgspec.defstruct("SetupStarted", [("why", str)], bases=(SetupStarted,), frozen=True, kw_only=True)
    told = list(freeze.differences({**ALL_TYPES, "setup_started": changed}))
    assert [sentence.partition(" ")[0] for sentence in told] == [
        "setup_started.v1.json",
        "samples/setup_started.v1.json",
    ]
    assert all("give setup_started a new version (docs/evolving-events.md)" in sentence for sentence in told)


def test_a_new_event_is_told_to_be_frozen_and_a_removed_one_to_be_kept() -> None:
    new = msgspec.defstruct("Parcel", [("at", Micros)], tag_field="type", tag="parcel_tracked", kw_only=True)
    types = {**ALL_TYPES, "parcel_tracked": new}
    del types["shipped"]
    told = list(freeze.differences(types))
    assert [sentence for sentence in told if "parcel_tracked" in sentence and "python -m ops.freeze" in sentence]
    assert told[-1].startswith("shipped.v1.json is frozen, and no event of today is read by it")


def test_what_is_frozen_is_never_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in freeze.FOLDER.rglob("*.json")}
    monkeypatch.setattr(freeze, "ALL_TYPES", {**ALL_TYPES, "setup_started": ALL_TYPES["shipped"]})
    assert freeze.main() == 1
    assert {path: path.read_bytes() for path in freeze.FOLDER.rglob("*.json")} == before


@pytest.mark.parametrize(
    ("type", "version"),
    [(type, version) for type in sorted(ALL_TYPES) for version in range(1, current_version(type) + 1)],
)
def test_the_sample_of_every_version_is_read_and_written_as_today(type: str, version: int) -> None:
    current = current_version(type)
    expected = f"{type}.v{version}.json" if version == current else f"{type}.v{version}.as_v{current}.json"
    assert freeze.read_today(type, version) == (freeze.FOLDER / "samples" / expected).read_bytes()
