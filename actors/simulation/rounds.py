"""The key exchange of a simulated wallet: prepare, make, two exchanges, with the traps that were recorded."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from actors.ports import KexResult
from actors.simulation.chain import SimChain
from actors.simulation.files import Stage
from actors.simulation.messages import BadMessage, KexMessage, read_kex
from actors.simulation.open_wallet import OpenWallet, refuse
from domain.ids import Address

SIGNERS = 3

_ROUND_OF = {Stage.MADE: 2, Stage.EXCHANGED: 3}
"""Which messages an exchange takes: make's, then the first exchange's."""


def prepare(wallet: OpenWallet, *, chain: SimChain) -> str:
    """Returns round 1's message and sets the experimental flag, in memory only until make."""
    _require_ordinary("prepare_multisig", wallet)
    wallet.experimental = True
    return KexMessage(round=1, signer=wallet.signer, salt=chain.fresh("salt")).encode()


def make(
    wallet: OpenWallet, infos: Sequence[str], *, password: str, chain: SimChain, between: Callable[[], None]
) -> str:
    """Makes the wallet 2-of-3, writes both files, and returns round 2's message.

    `between` is called when `.keys` is written and the cache is not. The password passed is what `.keys` is encrypted
    with from now on, right or wrong.
    """
    _require_ordinary("make_multisig", wallet)
    signers = _signers("make_multisig", infos, own=wallet.signer)
    keys = replace(wallet.keys, password=password, stage=Stage.MADE, group=signers, experimental=wallet.experimental)
    wallet.write_keys(keys)
    between()
    wallet.write_cache()
    return _message(wallet, number=2, chain=chain)


def exchange(
    wallet: OpenWallet, infos: Sequence[str], *, password: str, chain: SimChain, between: Callable[[], None]
) -> KexResult:
    """Does the first or second exchange; the first writes `.keys` alone, so a crash before `store` tears the wallet."""
    _require_exchanging(wallet)
    _check_infos(wallet, infos)
    last = wallet.keys.stage is Stage.EXCHANGED
    keys = replace(wallet.keys, password=password, stage=Stage.READY if last else Stage.EXCHANGED)
    wallet.write_keys(keys)
    between()
    if last:
        wallet.write_cache()
    info = _message(wallet, number=4 if last else 3, chain=chain)
    return KexResult(info, wallet.identity.address if last else None)


def shown_address(wallet: OpenWallet) -> Address:
    """Returns the address the wallet shows: before it is ready, one that nobody can spend from."""
    unfinished = wallet.keys.stage in (Stage.MADE, Stage.EXCHANGED)
    return wallet.identity.placeholder if unfinished else wallet.identity.address


def _require_ordinary(method: str, wallet: OpenWallet) -> None:
    if wallet.keys.stage is not Stage.ORDINARY:
        raise refuse(method, code=-28, message="This wallet is already multisig")


def _require_exchanging(wallet: OpenWallet) -> None:
    method, stage = "exchange_multisig_keys", wallet.keys.stage
    if stage is Stage.ORDINARY:
        raise refuse(method, code=-31, message="This wallet is not multisig")
    if not wallet.experimental:
        raise refuse(method, code=-48, message="This wallet is multisig, and multisig is disabled.")
    if stage is Stage.READY:
        raise refuse(method, code=-28, message="This wallet is multisig, and already finalized")


def _signers(method: str, infos: Sequence[str], *, own: str) -> tuple[str, ...]:
    signers = [message.signer for message in _read(method, infos, expected=1)]
    if len(set(signers)) != len(signers):
        raise refuse(method, code=-1, message="Duplicate signers not allowed when converting a wallet to multisig.")
    group = tuple(sorted({own, *signers}))
    if len(group) != SIGNERS:
        # The real wallet would also make a 2-of-2 of one message; nothing here wants one.
        raise refuse(method, code=-1, message="multisig account: tried to set invalid threshold.")
    return group


def _check_infos(wallet: OpenWallet, infos: Sequence[str]) -> None:
    method = "exchange_multisig_keys"
    if len(infos) < SIGNERS - 1:
        raise refuse(method, code=-33, message="Needs multisig info from more participants")
    messages = _read(method, infos, expected=_ROUND_OF[wallet.keys.stage])
    others = {message.signer for message in messages} - {wallet.signer}
    foreign = any(message.group != wallet.group for message in messages)
    if foreign or others != set(wallet.keys.group) - {wallet.signer}:
        raise refuse(method, code=-1, message="Multisig message origins don't line up with multisig signer set.")


def _read(method: str, infos: Sequence[str], *, expected: int) -> list[KexMessage]:
    try:
        messages = [read_kex(info) for info in infos]
    except BadMessage as error:
        raise refuse(method, code=-1, message=str(error)) from None
    rounds = [message.round for message in messages]
    if messages and rounds[0] != expected:
        raise refuse(method, code=-1, message="Messages don't have the expected kex round number.")
    if set(rounds) - {expected}:
        raise refuse(method, code=-1, message="All messages must have the same kex round number.")
    return messages


def _message(wallet: OpenWallet, *, number: int, chain: SimChain) -> str:
    return KexMessage(round=number, signer=wallet.signer, group=wallet.group, salt=chain.fresh("salt")).encode()
