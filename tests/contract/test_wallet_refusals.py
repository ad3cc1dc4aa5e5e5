"""The catalogue of refusals: each on the simulated wallet and on monero-wallet-rpc, compared call by call.

Both worlds are led through one life (no wallet, ordinary, made, exchanged, ready, funded, signed, spent, a daemon that
is away), and asked on the way for everything that must be refused. What each says, and whether anything is different
afterwards, must be the same. What is expected stands beside each case, so that both cannot be wrong in the same way.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from actors.ports import Destination, WalletFault, WalletRefused, WalletRpc
from actors.simulation.identity import subaddress_of
from domain.ids import Address, KeyImage
from domain.money import Atomic
from tests.contract.test_wallet import caught_up, mined, paid, synced
from tests.wallet_fixtures import (
    PASSWORD,
    RealMonero,
    RealWorld,
    SimulatedWorld,
    WalletWorld,
    exchange,
    others,
    together,
)

XMR = 10**12
FEE_ONE = 1_808_400_000
OUTSIDE = subaddress_of("outside")
UNKNOWN_IMAGE = KeyImage("ab" * 32)

F = WalletFault
Refusal = tuple[str, int]
"""The fault that a refusal is read as, and its code."""
Call = Callable[[], Awaitable[object]]


class Catalogue:
    """Asks one world for what must be refused, and writes down how it was."""

    def __init__(self, world: WalletWorld) -> None:
        self.world = world
        self.heard: dict[str, Refusal | str] = {}

    async def refused(self, case: str, call: Call, *, seat: WalletRpc) -> None:
        """Makes a call that must be refused and change nothing in its seat's wallet."""
        assert case not in self.heard
        before = await _shown(seat)
        try:
            answer = await call()
            self.heard[case] = f"answered {type(answer).__name__}"
        except WalletRefused as refusal:
            self.heard[case] = refusal.fault.value, refusal.code
        after = await _shown(seat)
        if after != before:
            self.heard[case] = f"{self.heard[case]}, and changed {before} into {after}"


async def _shown(seat: WalletRpc) -> list[object]:
    """What a wallet shows of itself: one that refuses has not moved."""
    calls: tuple[Call, ...] = (seat.get_address, seat.is_multisig, seat.get_height, seat.incoming_transfers)
    return [await _or_fault(call) for call in calls]


async def _or_fault(call: Call) -> object:
    try:
        return await call()
    except WalletRefused as refusal:
        return refusal.fault


async def played(world: WalletWorld) -> dict[str, Refusal | str]:
    """Leads one world through the life and returns what was refused on the way."""
    catalogue = Catalogue(world)
    await _no_wallet(catalogue)
    kept = await _files(catalogue)
    first = await together(seat.prepare_multisig() for seat in world.seats)
    foreign = await _disabled(catalogue, first, kept=kept)
    await _prepared(catalogue, first)
    second = [
        await seat.make_multisig(others(first, index), password=PASSWORD) for index, seat in enumerate(world.seats)
    ]
    await _made(catalogue, first, second)
    alien = partial(world.seats[0].exchange_multisig_keys, [foreign, second[1]], password=PASSWORD)
    await catalogue.refused("exchange 1: of another wallet", alien, seat=world.seats[0])
    third = [each.info for each in await exchange(world.seats, second)]
    await together(seat.store() for seat in world.seats)
    await _exchanged(catalogue, first, second, third)
    (address,) = {each.address for each in await exchange(world.seats, third)}
    assert address is not None
    await _ready(catalogue, first, third)
    await _funded(catalogue, address)
    await _spent(catalogue)
    return catalogue.heard


async def _no_wallet(catalogue: Catalogue) -> None:
    seat = catalogue.world.seats[0]
    with contextlib.suppress(WalletRefused):
        await seat.close_wallet()
    for name, call in _everything(seat).items():
        await catalogue.refused(f"no wallet: {name}", call, seat=seat)


def _everything(seat: WalletRpc) -> dict[str, Call]:
    return {
        "close_wallet": seat.close_wallet,
        "store": seat.store,
        "prepare_multisig": seat.prepare_multisig,
        "make_multisig": lambda: seat.make_multisig(["x", "y"], password=PASSWORD),
        "exchange_multisig_keys": lambda: seat.exchange_multisig_keys(["x", "y"], password=PASSWORD),
        "is_multisig": seat.is_multisig,
        "get_address": seat.get_address,
        "view_key": seat.view_key,
        "refresh": seat.refresh,
        "get_height": seat.get_height,
        "incoming_transfers": seat.incoming_transfers,
        "freeze": lambda: seat.freeze(UNKNOWN_IMAGE),
        "thaw": lambda: seat.thaw(UNKNOWN_IMAGE),
        "transfer": lambda: seat.transfer([_to("x", 1)]),
        **_signing(seat),
    }


def _signing(seat: WalletRpc) -> dict[str, Call]:
    return {
        "export_multisig_info": seat.export_multisig_info,
        "import_multisig_info": lambda: seat.import_multisig_info(["00"]),
        "describe_transfer": lambda: seat.describe_transfer("00"),
        "sign_multisig": lambda: seat.sign_multisig("00"),
        "submit_multisig": lambda: seat.submit_multisig("00"),
    }


async def _files(catalogue: Catalogue) -> str:
    """Makes the wallet of each seat, and asks for others and for what only multisig wallets can do."""
    world, name = catalogue.world, catalogue.world.name()
    seat = world.seats[0]
    await together(each.create_wallet(name, password=PASSWORD) for each in world.seats)
    cases: dict[str, Call] = {
        "create: exists and open": lambda: seat.create_wallet(name, password=PASSWORD),
        "create: slash": lambda: seat.create_wallet("a/b", password=PASSWORD),
        "open: missing, another open": lambda: seat.open_wallet("missing", password=PASSWORD),
        "ordinary: exchange_multisig_keys": lambda: seat.exchange_multisig_keys(["x", "y"], password=PASSWORD),
        "ordinary: transfer": lambda: seat.transfer([_to(OUTSIDE, 1)]),
        "ordinary: freeze": lambda: seat.freeze(UNKNOWN_IMAGE),
    }
    for case, call in cases.items():
        await catalogue.refused(case, call, seat=seat)
    for case, call in _signing(seat).items():
        await catalogue.refused(f"ordinary: {case}", call, seat=seat)
    async with world.beside(0) as other:
        opening, making = partial(other.open_wallet, name), partial(other.create_wallet, name)
        await catalogue.refused("open: open in another process", partial(opening, password=PASSWORD), seat=other)
        wrong = partial(seat.open_wallet, name, password="wrong")
        await catalogue.refused("open: wrong password, itself open", wrong, seat=seat)
        await opening(password=PASSWORD)  # that gave the lock up, though the wallet is open still
        await other.close_wallet()
        await seat.close_wallet()
        await catalogue.refused("open: wrong password", partial(opening, password="wrong"), seat=other)
        await catalogue.refused("create: exists and closed", partial(making, password=PASSWORD), seat=other)
    await seat.open_wallet(name, password=PASSWORD)
    return name


async def _disabled(catalogue: Catalogue, first: Sequence[str], *, kept: str) -> str:
    """Makes another wallet, whose experimental flag was lost before make, and returns its message."""
    world, name = catalogue.world, catalogue.world.name()
    seat = world.seats[0]
    await seat.create_wallet(name, password=PASSWORD)
    foreign = await seat.make_multisig(first[1:], password=PASSWORD)
    cases: dict[str, Call] = {
        "flag off: exchange_multisig_keys": lambda: seat.exchange_multisig_keys(["x", "y"], password=PASSWORD),
        "flag off: prepare_multisig": seat.prepare_multisig,
        **{f"flag off: {each}": call for each, call in _signing(seat).items()},
    }
    for case, call in cases.items():
        await catalogue.refused(case, call, seat=seat)
    await seat.open_wallet(kept, password=PASSWORD)
    return foreign


async def _prepared(catalogue: Catalogue, first: Sequence[str]) -> None:
    seat = catalogue.world.seats[0]
    await seat.prepare_multisig()  # the flag is gone since the wallet was closed
    for case, infos in {
        "none": [],
        "one garbage": ["hello", first[1]],
        "no hex or base58": ["MultisigxV2R1" + "0" * 176, first[1]],
        "corrupt": [_spoilt(first[1]), first[2]],
        "truncated": [first[1][:-1], first[2]],
        "the same twice": [first[1], first[1]],
    }.items():
        await catalogue.refused(f"make: {case}", partial(seat.make_multisig, infos, password=PASSWORD), seat=seat)


async def _made(catalogue: Catalogue, first: Sequence[str], second: Sequence[str]) -> None:
    seat = catalogue.world.seats[0]
    cases: dict[str, Call] = {
        "made: make_multisig": lambda: seat.make_multisig(first[1:], password=PASSWORD),
        "made: prepare_multisig": seat.prepare_multisig,
        "made: transfer": lambda: seat.transfer([_to(OUTSIDE, 1)]),
        **{f"made: {each}": call for each, call in _signing(seat).items()},
    }
    for case, call in cases.items():
        await catalogue.refused(case, call, seat=seat)
    await _wrong_infos(catalogue, "exchange 1", right=second[1:], own=second[0], earlier=first[1:])


async def _exchanged(catalogue: Catalogue, first: Sequence[str], second: Sequence[str], third: Sequence[str]) -> None:
    seat = catalogue.world.seats[0]
    for case, call in _signing(seat).items():
        await catalogue.refused(f"exchanged: {case}", call, seat=seat)
    await _wrong_infos(catalogue, "exchange 2", right=third[1:], own=third[0], earlier=second[1:])


async def _wrong_infos(
    catalogue: Catalogue, turn: str, *, right: Sequence[str], own: str, earlier: Sequence[str]
) -> None:
    seat = catalogue.world.seats[0]
    for case, infos in {
        "none": [],
        "one": right[:1],
        "the same twice": [right[0], right[0]],
        "own and one other": [own, right[0]],
        "garbage": ["hello", right[0]],
        "corrupt": [_spoilt(right[0]), right[1]],
        "mixed rounds, the wrong one first": [earlier[0], right[1]],
        "mixed rounds, the wrong one last": [right[0], earlier[1]],
        "of the round before, or done already": earlier,
    }.items():
        call = partial(seat.exchange_multisig_keys, infos, password=PASSWORD)
        await catalogue.refused(f"{turn}: {case}", call, seat=seat)


async def _ready(catalogue: Catalogue, first: Sequence[str], third: Sequence[str]) -> None:
    seat = catalogue.world.seats[0]
    own = await seat.export_multisig_info()
    cases: dict[str, Call] = {
        "ready: make_multisig": lambda: seat.make_multisig(first[1:], password=PASSWORD),
        "ready: prepare_multisig": seat.prepare_multisig,
        "ready: exchange_multisig_keys": lambda: seat.exchange_multisig_keys(third[1:], password=PASSWORD),
        "import: none": lambda: seat.import_multisig_info([]),
        "import: no hex": lambda: seat.import_multisig_info(["zz"]),
        "import: garbage": lambda: seat.import_multisig_info(["00ff"]),
        "import: own": lambda: seat.import_multisig_info([own]),
        "import: corrupt": lambda: seat.import_multisig_info([_spoilt_hex(own)]),
        "sign: no hex": lambda: seat.sign_multisig("zz"),
        "sign: garbage": lambda: seat.sign_multisig("00ff"),
        "submit: no hex": lambda: seat.submit_multisig("zz"),
        "submit: garbage": lambda: seat.submit_multisig("00ff"),
        "describe: no hex": lambda: seat.describe_transfer("zz"),
        "describe: garbage": lambda: seat.describe_transfer("00ff"),
        "freeze: unknown key image": lambda: seat.freeze(UNKNOWN_IMAGE),
        "thaw: unknown key image": lambda: seat.thaw(UNKNOWN_IMAGE),
        "transfer: no money": lambda: seat.transfer([_to(OUTSIDE, 1)]),
        "transfer: bad address": lambda: seat.transfer([_to("nowhere", 1)]),
        "transfer: zero": lambda: seat.transfer([_to(OUTSIDE, 0)]),
        "transfer: nobody": lambda: seat.transfer([]),
    }
    for case, call in cases.items():
        await catalogue.refused(case, call, seat=seat)


async def _funded(catalogue: Catalogue, address: Address) -> None:
    """Pays the wallet and asks on the way for what it cannot do yet."""
    world = catalogue.world
    buyer, vendor, arbiter = world.seats
    await caught_up(world, *world.seats)
    await paid(world, (address, 2 * XMR), confirmations=1)
    await caught_up(world, vendor)
    one = [_to(OUTSIDE, XMR)]
    await catalogue.refused("transfer: locked", lambda: vendor.transfer(one), seat=vendor)
    await world.mine(9)
    await caught_up(world, vendor, buyer)
    await catalogue.refused("transfer: nothing imported", lambda: vendor.transfer(one), seat=vendor)
    await synced(world, proposer=vendor, cosigner=buyer)
    for case, amount in {"all": 2 * XMR, "more": 3 * XMR, "too little for the fee": 2 * XMR - FEE_ONE + 1}.items():
        wrong = [_to(OUTSIDE, amount)]
        await catalogue.refused(f"transfer: {case}", partial(vendor.transfer, wrong), seat=vendor)
    proposal = (await vendor.transfer(one)).tx_set
    for case, call in {
        "not refreshed: describe_transfer": lambda: arbiter.describe_transfer(proposal),
        "not refreshed: sign_multisig": lambda: arbiter.sign_multisig(proposal),
        "not refreshed: submit_multisig": lambda: arbiter.submit_multisig(proposal),
    }.items():
        await catalogue.refused(case, call, seat=arbiter)
    await caught_up(world, arbiter)
    await catalogue.refused("sign: export not in it", lambda: arbiter.sign_multisig(proposal), seat=arbiter)
    await catalogue.refused("sign: own proposal", lambda: vendor.sign_multisig(proposal), seat=vendor)
    await catalogue.refused("submit: one signature", lambda: vendor.submit_multisig(proposal), seat=vendor)
    await catalogue.refused("sign: corrupt", lambda: buyer.sign_multisig(_spoilt_hex(proposal)), seat=buyer)
    await synced(world, proposer=vendor, cosigner=buyer)
    await catalogue.refused("sign: newer export", lambda: buyer.sign_multisig(proposal), seat=buyer)


async def _spent(catalogue: Catalogue) -> None:
    """Signs two payouts of one deposit, sends one, and takes the daemon away."""
    world = catalogue.world
    buyer, vendor, arbiter = world.seats
    await caught_up(world, *world.seats)
    exports = [await seat.export_multisig_info() for seat in (buyer, arbiter)]
    await vendor.import_multisig_info(exports)
    one, other = [(await vendor.transfer([_to(OUTSIDE, amount)])).tx_set for amount in (XMR, XMR // 2)]
    signed, rival = await buyer.sign_multisig(one), await arbiter.sign_multisig(other)
    await catalogue.refused("sign: again", lambda: buyer.sign_multisig(one), seat=buyer)
    await catalogue.refused("sign: another with the same nonces", lambda: buyer.sign_multisig(other), seat=buyer)
    await catalogue.refused("sign: signed by two", lambda: arbiter.sign_multisig(signed.tx_hex), seat=arbiter)
    async with world.without_daemon():
        for case, call in {
            "refresh": buyer.refresh,
            "transfer": lambda: vendor.transfer([_to(OUTSIDE, XMR)]),
            "import_multisig_info": lambda: vendor.import_multisig_info(exports),
            "submit_multisig": lambda: buyer.submit_multisig(signed.tx_hex),
        }.items():
            await catalogue.refused(f"no daemon: {case}", call, seat=vendor)
    assert await buyer.submit_multisig(signed.tx_hex) == signed.tx_hashes
    assert await vendor.submit_multisig(signed.tx_hex) == signed.tx_hashes, "sent twice is sent once"
    await catalogue.refused("submit: its rival is sent", lambda: arbiter.submit_multisig(rival.tx_hex), seat=arbiter)
    await mined(world, *signed.tx_hashes)
    await catalogue.refused("submit: its rival is mined", lambda: arbiter.submit_multisig(rival.tx_hex), seat=arbiter)


def _to(address: str, amount: int) -> Destination:
    return Destination(address=Address(address), amount=Atomic(amount))


def _spoilt(text: str) -> str:
    middle = len(text) // 2
    return text[:middle] + ("b" if text[middle] == "a" else "a") + text[middle + 1 :]


def _spoilt_hex(text: str) -> str:
    middle = len(text) // 2
    return text[:middle] + ("1" if text[middle] == "0" else "0") + text[middle + 1 :]


NEVER_REFUSED: dict[WalletFault, str] = {}
"""Kinds that no case here ends in, with the reason."""


def test_every_kind_of_refusal_stands_in_the_catalogue() -> None:
    heard = asyncio.run(played(SimulatedWorld()))
    faults = {WalletFault(refusal[0]) for refusal in heard.values() if not isinstance(refusal, str)}
    assert faults | NEVER_REFUSED.keys() == set(WalletFault) and not faults & NEVER_REFUSED.keys()


@pytest.mark.xdist_group("real")
@pytest.mark.timeout(1200)
async def test_both_wallets_refuse_the_same_in_the_same_way(real_monero: RealMonero) -> None:
    simulated = await played(SimulatedWorld())
    world = RealWorld(real_monero)
    try:
        real = await played(world)
    finally:
        await world.aclose()
    cases = simulated | real
    differ = {case: (simulated.get(case), real.get(case)) for case in cases if simulated.get(case) != real.get(case)}
    assert differ == {}
    answered = {case: heard for case, heard in real.items() if isinstance(heard, str)}
    assert answered == {}, "refused, and nothing changed"
    print(f"{len(real)} refusals are the same on both wallets")
