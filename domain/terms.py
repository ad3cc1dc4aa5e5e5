"""What the three agree to when an escrow is created; fixed for its whole life."""

import hashlib
from enum import StrEnum

import msgspec

from domain.ids import EscrowId, OrderId, UserId
from domain.money import Atomic
from domain.roles import Role, SeatKind

HOUR_S = 3_600


class FeeSettlement(StrEnum):
    """How an arbiter is paid after a ruling."""

    SINGLE = "single"
    """Together with the winner, in one transaction: there is no half-paid state."""
    SWEEP = "sweep"
    """The winner first; the fee stays at the escrow's address as change and is then paid by a payout of its own."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Every figure the rules use, written into the first event so that a replay never depends on configuration."""

    arbiter_fee_ppm: int = 20_000
    """The arbiter's fee in parts per million of the amount (20,000 = 2 %)."""
    dust_atomic: Atomic = Atomic(1_000_000_000)
    """Outputs and shares worth no more than this are left: one more input costs about 0.8e9 at 1.2e6 a byte."""
    network_fee_max_atomic: Atomic = Atomic(100_000_000_000)
    """No transaction with a higher network fee is ever signed."""
    final_confirmations: int = 10
    epochs_max: int = 6
    """Signing epochs opened by themselves for one payout; more only on a person's request."""
    pending_s: int = 24 * HOUR_S
    setup_s: int = HOUR_S
    setup_relay_s: int = 72 * HOUR_S
    funding_remind_s: int = 24 * HOUR_S
    funding_s: int = 48 * HOUR_S
    ship_s: int = 48 * HOUR_S
    dispute_untouched_s: int = 72 * HOUR_S
    dispute_undecided_s: int = 168 * HOUR_S
    stuck_s: tuple[int, int, int, int] = (6 * HOUR_S, 12 * HOUR_S, 24 * HOUR_S, 48 * HOUR_S)
    """Seconds without activity until escalation stages 1 to 4."""
    fee_settlement: FeeSettlement | msgspec.UnsetType = msgspec.UNSET
    """Unset in terms written before there was a choice, whose hash set-up messages were signed over: `single`."""
    arbiter_ready_s: int | msgspec.UnsetType = msgspec.UNSET
    """The address to pay to is shown once the arbiter was seen within so many seconds; unset asks for nothing."""
    arbiter_backup_key: str | msgspec.UnsetType = msgspec.UNSET
    """X25519 public key (64 hex digits) that a hosted arbiter's wallet is backed up to; unset, it is not backed up."""

    @property
    def sweeps(self) -> bool:
        """Whether the arbiter's fee is paid after the winner."""
        return self.fee_settlement is FeeSettlement.SWEEP


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Who, how much, and by which figures."""

    escrow_id: EscrowId
    order_id: OrderId
    buyer_id: UserId
    vendor_id: UserId
    arbiter_id: UserId
    amount: Atomic
    network: str
    seats: dict[Role, SeatKind]
    policy: Policy

    def role_of(self, user: UserId) -> Role | None:
        """Names the seat of a user, or None for a stranger."""
        by_user = {self.buyer_id: Role.BUYER, self.vendor_id: Role.VENDOR, self.arbiter_id: Role.ARBITER}
        return by_user.get(user)

    def backup_key(self, role: Role) -> str | None:
        """Names the key that a seat's wallet must be backed up to before its address counts; None for most."""
        key = self.policy.arbiter_backup_key
        asked = role is Role.ARBITER and self.seats[role] is SeatKind.POOL
        return key if asked and key is not msgspec.UNSET else None

    def digest(self) -> str:
        """Hashes the terms (sha256 of their JSON in declared order, hex): what every set-up message is signed over."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def arbiter_fee(terms: Terms) -> Atomic:
    """Computes the arbiter's fee of a ruling from the amount, rounded down."""
    return Atomic(terms.amount * terms.policy.arbiter_fee_ppm // 1_000_000)
