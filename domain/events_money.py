"""What can happen to the money of an escrow: what the chain shows, and what its seats sign."""

from domain.chain import TxFacts
from domain.event import Event, FeeBand, Purpose, Share
from domain.ids import KeyImage, OneTimeKey, Sealed, TxHash
from domain.money import Atomic
from domain.roles import Role

# -- the chain -----------------------------------------------------------------------------------------------


class DepositSeen(Event, frozen=True, kw_only=True):
    """An output at the escrow's address appeared, in the pool or in a block."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    amount: Atomic


class DepositConfirmed(Event, frozen=True, kw_only=True):
    """A deposit is in a block."""

    one_time_key: OneTimeKey
    height: int


class DepositUnlocked(Event, frozen=True, kw_only=True):
    """A deposit can be spent by the rules of the chain."""

    one_time_key: OneTimeKey


class DepositLost(Event, frozen=True, kw_only=True):
    """A deposit that was there is not (a reorg, or it left the pool)."""

    one_time_key: OneTimeKey
    was_confirmed: bool


class DepositReturned(Event, frozen=True, kw_only=True):
    """A lost deposit is there again, or a confirmed one fell back into the pool."""

    one_time_key: OneTimeKey


class Funded(Event, frozen=True, kw_only=True):
    """The unlocked deposits reached the amount."""

    amount: Atomic


class FundingLost(Event, frozen=True, kw_only=True):
    """The unlocked deposits fell below the amount again."""

    amount: Atomic


class SpendSeen(Event, frozen=True, kw_only=True):
    """A transaction that spends deposits appeared, in the pool or in a block."""

    tx_hash: TxHash
    inputs: tuple[OneTimeKey, ...]
    facts: TxFacts | None = None
    """What can be read of it beside; None where that was not told."""


class SpendConfirmed(Event, frozen=True, kw_only=True):
    """A spending transaction is in a block."""

    tx_hash: TxHash
    height: int


class SpendFinal(Event, frozen=True, kw_only=True):
    """A spending transaction has all the confirmations the terms ask for."""

    tx_hash: TxHash


class SpendLost(Event, frozen=True, kw_only=True):
    """A spending transaction that was there is not (any more)."""

    tx_hash: TxHash


# -- signing -------------------------------------------------------------------------------------------------


class ExportGiven(Event, frozen=True, kw_only=True):
    """A seat exported fresh nonces and partial key images; its earlier exports are void."""

    role: Role
    export: Sealed
    digest: str
    covers: tuple[OneTimeKey, ...]


class KeyImagesTold(Event, frozen=True, kw_only=True):
    """A seat's wallet imported another's export and knows by which key images these deposits will be spent."""

    role: Role
    key_images: dict[OneTimeKey, KeyImage]


class PayoutOpened(Event, frozen=True, kw_only=True):
    """Somebody decided that money shall move: who receives what, who proposes, who cosigns."""

    number: int
    purpose: Purpose
    proposers: tuple[Role, ...]
    cosigner: Role
    buyer_share_bp: int
    """The buyer's part of what remains after fees, in basis points."""
    surplus_to_buyer: bool
    fee_atomic: Atomic
    consents: tuple[Role, ...]
    """Whose decision this is so far; signing needs the proposer and the cosigner among them."""


class PayoutApproved(Event, frozen=True, kw_only=True):
    """The second of the three consented: the cosigner may sign."""

    number: int
    by: Role


class PayoutDropped(Event, frozen=True, kw_only=True):
    """The payout is not wanted any more."""

    number: int
    reason: str


class EpochOpened(Event, frozen=True, kw_only=True):
    """One attempt to sign a payout began, over these inputs."""

    payout: int
    number: int
    inputs: tuple[OneTimeKey, ...]


class PayoutProposed(Event, frozen=True, kw_only=True):
    """The proposer made the transaction set."""

    payout: int
    epoch: int
    proposer: Role
    tx_set: Sealed
    digest: str
    network_fee: Atomic
    shares: tuple[Share, ...]
    export_digest: str
    key_images: dict[OneTimeKey, KeyImage]
    inputs_atomic: Atomic | None = None
    """What the inputs came to then; None where that was not told. Paid again, an output may be worth more later."""


class FeeBandSet(Event, frozen=True, kw_only=True):
    """The cosigner said, before it opened the set, which network fees it will sign."""

    payout: int
    epoch: int
    band: FeeBand


class PayoutSigned(Event, frozen=True, kw_only=True):
    """The cosigner checked the whole transaction and signed; its hash is known before anybody broadcasts it."""

    payout: int
    epoch: int
    tx_hash: TxHash
    signed: Sealed
    digest: str


class PayoutBroadcast(Event, frozen=True, kw_only=True):
    """Our agent handed the transaction to the network."""

    payout: int
    epoch: int
    tx_hash: TxHash


class EpochAbandoned(Event, frozen=True, kw_only=True):
    """The attempt ended without a payout; its reason stays visible."""

    payout: int
    number: int
    by: Role | None
    """The seat that gave it up; None when the rules did."""
    reason: str
    export_void: bool
    """True when the cosigner's export must not be used again."""


class EscrowCompleted(Event, frozen=True, kw_only=True):
    """A payout is final: the escrow ended."""

    outcome: str
    """`released`, `split` or `agreed`."""
    tx_hash: TxHash


class EscrowRefunded(Event, frozen=True, kw_only=True):
    """The refund is final: the escrow ended."""

    tx_hash: TxHash


class ArbiterFeePaid(Event, frozen=True, kw_only=True):
    """What a ruling's payout kept back for the arbiter is paid for good."""

    tx_hash: TxHash


class LeftoverPaid(Event, frozen=True, kw_only=True):
    """A payout after the end of the order is final."""

    tx_hash: TxHash
