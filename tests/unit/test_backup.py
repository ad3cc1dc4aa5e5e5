"""Sealed backups of hosted arbiters: no address without one, one only, and nothing signed after a restore as before."""

import secrets
from typing import Any

import msgspec
import pytest
from nacl.public import PrivateKey

from actors.wallet_backup import BackupUnreadable, WalletBackup, is_whole, open_backup, seal_backup
from domain import commands as c
from domain import events as e
from domain.backup import BOX_CHARS_MAX, box_digest
from domain.ids import EscrowId, Sealed, WalletId
from domain.roles import THREE, Role, SeatKind
from domain.states import ExportState, Failure, money_of, name
from domain.steps import Step
from domain.terms import Policy
from domain.turns import turns
from eventstore.api import Recorded
from schemas.codec import encode
from service.transitions import StreamCheck
from tests.given import (
    ADDRESS,
    ARBITER,
    Life,
    all_rounds,
    awaiting_funding,
    claim,
    confirm,
    created,
    disputed,
    funded,
    given,
    output,
    releasing,
    steps,
    view,
    with_addresses,
)

KEY = "ab" * 32
POLICY = Policy(arbiter_backup_key=KEY)
BOX = "c2VhbGVk"


def back_up(life: Life, role: Role = Role.ARBITER, **changes: object) -> Life:
    """Lets a hosted seat hand out its backup."""
    facts: dict[str, object] = {
        "at": life.now,
        "role": role,
        "wallet_id": WalletId(f"wallet-{role}"),
        "key": KEY,
        "digest": box_digest(BOX),
        "box": Sealed(BOX),
    }
    return life.when(c.BackUpWallet(**(facts | changes)))  # type: ignore[arg-type]


def restore(life: Life, role: Role = Role.ARBITER, **changes: object) -> Life:
    """Lets an operator begin a restore."""
    facts = {"at": life.now, "role": role, "wallet_id": WalletId(f"wallet-{role}"), "by": "operator"}
    return life.when(c.RestoreWallet(**(facts | changes)))  # type: ignore[arg-type]


def rounds_over(**changes: object) -> Life:
    """A set-up with backups that waits for the three confirmations."""
    return all_rounds(with_addresses(created(policy=POLICY, **changes)))


def backed_up(life: Life) -> Life:
    """The same life, had its arbiter's wallet been backed up."""
    made = e.WalletBackedUp(
        at=life.now,
        role=Role.ARBITER,
        wallet_id=WalletId("wallet-arbiter"),
        key=KEY,
        digest=box_digest(BOX),
        box=Sealed(BOX),
    )
    return given(*life.events, made)


# -- before there is an address ------------------------------------------------------------------------------


def test_a_hosted_arbiter_confirms_no_address_before_its_wallet_is_backed_up() -> None:
    life = rounds_over()
    confirm(life, Role.ARBITER).refused("backup_missing")
    back_up(life).then(e.WalletBackedUp)
    confirm(life, Role.ARBITER).then(e.AddressConfirmed)


def test_there_is_no_address_before_the_arbiters_backup_whoever_confirms_first() -> None:
    life = rounds_over()
    confirm(confirm(life, Role.BUYER), Role.VENDOR)
    assert name(life.state) == "setting_up" and steps(life) == {Role.ARBITER: Step.CONFIRM_ADDRESS}
    confirm(back_up(life), Role.ARBITER).then(e.AddressConfirmed, e.AddressAgreed)


def test_one_backup_is_made_and_no_second() -> None:
    back_up(back_up(rounds_over())).refused("already_given")


def test_terms_without_a_key_ask_for_no_backup() -> None:
    life = all_rounds(created())
    back_up(life).refused("not_awaited")
    confirm(life, Role.ARBITER).then(e.AddressConfirmed)


@pytest.mark.parametrize("role", [Role.BUYER, Role.VENDOR])
def test_only_the_arbiters_wallet_is_backed_up(role: Role) -> None:
    life = rounds_over()
    back_up(life, role).refused("not_awaited")
    confirm(life, role).then(e.AddressConfirmed)


@pytest.mark.parametrize("kind", [SeatKind.RELAY, SeatKind.REGISTERED])
def test_a_wallet_that_we_do_not_host_is_not_ours_to_back_up(kind: SeatKind) -> None:
    assert created(policy=POLICY, seats=kind).state.core.terms.backup_key(Role.ARBITER) is None


def test_no_backup_is_taken_before_the_last_exchange_made_the_keys_final() -> None:
    life = created(policy=POLICY)
    back_up(life).refused("not_awaited")
    for role in THREE:
        claim(life, role)
    back_up(life).refused("not_awaited")
    back_up(rounds_over()).then(e.WalletBackedUp)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": "cd" * 32}, "backup_invalid"),
        ({"digest": "00" * 32}, "backup_invalid"),
        ({"box": Sealed("A" * (BOX_CHARS_MAX + 1)), "digest": box_digest("A" * (BOX_CHARS_MAX + 1))}, "backup_invalid"),
        ({"wallet_id": WalletId("wallet-buyer")}, "wallet_other"),
    ],
    ids=["another key", "another digest", "too large", "another wallet"],
)
def test_a_backup_that_is_not_the_one_asked_for_is_refused(changes: dict[str, Any], code: str) -> None:
    back_up(rounds_over(), **changes).refused(code)


def test_nothing_is_backed_up_once_the_address_stands() -> None:
    back_up(awaiting_funding()).refused("not_awaited")


def test_terms_of_before_there_were_backups_keep_their_hash() -> None:
    assert "arbiter_backup_key" not in msgspec.json.encode(created().state.core.terms).decode()
    with_key = created(policy=POLICY).state.core.terms
    assert with_key.digest() != created().state.core.terms.digest()


def test_an_audit_finds_an_address_that_was_confirmed_before_the_backup() -> None:
    life = rounds_over()
    early = msgspec.structs.replace(confirm(all_rounds(created()), Role.ARBITER).events[-1], at=life.now)
    found = []
    check = StreamCheck("esc_1")
    for version, event in enumerate([*life.events, early], start=1):
        found += check.take(_recorded(event, version))
    assert found == ["a wallet confirmed an address before it was backed up"]


# -- after a restore -----------------------------------------------------------------------------------------


def ruled(life: Life) -> Life:
    """The arbiter rules a refund, and the buyer proposes it."""
    decided = c.ResolveDispute(
        at=life.now, by=ARBITER, verdict=e.Verdict.REFUND, buyer_share_bp=None, reason=Sealed("empty")
    )
    return life.when(decided).give_proposal(Role.BUYER)


def test_a_restore_voids_the_export_and_another_is_asked_for() -> None:
    life = restore(backed_up(funded()))
    life.then(e.WalletRestored)
    assert life.money.exports[Role.ARBITER].state is ExportState.VOID
    assert life.money.exports[Role.BUYER].state is ExportState.CURRENT
    assert steps(life) == {Role.ARBITER: Step.EXPORT}


def test_a_restore_ends_the_epoch_that_relied_on_the_lost_export_and_exports_anew_before_anything_is_signed() -> None:
    life = restore(ruled(backed_up(disputed())))
    life.then(e.WalletRestored, e.EpochAbandoned, e.EpochOpened)
    assert steps(life) == {Role.ARBITER: Step.EXPORT}
    life.give_signature(Role.ARBITER).refused("not_awaited")
    life.give_proposal(Role.BUYER).refused("proposal_invalid")
    life.give_export(Role.ARBITER).give_proposal(Role.BUYER).then(e.PayoutProposed)
    life.give_signature(Role.ARBITER).then(e.PayoutSigned)


def test_a_signature_that_the_lost_wallet_had_announced_is_taken_from_nobody_any_more() -> None:
    life = ruled(backed_up(disputed())).intends(Role.ARBITER)
    first = life.money.payouts[-1]
    late = c.GiveSignature(
        at=life.now,
        role=Role.ARBITER,
        payout=first.number,
        epoch=first.epochs[-1].number,
        tx_hash="late",  # type: ignore[arg-type]
        signed=Sealed("signed"),
        digest="signed",
    )
    restore(life).when(late).refused("not_awaited")


def test_a_signed_payout_stays_and_is_still_sent() -> None:
    life = restore(ruled(backed_up(disputed())).give_signature(Role.ARBITER))
    life.then(e.WalletRestored)
    assert life.money.exports[Role.ARBITER].state is ExportState.CONSUMED
    assert steps(life) == {Role.ARBITER: Step.BROADCAST}


def test_what_may_be_on_its_way_stays_so() -> None:
    life = ruled(backed_up(disputed())).give_signature(Role.ARBITER).intends(Role.ARBITER)
    assert restore(life).state.core.intents[Role.ARBITER].step is Step.BROADCAST


def test_a_payout_of_the_two_parties_goes_on_as_it_was() -> None:
    life = restore(backed_up(releasing()))
    life.then(e.WalletRestored)
    assert steps(life)[Role.BUYER] is Step.COSIGN


def test_a_restore_forgets_why_the_lost_wallet_failed() -> None:
    life = backed_up(awaiting_funding()).sees(view(output())).fails(Role.ARBITER, reason="open_failed")
    assert life.state.core.failures == {Role.ARBITER: Failure(call=None, reason="open_failed")}
    assert restore(life).state.core.failures == {}


def test_a_restore_may_have_to_be_begun_again() -> None:
    restore(restore(backed_up(funded()))).then(e.WalletRestored)


def test_without_a_backup_nothing_is_restored() -> None:
    restore(funded()).refused("backup_missing")
    restore(backed_up(funded()), Role.BUYER).refused("backup_missing")


def test_another_wallet_than_the_seats_is_not_restored() -> None:
    restore(backed_up(funded()), wallet_id=WalletId("wallet-other")).refused("wallet_other")


def test_a_restore_in_the_set_up_changes_nothing_of_it() -> None:
    life = restore(back_up(rounds_over()))
    confirm(life, Role.ARBITER).then(e.AddressConfirmed)
    assert money_of(life.state) is None and {turn.role for turn in turns(life.state)} == {Role.BUYER, Role.VENDOR}


def test_a_wallet_may_be_put_back_after_the_end_as_its_address_can_be_paid_for_ever() -> None:
    life = confirm(confirm(confirm(back_up(rounds_over()), Role.ARBITER), Role.BUYER), Role.VENDOR)
    life.passes(49 * 3_600)
    assert name(life.state) == "cancelled"
    restore(life).then(e.WalletRestored)


# -- the box -------------------------------------------------------------------------------------------------


def keys_file(length: int = 300) -> bytes:
    """Bytes as a keys file has them: an IV, a length, and so many bytes."""
    return secrets.token_bytes(8) + bytes((length & 0x7F | 0x80, length >> 7)) + secrets.token_bytes(length)


def backup(**changes: object) -> WalletBackup:
    """A backup of some wallet."""
    facts: dict[str, object] = {
        "escrow_id": EscrowId("esc_1"),
        "role": Role.ARBITER,
        "network": "regtest",
        "address": ADDRESS,
        "height": 90,
        "file": "wallet-arbiter",
        "password": "a password of this wallet",
        "identity_seed": "cd" * 32,
        "keys_file": keys_file(),
    }
    return WalletBackup(**(facts | changes))  # type: ignore[arg-type]


def test_a_box_opens_with_the_private_key_and_holds_what_was_sealed() -> None:
    private, made = PrivateKey.generate(), backup()
    box = seal_backup(made, key=bytes(private.public_key).hex())
    assert open_backup(box, private_key=bytes(private)) == made
    assert len(box) < BOX_CHARS_MAX and "password" not in repr(made)


def test_two_boxes_of_one_wallet_show_nothing_in_common() -> None:
    key = bytes(PrivateKey.generate().public_key).hex()
    made = backup()
    assert seal_backup(made, key=key) != seal_backup(made, key=key)


def test_a_box_opens_with_no_other_key_and_not_when_a_byte_differs() -> None:
    private = PrivateKey.generate()
    box = seal_backup(backup(), key=bytes(private.public_key).hex())
    for key, tried in ((bytes(PrivateKey.generate()), box), (bytes(private), "AAAA" + box[4:]), (bytes(private), "?")):
        with pytest.raises(BackupUnreadable):
            open_backup(tried, private_key=key)


def test_a_keys_file_that_is_cut_or_longer_than_it_says_is_not_whole() -> None:
    whole = keys_file()
    assert is_whole(whole) and is_whole(keys_file(1_614)) and is_whole(bytes(8) + b"\x01x")
    wrong = (b"", whole[:7], whole[:8], whole[:9], whole[:-1], whole + b"x", bytes(8) + b"\x00", bytes(8) + b"\xff" * 9)
    assert not any(is_whole(each) for each in wrong)


def _recorded(event: e.AnyEvent, version: int) -> Recorded:
    encoded = encode(event)
    return Recorded(
        partition=0,
        position=version,
        stream_id="esc_1",
        version=version,
        type=encoded.type,
        schema_version=encoded.schema_version,
        command_id=f"{version:064x}",
        occurred_at=event.at,
        recorded_at=event.at,
        meta=b"{}",
        body=encoded.body,
        salt=b"",
        leaf=b"",
        chain=b"",
    )
