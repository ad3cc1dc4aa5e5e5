"""What the simulated chain finds at once against what its blocks say, through payments, spends and reorganisations."""

import random

import pytest

from actors.ports import KeyImageStatus
from actors.simulation import SimChain
from actors.simulation.chain import SimTx, key_image_of, outputs_of
from domain.ids import Address, OneTimeKey, TxHash

ADDRESSES = [Address(name) for name in ("buyer", "vendor", "arbiter", "stranger")]
STEPS = 150


class Walk:
    """Does one thing after another to a chain, drawn by a seed."""

    def __init__(self, seed: int) -> None:
        self.chain, self._draw = SimChain(seed=seed, height=20), random.Random(seed)
        self.made: list[OneTimeKey] = []
        """Every output there ever was, those that reorganisations took back too."""

    def step(self) -> None:
        """Does one of the things that move a chain."""
        draw, chain = self._draw, self.chain
        steps = [self._pay, self._pay, self._spend, self._spend, self._mine, self._mine, self._pop, self._reorganise]
        draw.choice([*steps, lambda: chain.flush(*draw.sample(list(chain.pool), k=min(1, len(chain.pool))))])()

    def _pay(self) -> None:
        self._note(self.chain.pay_many(self._payments()))

    def _spend(self) -> None:
        tx_hash = TxHash(self.chain.fresh("spend"))
        inputs = tuple(self._draw.sample(self.made, k=min(self._draw.randint(1, 2), len(self.made))))
        outputs = outputs_of(tx_hash, self._payments())
        if inputs and self.chain.relay(SimTx(hash=tx_hash, inputs=inputs, outputs=outputs)):
            self._note(tx_hash)

    def _mine(self) -> None:
        self.chain.mine(self._draw.randint(1, 8))

    def _pop(self) -> None:
        self.chain.pop(self._draw.randint(1, 5))

    def _reorganise(self) -> None:
        depth = self._draw.randint(1, 9)
        mined = [tx.hash for block in self.chain.blocks_from(self.chain.height - depth) for tx in block.txs]
        self.chain.reorganise(depth, drop=self._draw.sample(mined, k=len(mined) // 2))

    def _payments(self) -> list[tuple[Address, int]]:
        return [(address, self._draw.randint(1, 9)) for address in self._draw.choices(ADDRESSES, k=2)]

    def _note(self, tx_hash: TxHash) -> None:
        tx, _ = self.chain.find(tx_hash) or pytest.fail("not in the pool")
        self.made += [output.one_time_key for output in tx.outputs]


@pytest.mark.parametrize("seed", range(4))
def test_a_simulated_chain_finds_at_once_what_its_blocks_say_of_an_address_or_a_key_image(seed: int) -> None:
    walk, seen = Walk(seed), set[KeyImageStatus]()
    for _ in range(STEPS):
        walk.step()
        for address in ADDRESSES:
            since = walk.chain.height // 2
            assert _found(walk.chain, address, since=0) == _in_blocks(walk.chain, address, since=0)
            assert _found(walk.chain, address, since=since) == _in_blocks(walk.chain, address, since=since)
        said = {key: walk.chain.image_status(key_image_of(key)) for key in walk.made}
        assert said == _statuses(walk) == {key: walk.chain.status(key) for key in walk.made}
        seen |= set(said.values())
    assert seen == set(KeyImageStatus), "the walk spent, and waited to spend"


def _found(chain: SimChain, address: Address, *, since: int) -> list[tuple[int, TxHash, OneTimeKey]]:
    return [(each.height, each.tx.hash, each.output.one_time_key) for each in chain.paid_to(address, since=since)]


def _in_blocks(chain: SimChain, address: Address, *, since: int) -> list[tuple[int, TxHash, OneTimeKey]]:
    return [
        (block.height, tx.hash, output.one_time_key)
        for block in chain.blocks_from(since)
        for tx in block.txs
        for output in tx.outputs
        if output.address == address
    ]


def _statuses(walk: Walk) -> dict[OneTimeKey, KeyImageStatus]:
    mined = {key for block in walk.chain.blocks_from(0) for tx in block.txs for key in tx.inputs}
    waiting = {key for tx in walk.chain.pool.values() for key in tx.inputs}
    in_chain = dict.fromkeys(mined, KeyImageStatus.IN_CHAIN)
    return dict.fromkeys(walk.made, KeyImageStatus.UNSPENT) | dict.fromkeys(waiting, KeyImageStatus.IN_POOL) | in_chain
