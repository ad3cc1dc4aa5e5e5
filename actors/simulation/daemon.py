"""The simulated chain behind the daemon's port and the watch's port."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from actors.ports import BlockFacts, ChainTx, DaemonDown, DaemonInfo, KeyImageStatus, WatchTarget
from actors.simulation.chain import UNLOCK_AFTER, SimChain, SimTx, key_image_of
from actors.simulation.faults import Fault, Faults
from actors.simulation.fees import FEE_PER_WEIGHT
from actors.simulation.identity import views
from domain.chain import ChainView, SeenOutput, SeenSpend, TxFacts
from domain.ids import EscrowId, KeyImage, OneTimeKey, TxHash
from domain.money import Atomic

_T = TypeVar("_T")


class SimDaemon:
    """One simulated `monerod`; implements `DaemonRpc`. A lost or refused call is a daemon that is down."""

    def __init__(
        self,
        chain: SimChain,
        *,
        faults: Faults | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.faults = faults or Faults()
        self._chain, self._sleep = chain, sleep

    async def info(self) -> DaemonInfo:
        await self._up("info")
        chain = self._chain
        return DaemonInfo(height=chain.height, top_hash=chain.top_hash, synchronized=True, nettype="fakechain")

    async def block(self, height: int) -> BlockFacts:
        await self._up("block")
        block = self._chain.block_at(height)
        if block is None:
            raise DaemonDown("get_block: error -2")
        return BlockFacts(
            height=height,
            hash=block.hash,
            prev_hash=block.prev_hash,
            timestamp=block.timestamp,
            tx_hashes=(block.miner_tx, *(tx.hash for tx in block.txs)),
        )

    async def transactions(self, tx_hashes: Sequence[TxHash]) -> tuple[ChainTx, ...]:
        await self._up("transactions")
        found = (self._chain.find(tx_hash) for tx_hash in tx_hashes)
        return tuple(self._shown(*at) for at in found if at is not None)

    async def pool_hashes(self) -> tuple[TxHash, ...]:
        await self._up("pool_hashes")
        return tuple(self._chain.pool)

    async def key_images(self, images: Sequence[KeyImage]) -> tuple[KeyImageStatus, ...]:
        await self._up("key_images")
        return tuple(self._chain.image_status(image) for image in images)

    async def fee_per_byte(self) -> Atomic:
        await self._up("fee_per_byte")
        return Atomic(FEE_PER_WEIGHT)

    async def aclose(self) -> None:
        """Closes nothing: there is no connection."""

    def _shown(self, tx: SimTx, height: int | None) -> ChainTx:
        return ChainTx(tx_hash=tx.hash, body=_body(tx), height=height, relayed=tx.hash not in self._chain.unrelayed)

    async def _up(self, method: str) -> None:
        planned = self.faults.take(method)
        if planned is not None and planned.fault is Fault.LATE:
            await self._sleep(planned.seconds)
        elif planned is not None:
            raise DaemonDown(f"{method}: {planned.fault}")
        _require_up(self._chain)


class SimWatch:
    """Shows escrows on a simulated chain; implements `Watch`. A view key of another address sees nothing."""

    def __init__(self, chain: SimChain) -> None:
        self._chain = chain

    async def look(self, targets: Sequence[WatchTarget]) -> Mapping[EscrowId, ChainView]:
        _require_up(self._chain)
        return {target.escrow_id: self._view(target) for target in targets}

    def _view(self, target: WatchTarget) -> ChainView:
        if not views(target.address, target.view_key):
            return ChainView(height=self._chain.height)
        spends = (self._spend(key) for key, image in target.key_images.items() if image == key_image_of(key))
        return ChainView(
            height=self._chain.height,
            outputs=self._outputs(target),
            spends=tuple(spend for spend in spends if spend is not None),
        )

    def _outputs(self, target: WatchTarget) -> tuple[SeenOutput, ...]:
        chain, address = self._chain, target.address
        mined = [(each.tx, each.output, each.height) for each in chain.paid_to(address, since=target.since_height)]
        seen = [tx for tx in chain.pool.values() if tx.hash not in chain.unrelayed]
        waiting = [(tx, output, None) for tx in seen for output in tx.outputs if output.address == address]
        return tuple(
            SeenOutput(
                one_time_key=output.one_time_key,
                tx_hash=tx.hash,
                amount=output.amount,
                height=height,
                unlocked=self._unlocked(tx, height),
            )
            for tx, output, height in (*mined, *waiting)
        )

    def _spend(self, key: OneTimeKey) -> SeenSpend | None:
        at = self._chain.spender(key)
        if at is None or at[0].hash in self._chain.unrelayed:
            return None
        return SeenSpend(one_time_key=key, tx_hash=at[0].hash, height=at[1], facts=_facts(at[0]))

    def _unlocked(self, tx: SimTx, height: int | None) -> bool:
        if height is None or height + UNLOCK_AFTER > self._chain.height:
            return False
        return self._chain.passed(tx.unlock_time)


def _facts(tx: SimTx) -> TxFacts:
    # A real wallet adds an output that pays nobody where there is only one.
    return TxFacts(network_fee=tx.fee, unlock_time=tx.unlock_time, outputs=max(2, len(tx.outputs)))


def _require_up(chain: SimChain) -> None:
    if not chain.online or chain.untrusted:
        raise DaemonDown("unreachable" if not chain.online else "untrusted")


def _body(tx: SimTx) -> Mapping[str, Any]:
    # Shaped like monerod's `as_json`; amounts and tags are hidden there and not worth hiding here.
    keys = [{"key": each.one_time_key, "view_tag": "00"} for each in tx.outputs]
    return {
        "version": 2,
        "unlock_time": tx.unlock_time,
        "vin": [{"key": {"amount": 0, "key_offsets": [], "k_image": key_image_of(key)}} for key in tx.inputs],
        "vout": [{"amount": 0, "target": {"tagged_key": key}} for key in keys],
        "extra": [],
        "rct_signatures": {"type": 6, "txnFee": tx.fee, "ecdhInfo": [], "outPk": []},
    }
