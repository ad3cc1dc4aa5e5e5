"""A seat's turns in the set-up: prepare, make, two exchanges, confirm; each round with a way back."""

from actors.escrow import Rejected
from actors.identity import Identity, verified
from actors.ports import DaemonDown, KexResult, KeysFileUnreadable, WalletFault, WalletRefused
from actors.scan.points import public_view_key
from actors.sealed import digest_of, message_place
from actors.seat import OpenWallet, Seat, TurnBroken
from actors.wallet_backup import WalletBackup, seal_backup
from domain import commands as c
from domain.backup import box_digest
from domain.ids import Address
from domain.roles import THREE, Role, others
from domain.setup import is_placeholder, message_digest, signing_bytes
from domain.states import SettingUp
from domain.steps import ROUNDS, Round, Step
from domain.turns import Turn
from schemas.address import BadAddress, parse_address
from schemas.sealing import SealedKind


async def open_for_setup(seat: Seat, wallet: OpenWallet, state: SettingUp, turn: Turn) -> None:
    """Opens the seat's wallet where the log says it must be, making it or going back to the saved copy if needed.

    An announced round without an outcome may or may not have happened and its answer cannot be had twice
    (make answers -28, exchange_1 "expected kex round number"): the files from before the call are put back.
    """
    if seat.announced(state, turn) and wallet.files.saved(wallet.file, label=turn.step):
        wallet.files.restore(wallet.file, label=turn.step)
    if turn.step is Step.PREPARE and not wallet.files.exists(wallet.file):
        await _create(seat, wallet)
        return
    await _open(wallet, turn)


async def _open(wallet: OpenWallet, turn: Turn) -> None:
    try:
        await wallet.rpc.open_wallet(wallet.file, password=wallet.secrets.password)
    except WalletRefused as refused:
        if refused.fault is not WalletFault.OPEN_FAILED or turn.step is not Step.PREPARE:
            raise
        # Made by a process that died before its cache was whole; with its keys alone it opens.
        wallet.files.drop_cache(wallet.file)
        await wallet.rpc.open_wallet(wallet.file, password=wallet.secrets.password)


async def _create(seat: Seat, wallet: OpenWallet) -> None:
    # Made without a daemon a wallet takes its first height from the date: on a young chain it never sees money.
    await seat.daemon.info()
    try:
        await wallet.rpc.create_wallet(wallet.file, password=wallet.secrets.password)
    except WalletRefused as refused:
        # The name is ours alone: it exists because an earlier call was made whose answer was lost.
        if refused.fault is not WalletFault.EXISTS:
            raise
        await wallet.rpc.open_wallet(wallet.file, password=wallet.secrets.password)
    try:
        await seat.daemon.info()
    except DaemonDown:  # it may have gone before the wallet was made; nothing was done with this one yet
        await wallet.rpc.close_wallet()
        wallet.files.remove(wallet.file)
        raise


async def take_setup_turn(seat: Seat, wallet: OpenWallet, state: SettingUp, turn: Turn) -> None:
    """Takes one turn of the set-up with the wallet open; raises `TurnBroken`, `WalletRefused`, `WalletUnknown`."""
    if turn.step is Step.CONFIRM_ADDRESS:
        await _confirm(seat, wallet, state)
        return
    round_ = Round(turn.step.value)
    message = await _round_message(seat, wallet, state, turn, round_)
    await _give_message(seat, wallet, state, round_, message)


async def _round_message(seat: Seat, wallet: OpenWallet, state: SettingUp, turn: Turn, round_: Round) -> str:
    if round_ is Round.PREPARE:
        info = await wallet.rpc.prepare_multisig()
        await wallet.still_ours()
        return info
    infos = await _messages_of_others(seat, state, ROUNDS[ROUNDS.index(round_) - 1])
    await wallet.still_ours()
    await seat.intend(state, turn)
    if not wallet.files.saved(wallet.file, label=turn.step):
        wallet.files.save(wallet.file, label=turn.step)
    message = await _call(wallet, round_, infos)
    await wallet.store_once_done(moved=True)  # exchange_1 leaves the cache behind its keys file: torn without it
    return message


async def _call(wallet: OpenWallet, round_: Round, infos: list[str]) -> str:
    password = wallet.secrets.password
    if round_ is Round.MAKE:
        await wallet.rpc.prepare_multisig()  # the experimental flag lives in memory until make writes the keys file
        return await wallet.rpc.make_multisig(infos, password=password)
    result: KexResult = await wallet.rpc.exchange_multisig_keys(infos, password=password)
    if round_ is Round.EXCHANGE_1:
        return result.info
    return await wallet.rpc.get_address()


async def _messages_of_others(seat: Seat, state: SettingUp, round_: Round) -> list[str]:
    """Opens the other two seats' messages of a round, after checking that they signed them."""
    infos = []
    for role in others(seat.role):
        message = state.setup.messages[round_][role]
        text = await seat.secrets.open(SealedKind.SETUP_MESSAGE, message_place(role, round_), message.sealed)
        if message_digest(text) != message.digest or not _signed(state, role, round_):
            raise TurnBroken("foreign_message")
        infos.append(text)
    return infos


def _signed(state: SettingUp, role: Role, round_: Round) -> bool:
    message = state.setup.messages[round_][role]
    signed = signing_bytes(state.core.terms, state.setup, role=role, stage=round_, digest=message.digest)
    return verified(state.core.seats[role].identity_key, signed, signature=message.signature)


async def _give_message(seat: Seat, wallet: OpenWallet, state: SettingUp, round_: Round, message: str) -> None:
    digest = message_digest(message)
    signed = signing_bytes(state.core.terms, state.setup, role=seat.role, stage=round_, digest=digest)
    command = c.GiveSetupMessage(
        at=seat.now(),
        role=seat.role,
        round=round_,
        message=await seat.secrets.seal(SealedKind.SETUP_MESSAGE, message_place(seat.role, round_), message),
        digest=digest,
        signature=_identity(wallet).sign(signed),
    )
    await seat.give(command, round_, digest)


async def _confirm(seat: Seat, wallet: OpenWallet, state: SettingUp) -> None:
    if not all(_signed(state, role, round_) for round_ in ROUNDS for role in THREE):
        raise TurnBroken("foreign_message")
    status = await wallet.rpc.is_multisig()
    address = await wallet.rpc.get_address()
    view_key = await wallet.rpc.view_key()
    _check_address(seat, address, view_key)
    height = await wallet.rpc.get_height()
    if state.core.terms.backup_key(seat.role) and seat.role not in state.core.backups:
        await _back_up(seat, wallet, state, address=address, height=height)
    signed = signing_bytes(state.core.terms, state.setup, role=seat.role, stage=None, digest=digest_of(address))
    command = c.ConfirmAddress(
        at=seat.now(),
        role=seat.role,
        address=address,
        threshold=status.threshold,
        total=status.total,
        ready=status.multisig and status.ready,
        signature=_identity(wallet).sign(signed),
        view_key=await seat.secrets.seal(SealedKind.VIEW_KEY, seat.role, view_key),
        view_key_tag=await seat.secrets.tag(SealedKind.VIEW_KEY, view_key),
        height=height,
    )
    await seat.give(command, address)


async def _back_up(seat: Seat, wallet: OpenWallet, state: SettingUp, *, address: Address, height: int) -> None:
    """Seals what brings the wallet back to the key of the terms; raises `TurnBroken` when its keys cannot be had.

    The last exchange wrote the keys file and nothing writes it afterwards: read on both sides of a `store` it is the
    same, or somebody else uses it.
    """
    terms, own = state.core.terms, wallet.secrets
    key = terms.backup_key(seat.role)
    assert key is not None
    keys_file = _keys_file(wallet)
    await wallet.store_once_done()
    if _keys_file(wallet) != keys_file:
        raise TurnBroken("keys_file_changed")
    backup = WalletBackup(
        escrow_id=seat.escrow_id,
        role=seat.role,
        network=terms.network,
        address=address,
        height=height,
        file=own.file,
        password=own.password,
        identity_seed=own.identity_seed,
        keys_file=keys_file,
    )
    box, wallet_id = seal_backup(backup, key=key), state.core.seats[seat.role].wallet_id
    command = c.BackUpWallet(
        at=seat.now(), role=seat.role, wallet_id=wallet_id, key=key, digest=box_digest(box), box=box
    )
    answer = await seat.give(command, wallet_id)
    if isinstance(answer, Rejected) and answer.code != "already_given":
        raise TurnBroken(answer.code)


def _keys_file(wallet: OpenWallet) -> bytes:
    try:
        return wallet.files.keys(wallet.file)
    except KeysFileUnreadable as unreadable:
        raise TurnBroken(unreadable.reason) from None


def _check_address(seat: Seat, address: Address, view_key: str) -> None:
    try:
        parsed = parse_address(address, network=seat.network)
    except BadAddress as bad:
        raise TurnBroken(bad.code) from None
    if is_placeholder(address) or public_view_key(view_key) != parsed.view_key:
        raise TurnBroken("view_key_differs")


def _identity(wallet: OpenWallet) -> Identity:
    return Identity(bytes.fromhex(wallet.secrets.identity_seed))
