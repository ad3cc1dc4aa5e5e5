"""A seat's turns in a signing epoch: export, propose, cosign, broadcast; nothing that signs is repeated blind."""

from collections.abc import Mapping

from actors.escrow import Accepted
from actors.ports import (
    Destination,
    KeyImageStatus,
    TxDescription,
    TxProposal,
    WalletFault,
    WalletOutput,
    WalletRefused,
)
from actors.sealed import digest_of, epoch_place
from actors.seat import OpenWallet, Seat, TurnBroken
from domain import commands as c
from domain import key_images
from domain.checks import Described, faults, fee_band
from domain.events import FeeBand
from domain.ids import Address, KeyImage, OneTimeKey, TxHash
from domain.payout import inputs_sum, receivers
from domain.roles import Role
from domain.signing import SIGN_UNKNOWN, STALE, proposal_shares
from domain.states import Epoch, Escrow, Money, Payout, money_of
from domain.steps import Step
from domain.turns import Turn
from schemas.sealing import SealedKind

REFRESHES_MAX = 5
TRIALS_MAX = 10
RELAY_LOOKS_MAX = 20
RELAY_LOOK_S = 0.1
TRIAL_FACTOR = 2
"""How far above the band the first trial guesses the network fee: one that leaves too little for it is refused."""


async def take_signing_turn(seat: Seat, wallet: OpenWallet, state: Escrow, turn: Turn) -> None:
    """Takes one turn of an epoch with the wallet open; raises `TurnBroken`, `WalletRefused`, `WalletUnknown`."""
    money = money_of(state)
    assert money is not None
    match turn.step:
        case Step.EXPORT:
            await _export(seat, wallet, state, money, turn)
        case Step.KEY_IMAGES:
            await _tell_key_images(seat, wallet, state, money)
        case Step.PROPOSE:
            await _propose(seat, wallet, state, money)
        case Step.COSIGN:
            await _cosign(seat, wallet, state, money, turn)
        case Step.BROADCAST:
            await _broadcast(seat, wallet, state, money, turn)
        case _:
            raise TurnBroken("not_a_signing_step")


# -- the wallet and the chain --------------------------------------------------------------------------------


async def _refreshed(
    seat: Seat, wallet: OpenWallet, *, expected: tuple[OneTimeKey, ...]
) -> dict[OneTimeKey, WalletOutput]:
    """Brings the wallet to the daemon's height and returns its outputs, which must contain the expected ones.

    After a reorg the first refresh may answer success and not move, so heights are compared. An import on a wallet
    that is not refreshed wipes its outputs and nonces: never without this.
    """
    for _ in range(REFRESHES_MAX):
        await wallet.rpc.refresh()
        if await wallet.rpc.get_height() >= (await seat.daemon.info()).height:
            break
    else:
        raise TurnBroken("wallet_behind")
    outputs = {output.one_time_key: output for output in await wallet.rpc.incoming_transfers()}
    if not set(expected) <= set(outputs):
        raise TurnBroken("outputs_missing")
    return outputs


# -- export --------------------------------------------------------------------------------------------------


async def _export(seat: Seat, wallet: OpenWallet, state: Escrow, money: Money, turn: Turn) -> None:
    confirmed = tuple(key for key, deposit in money.deposits.items() if deposit.height is not None)
    outputs = await _refreshed(seat, wallet, expected=confirmed)
    await seat.intend(state, turn)
    wallet.files.drop_saved(wallet.file)  # from the first export on no older file of this wallet may come back
    await wallet.still_ours()
    export = await wallet.rpc.export_multisig_info()
    await wallet.rpc.store()
    await wallet.still_ours()
    command = c.GiveExport(
        at=seat.now(),
        role=seat.role,
        export=await seat.secrets.seal(SealedKind.EXPORT, seat.role, export),
        digest=digest_of(export),
        covers=tuple(sorted(set(outputs) & set(money.deposits))),
    )
    await seat.give(command, command.digest)


# -- key images ----------------------------------------------------------------------------------------------


async def _tell_key_images(seat: Seat, wallet: OpenWallet, state: Escrow, money: Money) -> None:
    """Imports another seat's export to learn by which key images the deposits will be spent; voids nobody's export."""
    outputs = key_images.unknown(money, state.core.terms)
    found = key_images.source(money, seat.role, outputs=outputs)
    if not outputs or found is None:
        raise TurnBroken("not_awaited")
    role, export = found
    await _refreshed(seat, wallet, expected=tuple(outputs))
    await wallet.rpc.import_multisig_info([await seat.secrets.open(SealedKind.EXPORT, role, export.sealed)])
    known = await _known_images(wallet)
    await wallet.rpc.store()
    if not outputs <= known.keys():
        raise TurnBroken("key_images_missing")
    told = {key: known[key] for key in sorted(outputs)}
    await seat.give(c.TellKeyImages(at=seat.now(), role=seat.role, key_images=told), *told)


async def _known_images(wallet: OpenWallet) -> dict[OneTimeKey, KeyImage]:
    outputs = await wallet.rpc.incoming_transfers()
    return {output.one_time_key: output.key_image for output in outputs if output.key_image}


# -- propose -------------------------------------------------------------------------------------------------


async def _propose(seat: Seat, wallet: OpenWallet, state: Escrow, money: Money) -> None:
    payout, epoch = _running(money)
    export = money.exports[payout.cosigner]
    await _refreshed(seat, wallet, expected=epoch.inputs)
    sealed = await seat.secrets.open(SealedKind.EXPORT, payout.cosigner, export.sealed)
    await wallet.rpc.import_multisig_info([sealed])
    images = await _inputs_alone(wallet, epoch)
    await wallet.rpc.store()
    await _unspent(seat, tuple(images.values()))
    made = await _made(seat, wallet, state, money, payout)
    if set(made.key_images) != set(images.values()):
        # A deposit was unlocked since the epoch began and the wallet took it in: the next epoch names it.
        await _abandon(seat, payout, epoch, "other_inputs")
        return
    command = c.GiveProposal(
        at=seat.now(),
        role=seat.role,
        payout=payout.number,
        epoch=epoch.number,
        tx_set=await seat.secrets.seal(SealedKind.TX_SET, epoch_place(payout.number, epoch.number), made.tx_set),
        digest=digest_of(made.tx_set),
        network_fee=made.fee,
        export_digest=export.digest,
        key_images=images,
    )
    await seat.give(command, payout.number, epoch.number, command.digest)


async def _inputs_alone(wallet: OpenWallet, epoch: Epoch) -> dict[OneTimeKey, KeyImage]:
    """Leaves the wallet nothing to spend but the epoch's inputs, and returns their key images.

    A transfer cannot name its inputs. Left to itself the wallet adds a second output to one that suffices (recorded),
    so that anybody's deposit too small for us and large enough for the wallet would spoil every set.
    """
    outputs = [output for output in await wallet.rpc.incoming_transfers() if output.key_image and not output.spent]
    images = {output.one_time_key: output.key_image for output in outputs if output.key_image}
    if not set(epoch.inputs) <= set(images):
        raise TurnBroken("key_images_missing")
    for key, image in images.items():
        await (wallet.rpc.thaw(image) if key in epoch.inputs else wallet.rpc.freeze(image))
    return {key: images[key] for key in epoch.inputs}


async def _unspent(seat: Seat, images: tuple[KeyImage, ...]) -> None:
    """Asks the daemon, never the wallet alone, whether anything of this is spent."""
    if any(status is not KeyImageStatus.UNSPENT for status in await seat.daemon.key_images(images)):
        raise TurnBroken("already_spent")


async def _made(seat: Seat, wallet: OpenWallet, state: Escrow, money: Money, payout: Payout) -> TxProposal:
    """Makes the set: a trial finds the network fee, then the amounts add up to the inputs less exactly that fee."""
    addresses = await seat.secrets.payout_addresses(state)
    assert payout.epoch is not None
    band = await _fee_band(seat, state, payout.epoch, destinations=len(receivers(payout)))
    guess = min(band.most * TRIAL_FACTOR, inputs_sum(money, payout.epoch) // 4)
    for _ in range(TRIALS_MAX):
        made = await wallet.rpc.transfer(_destinations(state, money, payout, guess, addresses))
        if made.fee == guess:
            return made
        guess = _next_guess(made, guess, inputs=len(payout.epoch.inputs))
    raise TurnBroken("fee_unsettled")


def _next_guess(made: TxProposal, guess: int, *, inputs: int) -> int:
    """Takes the fee of a trial of all inputs, or from one that left some out what all of them cost at most."""
    if not 0 < len(made.key_images) < inputs:
        return made.fee
    # What is guessed too much a wallet saves by leaving small deposits out; with the lower fee of the others alone the
    # amounts could not be paid (-16). What is not inputs weighs as much as an input or more (848 and 659 recorded), so
    # the proportion is too much still, and comes down by less than a deposit is worth until all are needed.
    at_most = made.fee * (inputs + 1) // (len(made.key_images) + 1)
    return min(at_most, made.fee + (guess - made.fee) * 9 // 10)


async def _fee_band(seat: Seat, state: Escrow, epoch: Epoch, *, destinations: int) -> FeeBand:
    """Asks our own daemon what a byte costs: nobody's transaction says what it should have cost."""
    return fee_band(
        per_byte=await seat.daemon.fee_per_byte(),
        inputs=len(epoch.inputs),
        destinations=destinations,
        most=state.core.terms.policy.network_fee_max_atomic,
    )


def _destinations(
    state: Escrow, money: Money, payout: Payout, network_fee: int, addresses: Mapping[Role, Address]
) -> list[Destination]:
    divided = proposal_shares(state.core, money, payout, network_fee=network_fee)
    return [Destination(address=addresses[share.roles[0]], amount=share.amount) for share in divided]


# -- cosign --------------------------------------------------------------------------------------------------


async def _cosign(seat: Seat, wallet: OpenWallet, state: Escrow, money: Money, turn: Turn) -> None:
    payout, epoch = _running(money)
    assert epoch.proposal is not None
    if seat.announced(state, turn):
        # The announced signature is nowhere: its answer died with whoever asked. It is given up, with its nonces,
        # before anything else can fail: a turn told to have failed is one without effect.
        await _abandon(seat, payout, epoch, SIGN_UNKNOWN)
        return
    await _unspent(seat, tuple(money.key_images[key] for key in epoch.inputs))
    band = epoch.fee_band or await _set_fee_band(seat, state, payout, epoch)
    place = epoch_place(payout.number, epoch.number)
    tx_set = await seat.secrets.open(SealedKind.TX_SET, place, epoch.proposal.tx_set)
    await _refreshed(seat, wallet, expected=epoch.inputs)
    wrong = await _wrong(seat, wallet, state, money, epoch, tx_set, band)
    if wrong:
        await _abandon(seat, payout, epoch, "check_failed:" + ",".join(wrong))
        return
    await wallet.still_ours()
    await seat.intend(state, turn)
    try:
        signed = await wallet.rpc.sign_multisig(tx_set)
    except WalletRefused as refused:
        if refused.fault is not WalletFault.STALE:
            raise
        await _abandon(seat, payout, epoch, STALE)
        return
    await wallet.store_once_done()  # the erased nonces must be on disk before the signature leaves: else they come back
    command = c.GiveSignature(
        at=seat.now(),
        role=seat.role,
        payout=payout.number,
        epoch=epoch.number,
        tx_hash=_only(signed.tx_hashes),
        signed=await seat.secrets.seal(SealedKind.SIGNED_TX, place, signed.tx_hex),
        digest=digest_of(signed.tx_hex),
    )
    await seat.give(command, payout.number, epoch.number, command.digest)


async def _set_fee_band(seat: Seat, state: Escrow, payout: Payout, epoch: Epoch) -> FeeBand:
    """Says in the log which network fees will be signed, before anything of the set is known."""
    assert epoch.proposal is not None
    band = await _fee_band(seat, state, epoch, destinations=len(epoch.proposal.shares))
    command = c.SetFeeBand(at=seat.now(), role=seat.role, payout=payout.number, epoch=epoch.number, band=band)
    if not isinstance(await seat.give(command, payout.number, epoch.number), Accepted):
        raise TurnBroken("not_awaited")
    return band


async def _wrong(
    seat: Seat, wallet: OpenWallet, state: Escrow, money: Money, epoch: Epoch, tx_set: str, band: FeeBand
) -> tuple[str, ...]:
    try:
        described = await wallet.rpc.describe_transfer(tx_set)
    except WalletRefused as refused:
        # -34 also means that the wallet has not seen the outputs: refresh and ask once more before judging.
        if refused.fault is not WalletFault.UNREADABLE_SET:
            raise
        await wallet.rpc.refresh()
        described = await wallet.rpc.describe_transfer(tx_set)
    return faults(
        [_described(one) for one in described],
        money=money,
        epoch=epoch,
        addresses=await seat.secrets.payout_addresses(state),
        fee_band=band,
    )


def _described(one: TxDescription) -> Described:
    return Described(
        amount_in=one.amount_in,
        amount_out=one.amount_out,
        recipients=tuple((to.address, to.amount) for to in one.recipients),
        change_amount=one.change_amount,
        change_address=one.change_address,
        fee=one.fee,
        unlock_time=one.unlock_time,
        payment_id=one.payment_id,
    )


def _only(hashes: tuple[TxHash, ...]) -> TxHash:
    assert len(hashes) == 1, "a signed set of more than one transaction"
    return hashes[0]


# -- broadcast -----------------------------------------------------------------------------------------------


async def _broadcast(seat: Seat, wallet: OpenWallet, state: Escrow, money: Money, turn: Turn) -> None:
    payout, epoch = _running(money)
    assert epoch.signature is not None
    tx_hash = epoch.signature.tx_hash
    await seat.intend(state, turn)
    if not any(known.relayed for known in await seat.daemon.transactions([tx_hash])):
        place = epoch_place(payout.number, epoch.number)
        tx_hex = await seat.secrets.open(SealedKind.SIGNED_TX, place, epoch.signature.sealed)
        try:
            await _submit(wallet, tx_hex)
        except WalletRefused as refused:
            # To a wallet put back from its keys alone no set means anything before it has seen the outputs (-34).
            if refused.fault is not WalletFault.UNREADABLE_SET:
                raise
            await _refreshed(seat, wallet, expected=epoch.inputs)
            await _submit(wallet, tx_hex)
        await _relayed(seat, tx_hash)
    command = c.ReportBroadcast(
        at=seat.now(), role=seat.role, payout=payout.number, epoch=epoch.number, tx_hash=tx_hash
    )
    await seat.give(command, payout.number, epoch.number, seat.now())


async def _relayed(seat: Seat, tx_hash: TxHash) -> None:
    """Waits until the daemon has told others of what it took; it does so a moment after its answer.

    A daemon that hides what is not public yet (a restricted port) is taken at its word.
    """
    for _ in range(RELAY_LOOKS_MAX):
        if all(known.relayed for known in await seat.daemon.transactions([tx_hash])):
            return
        await seat.clock.sleep(RELAY_LOOK_S)
    raise TurnBroken("not_relayed")


async def _submit(wallet: OpenWallet, tx_hex: str) -> None:
    try:
        await wallet.rpc.submit_multisig(tx_hex)
    except WalletRefused as refused:
        if refused.fault is not WalletFault.REJECTED:
            raise
        # Rejected says nothing about why: another transaction spends the inputs, or the chain moved. The watch tells.
        raise TurnBroken("rejected_by_daemon") from None


async def _abandon(seat: Seat, payout: Payout, epoch: Epoch, reason: str) -> None:
    command = c.AbandonEpoch(at=seat.now(), role=seat.role, payout=payout.number, epoch=epoch.number, reason=reason)
    await seat.give(command, payout.number, epoch.number, reason)


def _running(money: Money) -> tuple[Payout, Epoch]:
    payout = money.payout
    epoch = payout.epoch if payout else None
    if payout is None or epoch is None:
        raise TurnBroken("no_epoch")
    return payout, epoch
