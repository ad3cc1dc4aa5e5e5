"""What each refusal of `monero-wallet-rpc` 0.18 means: by its code, and by its text where one code means several."""

from collections.abc import Mapping

from actors.ports import WalletFault

_BY_CODE: Mapping[int, WalletFault] = {
    -2: WalletFault.CANNOT_SPEND,
    -3: WalletFault.NO_DAEMON,
    -4: WalletFault.CANNOT_SPEND,
    -13: WalletFault.NO_WALLET_OPEN,
    -16: WalletFault.CANNOT_SPEND,
    -17: WalletFault.CANNOT_SPEND,
    -21: WalletFault.EXISTS,
    -26: WalletFault.UNREADABLE_SET,
    -28: WalletFault.ALREADY_MULTISIG,
    -31: WalletFault.NOT_MULTISIG,
    -33: WalletFault.NEEDS_MORE_INFOS,
    -34: WalletFault.UNREADABLE_SET,
    -35: WalletFault.STALE,
    -36: WalletFault.REJECTED,
    # Enough money, but locked: the port's list of codes does not have it; seen on a private chain.
    -37: WalletFault.CANNOT_SPEND,
    -38: WalletFault.NO_DAEMON,
    -46: WalletFault.CANNOT_SPEND,
    -48: WalletFault.DISABLED,
}

_BY_TEXT: tuple[tuple[int, str, WalletFault], ...] = (
    (-1, "Failed to open wallet", WalletFault.OPEN_FAILED),
    (-1, "expected kex round number", WalletFault.ROUND_ALREADY_DONE),
    # A daemon that is down answers under the code of whatever was asked (recorded: import, submit, transfer).
    (-1, "no connection to daemon", WalletFault.NO_DAEMON),
    (-36, "no connection to daemon", WalletFault.NO_DAEMON),
    (-4, "failed to get output distribution", WalletFault.NO_DAEMON),
    (-4, "Failed to get height", WalletFault.NO_DAEMON),
)

_TRANSFER_ONLY = frozenset({-2})
_MESSAGE_MAX = 300


def fault_of(method: str, *, code: int, message: str) -> WalletFault:
    """Tells what kind of refusal an error answer is."""
    for each_code, text, fault in _BY_TEXT:
        if code == each_code and text in message:
            return fault
    if code in _TRANSFER_ONLY and method != "transfer":
        return WalletFault.OTHER
    # Code 0 without a text is what some calls give while the daemon is down (recorded: get_transfers).
    return WalletFault.NO_DAEMON if code == 0 and not message else _BY_CODE.get(code, WalletFault.OTHER)


def safe_message(*, code: int, message: str) -> str:
    """Returns the wallet's text, bounded and without the address that a refused destination quotes."""
    return "wrong address" if code == -2 else message[:_MESSAGE_MAX]
