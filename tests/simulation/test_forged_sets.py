"""A proposer that wants something else signed than was decided: each way to forge a set, found before the signature."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from actors.simulation import daemon, spending
from actors.simulation.fees import FEE_PER_WEIGHT, network_fee
from actors.simulation.identity import identity_of
from actors.simulation.messages import SetMessage
from domain import commands as c
from domain.checks import fee_band
from domain.ids import Address, EscrowId, Micros
from domain.money import Atomic
from domain.roles import Role
from domain.states import Completed, Epoch, money_of
from service.node import Node
from tests.given import AMOUNT, BUYER, VENDOR
from tests.patience import PATIENCE_S
from tests.sim_world import SimWorld, create, pay_in, payout_address, play_release, set_addresses, tell, until

THIEF: Address = identity_of("outside/thief").address


def _first(made: SetMessage) -> tuple[Address, Atomic]:
    return made.destinations[0]


def to_another(made: SetMessage) -> SetMessage:
    return replace(made, destinations=((THIEF, _first(made)[1]),))


def one_unit_less(made: SetMessage) -> SetMessage:
    address, amount = _first(made)
    return replace(made, destinations=((address, Atomic(amount - 1)),), fee=Atomic(made.fee + 1))


def one_unit_more(made: SetMessage) -> SetMessage:
    address, amount = _first(made)
    return replace(made, destinations=((address, Atomic(amount + 1)),), fee=Atomic(made.fee - 1))


def one_more_destination(made: SetMessage) -> SetMessage:
    address, amount = _first(made)
    return replace(made, destinations=((address, Atomic(amount - 1)), (THIEF, Atomic(1))))


def higher_fee(made: SetMessage) -> SetMessage:
    return replace(made, fee=Atomic(made.fee + 1))


def change_elsewhere(made: SetMessage) -> SetMessage:
    address, amount = _first(made)
    return replace(made, destinations=((address, Atomic(amount - 1)),), change=Atomic(1), change_address=THIEF)


def change_to_the_escrow(made: SetMessage) -> SetMessage:
    return replace(made, change=Atomic(1))


def locked(made: SetMessage) -> SetMessage:
    return replace(made, unlock_time=10_000)


def with_payment_id(made: SetMessage) -> SetMessage:
    return replace(made, payment_id="1122334455667788")


def two_transactions(made: SetMessage) -> SetMessage:
    return replace(made, transactions=2)


def none_at_all(made: SetMessage) -> SetMessage:
    return replace(made, transactions=0)


def other_amount_in(made: SetMessage) -> SetMessage:
    return replace(made, amount_in=Atomic(made.amount_in + 1))


FORGERIES: dict[Callable[[SetMessage], SetMessage], set[str]] = {
    to_another: {"recipients"},
    one_unit_less: {"recipients", "fee"},
    one_unit_more: {"recipients", "fee"},
    one_more_destination: {"recipients"},
    higher_fee: {"fee", "balance"},
    change_elsewhere: {"recipients", "change", "balance"},
    change_to_the_escrow: {"change"},
    locked: {"unlock_time"},
    with_payment_id: {"payment_id"},
    two_transactions: {"not_one_transaction"},
    none_at_all: {"not_one_transaction"},
    other_amount_in: {"amount_in", "balance"},
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
async def test_a_forged_set_is_never_signed_and_an_honest_one_pays_afterwards(
    forge: Callable[[SetMessage], SetMessage],
) -> None:
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _confirmed(world, node, forge)
        first = await _first_epoch_ended(node, escrow_id)
        world.wallets[Role.VENDOR][0].faults.forge = None
        state = await play_release(world, node, escrow_id)
    assert first.signature is None
    assert _rules(first) == FORGERIES[forge]
    assert isinstance(state, Completed)
    money = money_of(state)
    assert money is not None and len(money.spends) == 1
    tx, _ = world.chain.find(state.tx_hash) or (None, None)
    assert tx is not None
    paid = [(output.address, output.amount) for output in tx.outputs if output.amount]
    assert paid == [(payout_address(Role.VENDOR), AMOUNT - tx.fee)]
    assert world.chain.nonce_reuses == []


async def test_a_network_fee_far_from_the_cosigners_own_estimate_is_never_signed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dear = 4

    def priced(*, inputs: int, destinations: int, keys_per_output: bool) -> Atomic:
        usual = network_fee(inputs=inputs, destinations=destinations, keys_per_output=keys_per_output)
        return Atomic(usual * dear)

    monkeypatch.setattr(spending, "network_fee", priced)
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _confirmed(world, node, None)
        first = await _first_epoch_ended(node, escrow_id)
        dear = 1
        state = await play_release(world, node, escrow_id)
    assert first.signature is None
    assert _rules(first) == {"fee"}
    assert first.fee_band is not None and first.proposal is not None
    assert first.proposal.network_fee > first.fee_band.most, "the log shows why"
    assert isinstance(state, Completed)


async def test_a_network_fee_ten_times_as_high_as_usual_is_found_by_trial_and_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def priced(*, inputs: int, destinations: int, keys_per_output: bool) -> Atomic:
        return Atomic(10 * network_fee(inputs=inputs, destinations=destinations, keys_per_output=keys_per_output))

    monkeypatch.setattr(spending, "network_fee", priced)
    monkeypatch.setattr(daemon, "FEE_PER_WEIGHT", 10 * FEE_PER_WEIGHT)
    world = SimWorld()
    async with world.running() as node:
        escrow_id = await _confirmed(world, node, None)
        state = await play_release(world, node, escrow_id)
    assert isinstance(state, Completed)
    money = money_of(state)
    assert money is not None and [each.ended for each in money.payouts[0].epochs] == [None]


@pytest.mark.parametrize(("inputs", "destinations", "weight"), [(1, 1, 1507), (1, 2, 2194), (2, 3, 2960), (3, 2, 3512)])
def test_every_network_fee_that_was_recorded_lies_in_the_band(inputs: int, destinations: int, weight: int) -> None:
    band = fee_band(per_byte=1_200_000, inputs=inputs, destinations=destinations, most=Atomic(10**11))
    fee = weight * 1_200_000
    assert band.least < fee < band.most
    assert fee * 3 > band.most, "a band so wide says nothing"


def test_the_band_ends_at_the_most_that_the_terms_allow() -> None:
    band = fee_band(per_byte=10**9, inputs=1, destinations=1, most=Atomic(10**11))
    assert band.most == 10**11 < band.least, "nothing is signed at such prices"


async def _confirmed(world: SimWorld, node: Node, forge: Callable[[SetMessage], SetMessage] | None) -> EscrowId:
    """Brings an escrow to where the vendor has proposed what it made, and the buyer is to sign it."""
    escrow_id = await create(node)
    await set_addresses(node, escrow_id)
    await pay_in(world, node, escrow_id)
    await until(node, escrow_id, "funded")
    world.wallets[Role.VENDOR][0].faults.forge = forge
    await tell(node, escrow_id, c.Ship(at=Micros(0), by=VENDOR), key="ship")
    await until(node, escrow_id, "delivering")
    await tell(node, escrow_id, c.ConfirmDelivery(at=Micros(0), by=BUYER), key="confirm")
    return escrow_id


async def _first_epoch_ended(node: Node, escrow_id: EscrowId) -> Epoch:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            money = money_of(await until(node, escrow_id, "releasing", "completed"))
            assert money is not None
            epoch = money.payouts[0].epochs[0] if money.payouts[0].epochs else None
            if epoch is not None and (epoch.ended or epoch.signature):
                return epoch
            await asyncio.sleep(0.01)


def _rules(epoch: Epoch) -> set[str]:
    assert epoch.ended is not None and epoch.ended.startswith("check_failed:"), epoch.ended
    return set(epoch.ended.removeprefix("check_failed:").split(","))
