"""The set-up: presence, rounds with a barrier, three equal confirmations, and nothing that looks like an address."""

import pytest

from domain import commands as c
from domain import events as e
from domain.ids import Address, Sealed, WalletId
from domain.roles import THREE, Role, SeatKind
from domain.setup import is_placeholder, message_digest, payin_address, signing_bytes, transcript
from domain.states import AwaitingFunding, SettingUp, SetupFailed, name
from domain.steps import ROUNDS, Round, Step
from tests.given import (
    ADDRESS,
    Life,
    all_rounds,
    awaiting_funding,
    claim,
    confirm,
    created,
    give_message,
    steps,
    with_addresses,
)

PLACEHOLDER = "41fJjQDhryD" + "1" * 84


def join(life: Life, role: Role) -> Life:
    return life.when(c.JoinSeat(at=life.now, role=role, wallet_id=WalletId(f"w-{role}"), identity_key="key"))


def setting_up(life: Life) -> SettingUp:
    assert isinstance(life.state, SettingUp)
    return life.state


# -- presence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SeatKind.RELAY, SeatKind.REGISTERED])
def test_the_set_up_begins_when_the_last_of_three_joined(kind: SeatKind) -> None:
    life = created(seats=kind)
    assert steps(life) == dict.fromkeys(THREE, Step.JOIN)
    join(life, Role.VENDOR).then(e.SeatJoined)
    join(life, Role.BUYER).then(e.SeatJoined)
    assert name(life.state) == "pending"
    join(life, Role.ARBITER).then(e.SeatJoined, e.SetupStarted)
    assert steps(life) == dict.fromkeys(THREE, Step.PREPARE)


def test_a_seat_is_taken_once() -> None:
    life = join(created(seats=SeatKind.RELAY), Role.BUYER)
    join(life, Role.BUYER).refused("seat_taken")


def test_nobody_joins_after_the_beginning() -> None:
    join(created(), Role.BUYER).refused("wrong_state")


def test_a_hosted_seat_gets_one_wallet() -> None:
    life = claim(created(), Role.BUYER).then(e.WalletClaimed)
    claim(life, Role.BUYER).refused("seat_taken")


def test_a_relay_seat_is_given_no_wallet_of_ours() -> None:
    life = created(seats=SeatKind.RELAY)
    for role in THREE:
        join(life, role)
    claim(life, Role.BUYER).refused("not_awaited")


def test_no_wallet_is_given_once_there_is_an_address() -> None:
    claim(awaiting_funding(), Role.BUYER).refused("not_awaited")


# -- rounds --------------------------------------------------------------------------------------------------


def test_all_seats_work_at_once_within_a_round() -> None:
    life = claim(created(), Role.BUYER)
    for role in (Role.VENDOR, Role.ARBITER):
        claim(life, role)
    assert steps(life) == dict.fromkeys(THREE, Step.PREPARE)


@pytest.mark.parametrize("round_", ROUNDS)
def test_no_seat_begins_a_round_before_all_ended_the_one_before(round_: Round) -> None:
    life = created()
    for role in THREE:
        claim(life, role)
    for earlier in ROUNDS[: ROUNDS.index(round_)]:
        for role in THREE:
            give_message(life, role, earlier)
    give_message(life, Role.BUYER, round_).then(e.SetupMessageGiven)
    give_message(life, Role.VENDOR, round_).then(e.SetupMessageGiven)
    assert steps(life) == {Role.ARBITER: Step(round_.value)}
    for later in ROUNDS[ROUNDS.index(round_) + 1 :]:
        give_message(life, Role.BUYER, later).refused("not_awaited")


def test_a_message_is_given_once() -> None:
    life = created()
    for role in THREE:
        claim(life, role)
    give_message(life, Role.BUYER, Round.PREPARE)
    give_message(life, Role.BUYER, Round.PREPARE).refused("already_given")


def test_a_seat_without_a_wallet_gives_no_message() -> None:
    give_message(created(), Role.BUYER, Round.PREPARE).refused("not_awaited")


def test_a_finished_round_takes_no_message_any_more() -> None:
    give_message(all_rounds(created()), Role.BUYER, Round.PREPARE).refused("already_given")


def test_an_announced_call_is_settled_by_its_message() -> None:
    life = created()
    for role in THREE:
        claim(life, role)
    for role in THREE:
        give_message(life, role, Round.PREPARE)
    life.intends(Role.BUYER).then(e.CallIntended)
    assert life.state.core.intents[Role.BUYER].step is Step.MAKE
    give_message(life, Role.BUYER, Round.MAKE)
    assert life.state.core.intents == {}


def test_a_signature_stands_for_role_round_terms_and_all_earlier_messages() -> None:
    life = created()
    for role in THREE:
        claim(life, role)
    terms, first = life.state.core.terms, setting_up(life).setup
    signed = signing_bytes(terms, first, role=Role.BUYER, stage=Round.PREPARE, digest="d")
    for role in THREE:
        give_message(life, role, Round.PREPARE)
    later = setting_up(life).setup
    assert signing_bytes(terms, later, role=Role.BUYER, stage=Round.PREPARE, digest="d") == signed
    others = {
        signing_bytes(terms, later, role=Role.VENDOR, stage=Round.PREPARE, digest="d"),
        signing_bytes(terms, later, role=Role.BUYER, stage=Round.MAKE, digest="d"),
        signing_bytes(terms, later, role=Role.BUYER, stage=None, digest="d"),
        signing_bytes(terms, later, role=Role.BUYER, stage=Round.PREPARE, digest="other"),
        signing_bytes(created(amount=1).state.core.terms, later, role=Role.BUYER, stage=Round.PREPARE, digest="d"),
    }
    assert len(others) == 5
    assert signed not in others


def test_the_transcript_changes_with_each_message_and_with_nothing_else() -> None:
    life = created()
    for role in THREE:
        claim(life, role)
    seen = []
    for round_ in ROUNDS:
        for role in THREE:
            give_message(life, role, round_)
            seen.append(transcript(setting_up(life).setup, before=None))
    assert len(set(seen)) == 12
    assert seen[2] == transcript(setting_up(life).setup, before=Round.MAKE)


def test_a_message_is_named_by_its_sha256() -> None:
    assert message_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- the address ---------------------------------------------------------------------------------------------


def test_three_equal_confirmations_make_the_address() -> None:
    life = all_rounds(with_addresses(created()))
    confirm(life, Role.BUYER).then(e.AddressConfirmed)
    confirm(life, Role.VENDOR).then(e.AddressConfirmed)
    assert payin_address(life.state) is None
    confirm(life, Role.ARBITER).then(e.AddressConfirmed, e.AddressAgreed)
    assert payin_address(life.state) == ADDRESS


def test_watching_begins_at_the_lowest_height_reported() -> None:
    life = all_rounds(created())
    for role, height in zip(THREE, (105, 99, 101), strict=True):
        confirm(life, role, height=height)
    assert (life.money.since_height, life.money.view_key_role) == (99, Role.VENDOR)


@pytest.mark.parametrize(
    "odd",
    [
        {"address": Address("4other")},
        {"threshold": 1},
        {"threshold": 3},
        {"total": 2},
        {"ready": False},
        {"view_key_tag": "other"},
    ],
)
@pytest.mark.parametrize("role", THREE)
def test_a_seat_that_differs_fails_the_set_up_and_is_named(odd: dict[str, object], role: Role) -> None:
    life = all_rounds(created())
    for each in THREE:
        confirm(life, each, **(odd if each is role else {}))
    life.then(e.AddressConfirmed, e.SetupFailed)
    assert isinstance(life.state, SetupFailed)
    assert (life.state.reason, life.state.awaited) == ("seats_differ", (role,))


def test_three_different_addresses_name_all_three() -> None:
    life = all_rounds(created())
    for role in THREE:
        confirm(life, role, address=Address(f"4{role}"))
    assert isinstance(life.state, SetupFailed)
    assert life.state.awaited == THREE


def test_a_placeholder_is_no_address() -> None:
    life = all_rounds(created())
    confirm(life, Role.BUYER, address=Address(PLACEHOLDER)).refused("placeholder_address")
    assert is_placeholder(PLACEHOLDER)
    assert not is_placeholder(ADDRESS)


def test_an_address_is_confirmed_once_and_only_after_all_rounds() -> None:
    confirm(created(), Role.BUYER).refused("not_awaited")
    life = confirm(all_rounds(created()), Role.BUYER)
    confirm(life, Role.BUYER).refused("already_confirmed")
    confirm(awaiting_funding(), Role.BUYER).refused("not_awaited")


def test_the_pay_in_address_waits_for_both_payout_addresses() -> None:
    life = all_rounds(created())
    for role in THREE:
        confirm(life, role)
    assert isinstance(life.state, AwaitingFunding)
    assert payin_address(life.state) is None
    with_addresses(life, Role.BUYER, Role.ARBITER)
    assert payin_address(life.state) is None
    with_addresses(life, Role.VENDOR)
    assert payin_address(life.state) == ADDRESS


def test_a_secret_is_carried_and_never_looked_into() -> None:
    life = claim(created(), Role.BUYER)
    assert life.state.core.seats[Role.BUYER].secrets == Sealed("s")
