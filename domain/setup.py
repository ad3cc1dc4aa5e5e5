"""The set-up of three wallets into one address: presence, rounds, signatures, agreement."""

import hashlib
import re

import msgspec

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent
from domain.ids import MICROS, Address, Micros
from domain.payout import on_its_way
from domain.refusals import Refused
from domain.roles import THREE, Role, SeatKind
from domain.states import AwaitingFunding, Confirmation, Core, Escrow, Pending, SettingUp, Setup
from domain.steps import ROUNDS, Round
from domain.terms import Terms

THRESHOLD, SEATS = 2, 3

_PLACEHOLDER = re.compile(r"1{12,}")
# What make_multisig returns looks like 41fJjQDhryD111…: a row of 1s is base58 for zeros, which no key has.


def is_placeholder(address: str) -> bool:
    """Recognises the intermediate address that wallets show before the last exchange; money sent there is lost."""
    return _PLACEHOLDER.search(address) is not None


def seats_present(state: Pending) -> bool:
    """Says whether all three seats are there: hosted ones at once, the others when they joined."""
    kinds = state.core.terms.seats
    return all(kinds[role] is SeatKind.POOL or role in state.core.seats for role in THREE)


def current_round(setup: Setup) -> Round | None:
    """Names the round under way; None when all rounds are done and only the address is to be confirmed."""
    return next((each for each in ROUNDS if len(setup.messages.get(each, {})) < SEATS), None)


def transcript(setup: Setup, *, before: Round | None) -> str:
    """Hashes all messages of the rounds before one (all of them for None), in round and seat order; hex."""
    earlier = ROUNDS if before is None else ROUNDS[: ROUNDS.index(before)]
    digests = [
        [each.value, role.value, setup.messages[each][role].digest]
        for each in earlier
        for role in THREE
        if role in setup.messages.get(each, {})
    ]
    return hashlib.sha256(msgspec.json.encode(digests)).hexdigest()


def signing_bytes(terms: Terms, setup: Setup, *, role: Role, stage: Round | None, digest: str) -> bytes:
    """Builds what a seat's identity key signs: escrow, order, role, round, terms, all earlier messages, its own.

    `stage` None stands for the confirmation at the end, whose `digest` is the hash of the address.
    """
    named = stage.value if stage else "confirm_address"
    parts = [
        terms.escrow_id,
        terms.order_id,
        role.value,
        named,
        terms.digest(),
        transcript(setup, before=stage),
        digest,
    ]
    return b"thirdkey set-up 1\n" + msgspec.json.encode(parts)


def message_digest(message: str) -> str:
    """Hashes one set-up message; sha256, hex."""
    return hashlib.sha256(message.encode()).hexdigest()


# -- decisions -----------------------------------------------------------------------------------------------


def join(state: Escrow, command: c.JoinSeat) -> list[AnyEvent] | Refused:
    """Seats a relay or registered wallet."""
    role = command.role
    if not isinstance(state, Pending):
        return Refused("wrong_state")
    if role in state.core.seats or state.core.terms.seats[role] is SeatKind.POOL:
        return Refused("seat_taken")
    return [
        e.SeatJoined(
            at=command.at,
            role=role,
            wallet_id=command.wallet_id,
            identity_key=command.identity_key,
            secrets=command.secrets,
        )
    ]


def claim_wallet(state: Escrow, command: c.ClaimWallet) -> list[AnyEvent] | Refused:
    """Seats a hosted wallet; once, and only in the set-up."""
    role = command.role
    if not isinstance(state, SettingUp) or state.core.terms.seats[role] is not SeatKind.POOL:
        return Refused("not_awaited")
    if role in state.core.seats:
        return Refused("seat_taken")
    return [
        e.WalletClaimed(
            at=command.at,
            role=role,
            wallet_id=command.wallet_id,
            identity_key=command.identity_key,
            secrets=command.secrets,
        )
    ]


def give_message(state: Escrow, command: c.GiveSetupMessage) -> list[AnyEvent] | Refused:
    """Ends a round for a seat; the barrier holds the next round until all three have."""
    if not isinstance(state, SettingUp) or command.role not in state.core.seats:
        return Refused("not_awaited")
    if command.role in state.setup.messages.get(command.round, {}):
        return Refused("already_given")
    if command.round is not current_round(state.setup):
        return Refused("not_awaited")
    return [
        e.SetupMessageGiven(
            at=command.at,
            role=command.role,
            round=command.round,
            message=command.message,
            digest=command.digest,
            signature=command.signature,
        )
    ]


def confirm_address(state: Escrow, command: c.ConfirmAddress) -> list[AnyEvent] | Refused:
    """Records what a seat's wallet arrived at; whether all three agree is judged when all are in."""
    if not isinstance(state, SettingUp) or current_round(state.setup) is not None:
        return Refused("not_awaited")
    if command.role in state.setup.confirmations:
        return Refused("already_confirmed")
    if is_placeholder(command.address):
        return Refused("placeholder_address")
    if state.core.terms.backup_key(command.role) and command.role not in state.core.backups:
        return Refused("backup_missing")
    return [
        e.AddressConfirmed(
            at=command.at,
            role=command.role,
            address=command.address,
            threshold=command.threshold,
            total=command.total,
            ready=command.ready,
            signature=command.signature,
            view_key=command.view_key,
            view_key_tag=command.view_key_tag,
            height=command.height,
        )
    ]


def conclude(state: SettingUp, *, at: Micros) -> AnyEvent | None:
    """Judges a finished set-up: one address that all three report, ready and 2 of 3, or failure naming who differs."""
    confirmations = state.setup.confirmations
    if len(confirmations) < SEATS:
        return None
    odd = odd_seats(confirmations)
    if odd:
        return e.SetupFailed(at=at, reason="seats_differ", awaited=odd)
    return e.AddressAgreed(at=at, address=confirmations[Role.BUYER].address)


def odd_seats(confirmations: dict[Role, Confirmation]) -> tuple[Role, ...]:
    """Names the seats that are not ready, not 2 of 3, or report another address or view key than the other two."""
    broken = [role for role in THREE if not _sound(confirmations[role])]
    if broken:
        return tuple(broken)
    reported = {role: (confirmations[role].address, confirmations[role].view_key_tag) for role in THREE}
    by_report = {report: [role for role in THREE if reported[role] == report] for report in set(reported.values())}
    majority = max(by_report.values(), key=len)
    return () if len(majority) == SEATS else tuple(role for role in THREE if len(majority) < 2 or role not in majority)


def _sound(confirmed: Confirmation) -> bool:
    two_of_three = confirmed.threshold == THRESHOLD and confirmed.total == SEATS
    return confirmed.ready and two_of_three and not is_placeholder(confirmed.address)


def awaited_seats(state: SettingUp) -> tuple[Role, ...]:
    """Names the seats whose step the set-up waits for."""
    unseated = tuple(role for role in THREE if role not in state.core.seats)
    if unseated:
        return unseated
    now = current_round(state.setup)
    done = state.setup.confirmations if now is None else state.setup.messages.get(now, {})
    return tuple(role for role in THREE if role not in done)


def payin_address(state: Escrow) -> Address | None:
    """Returns the address to pay to: agreed by all three seats, shown once both parties can be paid out.

    And, where the terms ask for it, once the arbiter was found to be there.
    """
    money = getattr(state, "money", None)
    if money is None or not _parties_set(state.core) or arbiter_unready(state):
        return None
    return Address(money.address)


def arbiter_unready(state: Escrow) -> bool:
    """Says whether nothing but the arbiter's readiness keeps the address back; never once the whole amount has come.

    Less does not show it: each of the three finds the address in its bundle, and a vendor whose arbiter is away could
    have the buyer asked for money by paying a little in.
    """
    if not isinstance(state, AwaitingFunding) or not _parties_set(state.core):
        return False
    if on_its_way(state.money, state.core.terms):
        return False
    return bool(state.core.terms.policy.arbiter_ready_s) and state.core.arbiter_ready_at is None


def report_ready(state: Escrow, command: c.ReportArbiterReady) -> list[AnyEvent] | Refused:
    """Shows the address from now on, if the arbiter was seen lately enough; asked for once the address is due."""
    within_s = state.core.terms.policy.arbiter_ready_s
    if not within_s or not arbiter_unready(state):
        return []
    if command.seen_at < command.at - within_s * MICROS:
        return Refused("arbiter_not_ready")
    return [e.ArbiterReady(at=command.at, seen_at=command.seen_at)]


def _parties_set(core: Core) -> bool:
    return {Role.BUYER, Role.VENDOR} <= set(core.addresses)
