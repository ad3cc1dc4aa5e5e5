"""The escrow's wallet as the log knows it: deposits, exports, payouts and the epochs in which they are signed."""

from enum import StrEnum

from msgspec import field

from domain.chain import TxFacts
from domain.events import FeeBand, Purpose, Share
from domain.ids import Address, KeyImage, Micros, OneTimeKey, Sealed, TxHash
from domain.money import Atomic
from domain.record import Record
from domain.roles import Role


class Deposit(Record, frozen=True, kw_only=True):
    """One output at the escrow's address."""

    one_time_key: OneTimeKey
    tx_hash: TxHash
    amount: Atomic
    height: int | None = None
    unlocked: bool = False
    lost: bool = False
    spent_by: TxHash | None = None


class Spend(Record, frozen=True, kw_only=True):
    """One transaction that spends deposits."""

    tx_hash: TxHash
    inputs: tuple[OneTimeKey, ...]
    facts: TxFacts | None = None
    height: int | None = None
    final: bool = False
    lost: bool = False


class ExportState(StrEnum):
    """Whether a seat's latest export can still be signed with; a newer one takes its place whatever it is."""

    CURRENT = "current"
    CONSUMED = "consumed"
    """Signed with: its nonces are used up."""
    VOID = "void"
    """A reorg took a deposit it covers, its wallet was restored, or it may have been signed with unseen."""


class Export(Record, frozen=True, kw_only=True):
    """A seat's latest export."""

    sealed: Sealed
    digest: str
    covers: frozenset[OneTimeKey]
    number: int = 1
    """Which export of this seat it is."""
    state: ExportState = ExportState.CURRENT

    @property
    def void(self) -> bool:
        """Whether the cosigner's wallet would refuse a set made with it."""
        return self.state is not ExportState.CURRENT


class Proposal(Record, frozen=True, kw_only=True):
    """A transaction set, made by its proposer for one cosigner."""

    proposer: Role
    tx_set: Sealed
    digest: str
    network_fee: Atomic
    shares: tuple[Share, ...]
    export_digest: str
    inputs_atomic: Atomic | None = None


class Signature(Record, frozen=True, kw_only=True):
    """A fully signed transaction."""

    tx_hash: TxHash
    sealed: Sealed
    digest: str


class Epoch(Record, frozen=True, kw_only=True):
    """One attempt to sign a payout."""

    number: int
    inputs: tuple[OneTimeKey, ...]
    since: Micros
    proposal: Proposal | None = None
    fee_band: FeeBand | None = None
    """The network fees by which the cosigner judges the proposal."""
    signature: Signature | None = None
    broadcast: bool = False
    """Whether the network has it, as far as is known; False again when it left the chain and must be sent anew."""
    sent: int = 0
    """How often it was handed to the network."""
    ended: str | None = None


class Payout(Record, frozen=True, kw_only=True):
    """Money that shall move, by the consent of two of the three."""

    number: int
    purpose: Purpose
    proposers: tuple[Role, ...]
    cosigner: Role
    buyer_share_bp: int
    surplus_to_buyer: bool
    fee_atomic: Atomic
    consents: frozenset[Role]
    since: Micros = Micros(0)
    epochs: tuple[Epoch, ...] = ()
    retries: int = 0
    """How often a person asked for another round of epochs."""
    ended: str | None = None

    @property
    def approved(self) -> bool:
        """Whether the cosigner may sign: its consent is in."""
        return self.cosigner in self.consents

    @property
    def signed(self) -> tuple[TxHash, ...]:
        """The transactions that were signed for it, in whichever epoch."""
        return tuple(epoch.signature.tx_hash for epoch in self.epochs if epoch.signature)

    @property
    def epoch(self) -> Epoch | None:
        """The epoch under way, if any."""
        return self.epochs[-1] if self.epochs and self.epochs[-1].ended is None else None


class Money(Record, frozen=True, kw_only=True):
    """The escrow's wallet as the log knows it: address, what came in, what goes out."""

    address: Address
    view_key: Sealed
    view_key_role: Role
    since_height: int
    deposits: dict[OneTimeKey, Deposit] = field(default_factory=dict)
    key_images: dict[OneTimeKey, KeyImage] = field(default_factory=dict)
    spends: dict[TxHash, Spend] = field(default_factory=dict)
    exports: dict[Role, Export] = field(default_factory=dict)
    exports_given: frozenset[str] = frozenset()
    """Digests of all exports ever handed out: one told twice never comes to life again."""
    payouts: tuple[Payout, ...] = ()

    @property
    def payout(self) -> Payout | None:
        """The payout under way, if any."""
        return self.payouts[-1] if self.payouts and self.payouts[-1].ended is None else None
