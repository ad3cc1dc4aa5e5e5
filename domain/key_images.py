"""Key images: how a payout that two of the three make without us is recognised, and who can tell them.

No view key gives them. A wallet knows those of its outputs once it has imported another seat's export; they are then
the same at all three (measured), and stay what they are whatever the chain does.
"""

from domain import commands as c
from domain import events as e
from domain.events import AnyEvent
from domain.ids import OneTimeKey
from domain.payout import counts
from domain.refusals import Refused
from domain.roles import Role, others
from domain.states import Escrow, Export, Money, money_of
from domain.terms import Terms

ORDER = (Role.VENDOR, Role.BUYER, Role.ARBITER)
"""In which seats are asked: whoever proposes most payouts has then imported already."""
ASKED_AT_ONCE = 2


def there(money: Money, terms: Terms) -> frozenset[OneTimeKey]:
    """Names the deposits in a block, unspent and worth more than dust: those that exports and key images must cover."""
    return frozenset(
        key
        for key, deposit in money.deposits.items()
        if counts(deposit, terms) and deposit.height is not None and deposit.spent_by is None
    )


def unknown(money: Money, terms: Terms) -> frozenset[OneTimeKey]:
    """Names those of the deposits there whose key image nobody has told yet."""
    return there(money, terms) - money.key_images.keys()


def source(money: Money, role: Role, *, outputs: frozenset[OneTimeKey]) -> tuple[Role, Export] | None:
    """Finds another seat's export from which this seat's wallet learns the key images of these outputs."""
    given = ((other, money.exports.get(other)) for other in others(role))
    return next(((other, each) for other, each in given if each and not each.void and each.covers >= outputs), None)


def asked(state: Escrow, money: Money) -> tuple[Role, ...]:
    """Names the seats that are to tell what is unknown: two of those that exported themselves, so that one may be away.

    With two of the three away nobody could make a payout that is to be recognised.
    """
    outputs = unknown(money, state.core.terms)
    epoch = money.payout.epoch if money.payout else None
    busy = money.payout.cosigner if money.payout and epoch and epoch.proposal else None
    able = [role for role in ORDER if outputs and role is not busy and _can_tell(money, role, outputs)]
    return tuple(sorted(able, key=lambda role: role in state.core.failures)[:ASKED_AT_ONCE])


def _can_tell(money: Money, role: Role, outputs: frozenset[OneTimeKey]) -> bool:
    own = money.exports.get(role)
    return own is not None and own.covers >= outputs and source(money, role, outputs=outputs) is not None


def tell(state: Escrow, command: c.TellKeyImages) -> list[AnyEvent] | Refused:
    """Records key images nobody had told; the first word on an output stands."""
    money = money_of(state)
    if money is None or not command.key_images.keys() <= money.deposits.keys():
        return Refused("not_awaited")
    new = {key: image for key, image in command.key_images.items() if key not in money.key_images}
    return [e.KeyImagesTold(at=command.at, role=command.role, key_images=new)] if new else []
