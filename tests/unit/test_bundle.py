"""What a bundle proves offline, and that no field of it can be changed without being told so by name."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eventstore.api import Head
from eventstore.heads import key_id_of, sign_head
from schemas.bundle import BUNDLE_FORMAT, Bundle, BundleEvent
from schemas.heads import HeadRecord
from service.bundle_check import check_bundle
from service.head_checks import Outside
from service.heads_file import record_of
from service.replay import story
from tests.bundle_world import KEY, KEY_ID, SignedLife, encoded, signed_life
from tests.postgres_fixtures import run_apart

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUSTED = frozenset({KEY_ID})


@pytest.fixture(scope="module")
def life() -> SignedLife:
    return run_apart(signed_life())


def checked(bundle: Bundle | dict[str, Any], **more: Any):
    return check_bundle(msgspec.json.encode(bundle), trusted=TRUSTED, **more)


def test_a_bundle_is_right_to_its_last_event_and_tells_the_story(life):
    found = checked(life.bundle)
    assert found.findings == ()
    assert found.uncovered == 0
    assert (found.proven_by.position, found.proven_by.key_id) == (life.heads[-1].position, KEY_ID)
    assert list(story(found.events))[-1].startswith("state completed")
    assert [each.version for each in found.events] == list(range(1, len(life.bundle.events) + 1))


def test_nobody_elses_bodies_are_in_it(life):
    content = encoded(life.bundle)
    assert len(life.others) > 5
    for body in life.others:
        assert msgspec.json.encode(body.decode()) not in content


def test_it_shows_when_each_event_was_first_signed(life):
    positions = [head.position for head in life.bundle.heads]
    assert positions == [head.position for head in life.heads]
    assert [(each.old, each.new) for each in life.bundle.growths] == list(pairwise(positions))


def test_events_younger_than_the_newest_head_are_said_to_be_unproven(life):
    found = checked(life.unsigned)
    assert found.findings == ()
    assert found.uncovered == len(life.unsigned.events) - len(life.earlier.events)
    assert found.uncovered > 0


def test_a_bundle_without_any_head_proves_nothing(life):
    found = checked(life.unproven)
    assert found.findings == ("there is no signed head: nothing proves that these events are in a log",)
    assert found.uncovered == len(life.unproven.events)


# -- tampering -----------------------------------------------------------------------------------------------

_NOT_PROVEN = {
    "exported_at": "says when the bundle was made, by who made it",
    "events.recorded_at": "the database's clock, not part of the leaf",
}
"""Fields that nothing proves: docs/auditing.md says so."""

_LEAF = "the event or its proof was changed"
_CHANGED: dict[str, tuple[Any, str]] = {
    "format": ("thirdkey bundle 9", "another format"),
    "escrow_id": ("esc_other", _LEAF),
    "partition": (1, "of another partition"),
    "events": ([], "there is no event"),
    "heads": ([], "there is no signed head"),
    "growths": ([], "nothing shows that the log only grew"),
    "keys": ([], "does not list"),
    "events.position": (1, _LEAF),
    "events.version": (99, "is missing"),
    "events.type": ("shipped", _LEAF),
    "events.schema_version": (9, _LEAF),
    "events.command_id": ("0" * 64, _LEAF),
    "events.occurred_at": (1, _LEAF),
    "events.meta": ('{"by":"mallory"}', _LEAF),
    "events.body": ("{}", _LEAF),
    "events.salt": ("00" * 16, _LEAF),
    "events.path": ([], _LEAF),
    "heads.partition": (3, "is of another partition"),
    "heads.position": (2, "not signed by the key it names"),
    "heads.chain": ("00" * 32, "not signed by the key it names"),
    "heads.merkle_root": ("00" * 32, "not signed by the key it names"),
    "heads.signed_at": (2, "not signed by the key it names"),
    "heads.key_id": ("00" * 32, "not signed by the key it names"),
    "heads.signature": ("00" * 64, "not signed by the key it names"),
    "growths.old": (1, "nothing shows that the log only grew"),
    "growths.new": (1, "nothing shows that the log only grew"),
    "growths.path": (["00" * 32], "it was rewritten"),
}


def _plain(life: SignedLife) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(encoded(life.bundle))
    return plain


def test_every_field_is_changed_below_or_said_to_be_unproven():
    names = set(Bundle.__struct_fields__)
    names |= {f"events.{field}" for field in BundleEvent.__struct_fields__}
    names |= {f"heads.{field}" for field in HeadRecord.__struct_fields__}
    names |= {f"growths.{field}" for field in ("old", "new", "path")}
    assert names == set(_CHANGED) | set(_NOT_PROVEN)


@pytest.mark.parametrize("field", _CHANGED)
def test_a_changed_field_is_found_and_named(life, field):
    value, says = _CHANGED[field]
    plain = _plain(life)
    holder, _, name = field.rpartition(".")
    target = plain[holder][len(plain[holder]) // 2] if holder else plain
    assert target[name] != value
    target[name] = value
    found = checked(plain)
    assert any(says in finding for finding in found.findings), found.findings


@pytest.mark.parametrize("field", _NOT_PROVEN)
def test_what_is_said_to_be_unproven_is_indeed(life, field):
    plain = _plain(life)
    holder, _, name = field.rpartition(".")
    (plain[holder][0] if holder else plain)[name] += 1
    assert checked(plain).findings == ()


def _edited(life: SignedLife, edit) -> dict[str, Any]:
    plain = _plain(life)
    edit(plain)
    return plain


_EDITS: dict[str, tuple[Any, str]] = {
    "an event left out in the middle": (lambda b: b["events"].pop(4), "version 5 is missing"),
    "the first event left out": (lambda b: b["events"].pop(0), "version 1 is missing"),
    "two events exchanged": (lambda b: b["events"].insert(3, b["events"].pop(4)), "not after the one before"),
    "an event twice": (lambda b: b["events"].insert(3, b["events"][3]), "not after the one before"),
    "a proof taken away": (lambda b: b["events"][3].update(path=None), "its proof is missing"),
    "a proof cut": (lambda b: b["events"][3]["path"].pop(), _LEAF),
    "a proof in other than hex": (lambda b: b["events"][3].update(path=["?"]), _LEAF),
    "a proof of another event": (lambda b: b["events"][3].update(path=b["events"][4]["path"]), _LEAF),
    "an event made up at the end": (
        lambda b: b["events"].append(b["events"][-1] | {"position": 10_000, "version": 99, "path": None}),
        "is missing",
    ),
    "the newest head left out": (lambda b: b["heads"].pop(), _LEAF),
    "the heads in another order": (lambda b: b["heads"].reverse(), "out of order"),
    "a salt in other than hex": (lambda b: b["events"][3].update(salt="salt"), "cannot be one"),
    "a number no log holds": (lambda b: b["events"][3].update(position=2**70), "cannot be"),
    "a negative number": (lambda b: b["events"][3].update(position=-1), "cannot be"),
    "a head that cannot be one": (lambda b: b["heads"][0].update(chain="00"), "cannot be one"),
    "an unknown field": (lambda b: b.update(more=1), "cannot be read"),
    "a missing field": (lambda b: b.pop("heads"), "cannot be read"),
    "a wrong type": (lambda b: b.update(events=1), "cannot be read"),
}


@pytest.mark.parametrize("how", _EDITS)
def test_an_edited_bundle_is_found_and_named(life, how):
    edit, says = _EDITS[how]
    found = checked(_edited(life, edit))
    assert any(says in finding for finding in found.findings), found.findings


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"format":"\\ud800"}', b"null"])
def test_anything_else_is_no_bundle(content):
    (says,) = check_bundle(content).findings
    assert "cannot be read" in says


def test_any_byte_changed_anywhere_is_found_unless_it_is_said_to_be_unproven(life):
    content, same = encoded(life.bundle), 0
    for place in range(0, len(content), 211):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        if not check_bundle(changed, trusted=TRUSTED).findings:
            same += 1
            assert _proven(msgspec.json.decode(changed, type=Bundle)) == _proven(life.bundle), content[
                place - 40 : place
            ]
    assert same < len(content) // 211 // 10


def _proven(bundle: Bundle) -> Bundle:
    events = tuple(msgspec.structs.replace(event, recorded_at=0) for event in bundle.events)
    return msgspec.structs.replace(bundle, events=events, exported_at=0)


def test_a_life_made_up_and_signed_with_another_key_is_found_by_who_knows_the_key(life):
    def resigned(record: HeadRecord) -> HeadRecord:
        end = Head(partition=0, position=record.position, chain=bytes.fromhex(record.chain))
        root = bytes.fromhex(record.merkle_root)
        return record_of(sign_head(OTHER_KEY, end, merkle_root=root, signed_at=record.signed_at))

    heads = tuple(resigned(record) for record in life.bundle.heads)
    keys = (key_id_of(OTHER_KEY.public_key()),)
    forged = msgspec.structs.replace(life.bundle, heads=heads, keys=keys)
    assert check_bundle(encoded(forged)).findings == (), "a made-up key is right by itself: --key is what tells"
    assert all("a key that is not trusted" in finding for finding in checked(forged).findings)
    assert len(checked(forged).findings) == len(heads)


# -- heads from elsewhere ------------------------------------------------------------------------------------


def outside_of(life: SignedLife) -> Outside:
    return Outside(name="heads.jsonl", heads=life.heads)


def test_the_heads_of_a_file_kept_elsewhere_agree(life):
    found = checked(life.bundle, outside=outside_of(life))
    assert (found.findings, found.compared, found.not_compared) == ((), len(life.heads), 0)


def test_an_earlier_bundle_agrees_where_the_newer_one_says_how_the_log_grew(life):
    known = Outside(name="old.json", heads=(life.heads[1],))
    later = msgspec.structs.replace(life.since_earlier, heads=life.since_earlier.heads[2:])
    found = checked(later, outside=known)
    assert (found.findings, found.compared) == ((), 1)


def test_heads_of_which_a_bundle_says_nothing_are_asked_for(life):
    later = msgspec.structs.replace(life.bundle, heads=life.bundle.heads[2:])
    found = checked(later, outside=Outside(name="old.json", heads=(life.heads[0],)))
    (says,) = found.findings
    assert says.endswith(f"ask for a bundle with since={life.heads[0].position}")


def test_a_file_of_another_partition_says_nothing(life):
    other = sign_head(KEY, Head(partition=3, position=9, chain=bytes(32)), merkle_root=bytes(32), signed_at=1)
    (says,) = checked(life.bundle, outside=Outside(name="other.jsonl", heads=(other,))).findings
    assert "can be compared" in says


@pytest.mark.parametrize("field", ["chain", "merkle_root"])
def test_a_fork_is_seen_at_a_head_that_both_know(life, field):
    head = life.heads[1]
    end = Head(partition=0, position=head.position, chain=b"x" * 32 if field == "chain" else head.chain)
    root = b"x" * 32 if field == "merkle_root" else head.merkle_root
    forked = sign_head(KEY, end, merkle_root=root, signed_at=head.signed_at)
    found = checked(life.bundle, outside=Outside(name="theirs", heads=(life.heads[0], forked)))
    assert found.findings == (f"a fork: theirs knows another log at position {head.position}",)


def test_a_fork_is_seen_at_a_head_that_the_log_did_not_grow_from(life):
    position = life.earlier.heads[-1].position
    forked = sign_head(KEY, Head(partition=0, position=position, chain=bytes(32)), merkle_root=bytes(32), signed_at=1)
    later = msgspec.structs.replace(life.since_earlier, heads=life.since_earlier.heads[2:])
    (says,) = checked(later, outside=Outside(name="theirs", heads=(forked,))).findings
    assert says.startswith("a fork: the log that theirs knows")


def test_a_head_from_elsewhere_that_nobody_signed_is_not_believed(life):
    unsigned = msgspec.structs.replace(life.heads[0], signature=bytes(64))
    foreign = sign_head(
        OTHER_KEY,
        Head(partition=0, position=life.heads[1].position, chain=life.heads[1].chain),
        merkle_root=life.heads[1].merkle_root,
        signed_at=1,
    )
    found = checked(life.bundle, outside=Outside(name="theirs", heads=(unsigned, foreign, life.heads[2])))
    assert [says.partition("is ")[2] for says in found.findings] == [
        "not signed by the key it names",
        "signed by a key that is not trusted",
    ]


def test_the_format_is_the_one_that_is_documented(life):
    assert life.bundle.format == BUNDLE_FORMAT == "thirdkey bundle 1"
