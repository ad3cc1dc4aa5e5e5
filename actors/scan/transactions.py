"""From monerod's JSON of a transaction to the outputs in it that belong to a watched address.

Nothing here raises on what a sender or miner can put on chain: what cannot be read is reported as a value.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec

from actors.scan import points
from actors.scan.extra import read_extra
from domain.chain import TxFacts
from domain.ids import KeyImage, OneTimeKey, TxHash
from domain.money import ATOMIC_MAX, Atomic

UINT64_MAX: Final = 2**64 - 1
"""The largest number that a transaction can hold."""


class Masked(msgspec.Struct, frozen=True):
    """A hidden amount: 8 masked bytes, and the commitment on chain that proves them."""

    amount: bytes
    commitment: bytes


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One output, not yet known to be anyone's."""

    one_time_key: bytes
    view_tag: int | None
    """None for outputs from before view tags."""
    amount: int | Masked


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What scanning needs of a transaction: read once, tried with many keys."""

    tx_hash: TxHash
    outputs: tuple[Output | None, ...] = ()
    """None where an output cannot be read; its place still counts, because the index is hashed."""
    cleared_keys: tuple[bytes, ...] = ()
    """8R of each public key in `extra` that is a point."""
    cleared_additional: tuple[bytes | None, ...] = ()
    """8R of the key for each output; empty unless there are exactly as many as outputs."""
    unlock_time: int = 0
    key_images: tuple[KeyImage, ...] = ()
    network_fee: Atomic | None = None
    """None where the JSON does not tell, as of a miner's."""

    @property
    def facts(self) -> TxFacts | None:
        """What is shown of it to those whose outputs it spends."""
        if self.network_fee is None:
            return None
        return TxFacts(network_fee=self.network_fee, unlock_time=self.unlock_time, outputs=len(self.outputs))


class Unreadable(msgspec.Struct, frozen=True):
    """A transaction whose JSON does not have the shape monerod gives it."""

    tx_hash: TxHash


class WatchKey(msgspec.Struct, frozen=True, gc=False):
    """What recognises an address' outputs: its secret view key and its public spend key, 32 bytes each."""

    view_key: bytes
    spend_key: bytes

    def __repr__(self) -> str:
        return "WatchKey(...)"


class Found(msgspec.Struct, frozen=True):
    """An output that belongs to the watched address, its amount proven."""

    one_time_key: OneTimeKey
    amount: Atomic


class FalseAmount(msgspec.Struct, frozen=True):
    """An output addressed to the watched address whose amount is a lie: the wallet cannot spend it."""

    one_time_key: OneTimeKey


def read_transaction(tx_hash: TxHash, body: Mapping[str, Any]) -> Transaction | Unreadable:
    """Reads monerod's `as_json` of one transaction, pruned or whole; never raises."""
    try:
        wire = msgspec.convert(dict(body), _Body)
    except (msgspec.ValidationError, TypeError, ValueError):
        return Unreadable(tx_hash)
    if max((wire.unlock_time, *(vout.amount for vout in wire.vout))) > UINT64_MAX:
        return Unreadable(tx_hash)  # no transaction can say that, and nothing that keeps it could write it down
    keys = read_extra(bytes(wire.extra))
    additional = keys.additional if keys.public and len(keys.additional) == len(wire.vout) else ()
    cleared = (points.clear_cofactor(key) for key in keys.public)
    return Transaction(
        tx_hash=tx_hash,
        outputs=tuple(_outputs(wire)),
        cleared_keys=tuple(key for key in cleared if key is not None),
        cleared_additional=tuple(points.clear_cofactor(key) for key in additional),
        unlock_time=wire.unlock_time,
        key_images=tuple(KeyImage(spent.key.k_image) for spent in wire.vin if spent.key),
        network_fee=_network_fee(wire),
    )


def scan(transaction: Transaction, key: WatchKey) -> tuple[Found | FalseAmount, ...]:
    """Returns the transaction's outputs that belong to the key, in their order; never raises.

    Outputs of amount 0 are passed over, as in the wallet. The same one-time key may come twice.
    """
    secrets = [points.shared_secret(key.view_key, cleared) for cleared in transaction.cleared_keys]
    found: list[Found | FalseAmount] = []
    for index, output in enumerate(transaction.outputs):
        if output is None:
            continue
        scalar = _owning_scalar(output, index=index, key=key, secrets=_secrets(transaction, index, key, secrets))
        if scalar is not None:
            found.append(_open(output, scalar))
    return tuple(opened for opened in found if isinstance(opened, FalseAmount) or opened.amount > 0)


def _secrets(transaction: Transaction, index: int, key: WatchKey, shared: list[bytes]) -> Iterator[bytes]:
    """Yields the secrets to try for one output: those of all keys first, that of its own key last."""
    yield from shared
    if transaction.cleared_additional:
        cleared = transaction.cleared_additional[index]
        if cleared is not None:
            yield points.shared_secret(key.view_key, cleared)


def _owning_scalar(output: Output, *, index: int, key: WatchKey, secrets: Iterator[bytes]) -> bytes | None:
    """Returns the scalar by which the output is the key's, or None when it is another's."""
    for secret in secrets:
        if output.view_tag is not None and points.view_tag(secret, index) != output.view_tag:
            continue
        scalar = points.output_scalar(secret, index)
        if points.one_time_key(scalar, key.spend_key) == output.one_time_key:
            return scalar
    return None


def _open(output: Output, scalar: bytes) -> Found | FalseAmount:
    name = OneTimeKey(output.one_time_key.hex())
    if not isinstance(output.amount, Masked):
        return Found(name, Atomic(output.amount)) if output.amount <= ATOMIC_MAX else FalseAmount(name)
    amount = points.unmask_amount(scalar, output.amount.amount)
    proven = points.commits_to(output.amount.commitment, scalar=scalar, amount=amount)
    return Found(name, Atomic(amount)) if proven and amount <= ATOMIC_MAX else FalseAmount(name)


Unsigned = Annotated[int, msgspec.Meta(ge=0)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class _TaggedKey(msgspec.Struct, frozen=True):
    key: str
    view_tag: str


class _Target(msgspec.Struct, frozen=True):
    key: str | None = None
    tagged_key: _TaggedKey | None = None


class _Vout(msgspec.Struct, frozen=True):
    amount: Unsigned
    target: _Target


class _Spent(msgspec.Struct, frozen=True):
    k_image: str


class _Vin(msgspec.Struct, frozen=True):
    key: _Spent | None = None
    gen: dict[str, Any] | None = None


class _Ecdh(msgspec.Struct, frozen=True):
    amount: str


class _Ringct(msgspec.Struct, frozen=True):
    ecdhInfo: tuple[_Ecdh, ...] = ()
    outPk: tuple[str, ...] = ()
    txnFee: Unsigned | None = None


class _Body(msgspec.Struct, frozen=True):
    version: int
    unlock_time: Unsigned
    vin: tuple[_Vin, ...]
    vout: tuple[_Vout, ...]
    extra: tuple[Byte, ...]
    rct_signatures: _Ringct = _Ringct()


def _network_fee(wire: _Body) -> Atomic | None:
    fee = wire.rct_signatures.txnFee
    return None if fee is None or fee > ATOMIC_MAX else Atomic(fee)


def _outputs(wire: _Body) -> Iterator[Output | None]:
    minted = any(spent.gen is not None for spent in wire.vin)
    hidden = wire.version >= 2 and not minted  # the miner's amounts, and those of version 1, stand in clear
    for index, vout in enumerate(wire.vout):
        yield _output(vout, amount=_masked(wire.rct_signatures, index) if hidden else vout.amount)


def _output(vout: _Vout, *, amount: int | Masked | None) -> Output | None:
    tagged = vout.target.tagged_key
    key = _fixed(tagged.key if tagged else vout.target.key, points.POINT_BYTES)
    tag = _fixed(tagged.view_tag, 1) if tagged else b""
    if key is None or tag is None or amount is None:
        return None
    return Output(one_time_key=key, view_tag=tag[0] if tag else None, amount=amount)


def _masked(ringct: _Ringct, index: int) -> Masked | None:
    if index >= len(ringct.ecdhInfo) or index >= len(ringct.outPk):
        return None
    amount = _fixed(ringct.ecdhInfo[index].amount, points.AMOUNT_BYTES)
    commitment = _fixed(ringct.outPk[index], points.POINT_BYTES)
    return None if amount is None or commitment is None else Masked(amount, commitment)


def _fixed(digits: str | None, size: int) -> bytes | None:
    """Decodes exactly `size` bytes from hex digits, or returns None."""
    try:
        decoded = bytes.fromhex(digits or "")
    except ValueError:
        return None
    return decoded if len(decoded) == size else None
