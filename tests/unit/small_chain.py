"""A chain as small as a test needs: a height, outputs and spends, blocks that come and go."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.chain import ChainView, SeenOutput, SeenSpend
from domain.ids import OneTimeKey, TxHash
from domain.money import Atomic


@dataclass
class Chain:
    """Blocks as a number, outputs and spends with the height they are at; None is the pool."""

    height: int = 100
    outputs: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    spends: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    change: dict[str, str] = field(default_factory=dict)
    """Which transaction left which output over."""
    made: int = 0

    def pay(self, amount: int) -> None:
        self.made += 1
        self.outputs[f"out-{self.made}"] = (amount, None)

    def mine(self, blocks: int) -> None:
        at = self.height
        self.outputs = {k: (amount, at if h is None else h) for k, (amount, h) in self.outputs.items()}
        self.spends = {k: (tx, at if h is None else h) for k, (tx, h) in self.spends.items()}
        self.height += blocks

    def fork(self, depth: int, *, drops: bool) -> None:
        """Takes blocks off; what was in them returns to the pool, or is gone for good."""
        self.height = max(100, self.height - depth)
        cut = {k for k, (_, h) in self.outputs.items() if h is None or h >= self.height}
        back = {k: (amount, None) for k, (amount, _) in self.outputs.items() if k in cut and not drops}
        self.outputs = {k: v for k, v in self.outputs.items() if k not in cut} | back
        kept = {k: v for k, v in self.spends.items() if k not in cut}
        self.spends = {k: (tx, h if h is not None and h < self.height else None) for k, (tx, h) in kept.items()}
        if drops:
            self.spends = {k: (tx, h) for k, (tx, h) in self.spends.items() if h is not None}
        self._drop_what_came_from_nothing()

    def _drop_what_came_from_nothing(self) -> None:
        while True:
            there = {tx for tx, _ in self.spends.values()}
            gone = {k for k, tx in self.change.items() if k in self.outputs and tx not in there}
            if not gone:
                return
            self.outputs = {k: v for k, v in self.outputs.items() if k not in gone}
            self.spends = {k: v for k, v in self.spends.items() if k not in gone}

    def spend(self, keys: Sequence[str], tx: str, *, change: int = 0) -> bool:
        """Puts a transaction into the pool if the chain's rules let it."""
        free = all(k in self.outputs and k not in self.spends and self.unlocked(k) for k in keys)
        if free:
            self.spends |= {k: (tx, None) for k in keys}
        if free and keys and change:
            self.outputs[f"change-{tx}"], self.change[f"change-{tx}"] = (change, None), tx
        return free and bool(keys)

    def unlocked(self, key: str) -> bool:
        height = self.outputs[key][1]
        return height is not None and self.height - height >= 10

    def view(self) -> ChainView:
        outputs = [
            SeenOutput(
                one_time_key=OneTimeKey(k),
                tx_hash=TxHash(self.change.get(k, f"tx-{k}")),
                amount=Atomic(amount),
                height=h,
                unlocked=self.unlocked(k),
            )
            for k, (amount, h) in self.outputs.items()
        ]
        spends = [
            SeenSpend(one_time_key=OneTimeKey(k), tx_hash=TxHash(tx), height=h) for k, (tx, h) in self.spends.items()
        ]
        return ChainView(height=self.height, outputs=tuple(outputs), spends=tuple(spends))
