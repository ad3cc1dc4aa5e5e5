"""Exports, imports and transactions of a simulated wallet: one export, one signature."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from actors.ports import Destination, SignedTx, TxDescription, TxProposal
from actors.simulation.chain import SimChain, SimTx, digest, key_image_of, outputs_of
from actors.simulation.fees import DUST, network_fee
from actors.simulation.files import KnownOutput, Stage
from actors.simulation.identity import is_subaddress
from actors.simulation.messages import EXPORT_MAGIC, TX_SET_MAGIC, BadMessage, ExportMessage, SetMessage, seal, unseal
from actors.simulation.open_wallet import OpenWallet, refuse, require_ready
from domain.ids import Address, KeyImage, OneTimeKey, TxHash
from domain.money import Atomic, total
from schemas.address import BadAddress, decode_address

RING_SIZE = 16
THRESHOLD = 2

_Fee = Callable[[int], Atomic]
"""The fee for so many inputs."""


def export(wallet: OpenWallet, *, chain: SimChain) -> str:
    """Promises a fresh nonce for every output known; what was promised before is void."""
    require_ready("export_multisig_info", wallet)
    nonces = {key: chain.fresh("nonce") for key in wallet.outputs}
    for key, nonce in nonces.items():
        wallet.outputs[key] = replace(wallet.outputs[key], own_nonce=nonce)
    return seal(EXPORT_MAGIC, ExportMessage(group=wallet.group, signer=wallet.signer, nonces=nonces))


def import_exports(wallet: OpenWallet, infos: Sequence[str], *, chain: SimChain) -> int:
    """Learns key images and nonces of the outputs that every export covers; earlier imports are forgotten.

    A wallet that is behind the chain is wiped and answers success, the worst that was seen of the real one (once, 15
    blocks behind; in three other trials, 1 and 15 blocks behind, it caught up by itself).
    """
    method = "import_multisig_info"
    require_ready(method, wallet)
    messages = _read_exports(wallet, infos)
    if not chain.online:
        raise refuse(method, code=-1, message="Error calling import_multisig: no connection to daemon")
    if wallet.behind:
        wallet.wipe()
        return 0
    covered = [key for key in wallet.outputs if all(key in message.nonces for message in messages)]
    for key, output in wallet.outputs.items():
        nonces = {message.signer: message.nonces[key] for message in messages} if key in covered else {}
        image = key_image_of(key) if nonces else None
        wallet.outputs[key] = replace(output, key_image=image, peer_nonces=nonces)
    wallet.settle_imported()
    return len(covered)


def transfer(wallet: OpenWallet, destinations: Sequence[Destination], *, chain: SimChain) -> TxProposal:
    """Makes a set signed by its proposer; the same receiver twice becomes one, the fee stays that of two (recorded)."""
    extra_keys = _check_destinations(destinations)
    merged: dict[Address, int] = {}
    for each in destinations:
        merged[each.address] = merged.get(each.address, 0) + each.amount
    amount = total(*merged.values())
    _require_funds(wallet, amount, chain=chain)

    def fee_for(count: int) -> Atomic:
        return network_fee(inputs=count, destinations=len(destinations), keys_per_output=extra_keys)

    picked = _pick(_usable(wallet), amount, fee_for)
    fee, amount_in = fee_for(len(picked)), total(*(each.amount for each in picked))
    if amount_in < amount + fee:
        raise refuse("transfer", code=-16, message="tx not possible")
    message = _new_set(
        wallet, picked, destinations=merged, change=Atomic(amount_in - amount - fee), fee=fee, salt=chain.fresh("set")
    )
    images = tuple(key_image_of(key) for key in message.inputs)
    return TxProposal(tx_set=seal(TX_SET_MAGIC, message), fee=fee, amount=amount, key_images=images)


def forged(tx_set: str, forge: Callable[[SetMessage], SetMessage]) -> str:
    """Rewrites a set as a proposer might who wants something else signed than was decided."""
    return seal(TX_SET_MAGIC, forge(unseal(TX_SET_MAGIC, tx_set, SetMessage)))


def set_frozen(wallet: OpenWallet, image: KeyImage, *, frozen: bool) -> None:
    """Keeps an output out of transfers, or lets it in again; refused for a key image the wallet does not know."""
    found = next((key for key, each in wallet.outputs.items() if each.key_image == image), None)
    if found is None:
        raise refuse("freeze" if frozen else "thaw", code=-1, message="Key image not found")
    wallet.outputs[found] = replace(wallet.outputs[found], frozen=frozen)


def describe(wallet: OpenWallet, tx_set: str) -> tuple[TxDescription, ...]:
    """Says what a set does; refused with -34 until this wallet has seen the outputs it spends."""
    message = _read_set("describe_transfer", wallet, tx_set)
    recipients = tuple(Destination(address=address, amount=amount) for address, amount in message.destinations)
    one = TxDescription(
        amount_in=message.amount_in,
        amount_out=Atomic(message.amount_in - message.fee),
        recipients=recipients,
        change_amount=message.change,
        change_address=message.change_address,
        fee=message.fee,
        unlock_time=message.unlock_time,
        payment_id=message.payment_id,
        dummy_outputs=1 if len(recipients) == 1 and not message.change else 0,
        ring_size=RING_SIZE,
    )
    return (one,) * message.transactions


def sign(wallet: OpenWallet, tx_set: str, *, chain: SimChain) -> SignedTx:
    """Completes a set and uses up this wallet's nonces for its inputs, in memory only."""
    method = "sign_multisig"
    message = _read_set(method, wallet, tx_set)
    if wallet.signer in message.signers:
        raise refuse(method, code=-35, message="Transaction already signed by this private key")
    if len(message.signers) >= THRESHOLD:
        raise refuse(method, code=-35, message="Transaction is already fully signed")
    own = tuple(wallet.outputs[key].own_nonce for key in message.inputs)
    if not all(own) or message.nonces.get(wallet.signer) != own:
        raise refuse(method, code=-35, message="This signature was made with stale data")
    for key, nonce in zip(message.inputs, own, strict=True):
        chain.note_signature(nonce, signs=message.core)
        wallet.outputs[key] = replace(wallet.outputs[key], own_nonce="")
    signed = replace(message, signers=tuple(sorted((*message.signers, wallet.signer))))
    return SignedTx(seal(TX_SET_MAGIC, signed), (_hash_of(signed),))


def submit(wallet: OpenWallet, tx_hex: str, *, chain: SimChain) -> tuple[TxHash, ...]:
    """Broadcasts a completed set, any number of times; another transaction of the same inputs is rejected."""
    method = "submit_multisig"
    message = _read_set(method, wallet, tx_hex)
    if len(message.signers) < THRESHOLD:
        raise refuse(method, code=-33, message="Not enough signers signed this transaction.")
    if not chain.online:
        raise refuse(method, code=-36, message="Failed to submit multisig tx: no connection to daemon")
    if not chain.relay(_tx_of(message)):
        raise refuse(method, code=-36, message="Failed to submit multisig tx: transaction was rejected by daemon")
    for key in message.inputs:
        wallet.outputs[key] = replace(wallet.outputs[key], spent=True)
    return (_hash_of(message),)


def transaction_of(tx_hex: str) -> SimTx:
    """Reads the transaction out of a completed set: whoever holds it can broadcast it without a wallet."""
    return _tx_of(unseal(TX_SET_MAGIC, tx_hex, SetMessage))


def _read_exports(wallet: OpenWallet, infos: Sequence[str]) -> list[ExportMessage]:
    method = "import_multisig_info"
    if not infos:
        raise refuse(method, code=-33, message="Needs multisig export info from more participants")
    for info in infos:
        _require_hex(method, info)
    try:
        messages = [unseal(EXPORT_MAGIC, info, ExportMessage) for info in infos]
    except BadMessage as error:
        raise refuse(method, code=-1, message=f"Error calling import_multisig: {error}") from None
    if any(message.group != wallet.group for message in messages):
        raise refuse(method, code=-1, message="Error calling import_multisig: Failed to authenticate ciphertext")
    others = [message for message in messages if message.signer != wallet.signer]
    if not others:
        raise refuse(method, code=-1, message="Error calling import_multisig: Wrong number of multisig sources")
    return others


def _check_destinations(destinations: Sequence[Destination]) -> bool:
    if not destinations:
        raise refuse("transfer", code=-20, message="Transaction has no destination")
    try:
        for each in destinations:
            decode_address(each.address)
    except BadAddress:
        raise refuse("transfer", code=-2, message="wrong address") from None
    if any(each.amount <= 0 for each in destinations):
        raise refuse("transfer", code=-46, message="destination amount is zero")
    different = {each.address for each in destinations}
    return len(different) > 1 and any(is_subaddress(address) for address in different)


def _require_funds(wallet: OpenWallet, amount: int, *, chain: SimChain) -> None:
    if not chain.online:
        raise refuse("transfer", code=-4, message="failed to get output distribution")
    if wallet.keys.stage is not Stage.READY:
        raise refuse("transfer", code=-17, message="not enough money")
    require_ready("transfer", wallet)
    # Outputs that were never imported count here as well (recorded).
    unspent = [each for each in wallet.outputs.values() if not each.spent and not each.frozen]
    if amount >= total(*(each.amount for each in unspent)):
        raise refuse("transfer", code=-17, message="not enough money")
    if amount >= total(*(each.amount for each in unspent if wallet.unlocked(each))):
        raise refuse("transfer", code=-37, message="not enough unlocked money")
    if not list(_usable(wallet)):
        raise refuse("transfer", code=-16, message="No transaction created")


def _usable(wallet: OpenWallet) -> Iterator[KnownOutput]:
    for output in wallet.outputs.values():
        there = output.peer_nonces and not output.spent and not output.frozen
        if there and wallet.unlocked(output) and output.amount > DUST:
            yield output


def _pick(usable: Iterator[KnownOutput], amount: int, fee_for: _Fee) -> list[KnownOutput]:
    """Picks one that suffices and the smallest other beside it, else a pair, else one after another (recorded)."""
    outputs = list(usable)
    single = next((each for each in outputs if each.amount >= amount + fee_for(1)), None)
    if single is not None:
        others = sorted((each for each in outputs if each is not single), key=lambda each: each.amount)
        return [single, *others[:1]]
    pairs = ((one, other) for index, one in enumerate(outputs) for other in outputs[index + 1 :])
    pair = next((pair for pair in pairs if pair[0].amount + pair[1].amount >= amount + fee_for(2)), None)
    return list(pair) if pair is not None else _accumulate(outputs, amount, fee_for)


def _accumulate(outputs: Sequence[KnownOutput], amount: int, fee_for: _Fee) -> list[KnownOutput]:
    picked: list[KnownOutput] = []
    for output in outputs:
        picked.append(output)
        if total(*(each.amount for each in picked)) >= amount + fee_for(len(picked)):
            break
    return picked


def _new_set(
    wallet: OpenWallet,
    picked: Sequence[KnownOutput],
    *,
    destinations: Mapping[Address, int],
    change: Atomic,
    fee: Atomic,
    salt: str,
) -> SetMessage:
    signers = set.intersection(*(set(each.peer_nonces) for each in picked))
    # The order of the receivers says nothing in a real set either.
    receivers = sorted(destinations.items(), key=lambda item: digest(salt + item[0]))
    return SetMessage(
        group=wallet.group,
        salt=salt,
        inputs=tuple(each.one_time_key for each in picked),
        amount_in=total(*(each.amount for each in picked)),
        destinations=tuple((address, Atomic(amount)) for address, amount in receivers),
        change=change,
        change_address=wallet.identity.address if change else "",
        fee=fee,
        nonces={signer: tuple(each.peer_nonces[signer] for each in picked) for signer in sorted(signers)},
        signers=(wallet.signer,),
    )


def _read_set(method: str, wallet: OpenWallet, text: str) -> SetMessage:
    if method != "describe_transfer":  # which reads the set first, whatever wallet is open
        require_ready(method, wallet)
    _require_hex(method, text)
    try:
        message = unseal(TX_SET_MAGIC, text, SetMessage)
    except BadMessage:
        raise refuse(method, code=-34, message="Failed to parse multisig tx data.") from None
    unknown: set[OneTimeKey] = set(message.inputs) - set(wallet.outputs)
    if message.group != wallet.group or unknown:
        raise refuse(method, code=-34, message="Failed to parse multisig tx data.")
    return message


def _require_hex(method: str, text: str) -> None:
    try:
        bytes.fromhex(text)
    except ValueError:
        raise refuse(method, code=-26, message="Failed to parse hex.") from None


def _hash_of(message: SetMessage) -> TxHash:
    # Who signed is part of the hash: two cosigners of one set would make two transactions.
    return TxHash(digest(f"tx/{message.core}/{message.signers}"))


def _tx_of(message: SetMessage) -> SimTx:
    tx_hash = _hash_of(message)
    payments = list(message.destinations)
    if message.change:
        payments.append((Address(message.change_address), message.change))
    return SimTx(hash=tx_hash, inputs=message.inputs, outputs=outputs_of(tx_hash, payments), fee=message.fee)
