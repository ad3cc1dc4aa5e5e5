"""Why a slot cannot be used: kinds told apart, so that an operator knows where to look."""

from enum import StrEnum

from actors.ports import WalletUnknown


class Ailment(StrEnum):
    """What is wrong with a slot; the words stand in metrics and logs."""

    NOT_STARTED = "not_started"
    """Its program could not be ended or started."""
    REFUSED = "refused"
    """Nobody listens at its address."""
    CUT = "cut"
    """The connection ends before an answer."""
    SILENT = "silent"
    """It takes a call and does not answer: stopped, hung, or busy with somebody else's."""
    SLOW = "slow"
    """It answers, later than a slot may."""
    UNAUTHORISED = "unauthorised"
    """It answers 401."""
    OTHER_CERTIFICATE = "other_certificate"
    """Its certificate is not the one whose fingerprint is configured."""
    GARBAGE = "garbage"
    """It answers something else than a wallet would."""
    OTHER_WALLET = "other_wallet"
    """A wallet is open there that no lease accounts for."""
    RESTING = "resting"
    """Its last holder did not give it back and may still have a call under way."""
    FAILED = "failed"
    """Something nobody foresaw; the log has its name."""


class SlotUnusable(Exception):
    """A slot cannot be used now.

    `ended` says that nothing is open there which the slot's last holder opened, so a seat need not wait for it.
    """

    def __init__(self, ailment: Ailment, *, ended: bool = False) -> None:
        super().__init__(ailment.value)
        self.ailment, self.ended = ailment, ended


def ailment_of(unknown: WalletUnknown) -> Ailment:
    """Tells what kind of silence a call met."""
    if unknown.reason in _BY_REASON:
        return _BY_REASON[unknown.reason]
    return Ailment.GARBAGE


_BY_REASON = {
    "unreachable": Ailment.REFUSED,
    "connection lost": Ailment.CUT,
    "time-out": Ailment.SILENT,
    "http 401": Ailment.UNAUTHORISED,
    "other certificate": Ailment.OTHER_CERTIFICATE,
}
