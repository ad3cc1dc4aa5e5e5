"""One wallet while it is open in a simulated process: what it knows, what is on disk, and how it reads the chain."""

from msgspec.structs import replace

from actors.ports import KeyImageStatus, WalletOutput, WalletRefused
from actors.simulation.chain import UNLOCK_AFTER, Paid, SimChain, digest
from actors.simulation.files import CacheFile, KeysFile, KnownOutput, SimFolder, Stage
from actors.simulation.identity import Identity, identity_of
from actors.wallet_faults import fault_of
from domain.ids import OneTimeKey


def refuse(method: str, *, code: int, message: str) -> WalletRefused:
    """Builds the refusal that the real wallet's code and text would become."""
    return WalletRefused(method=method, fault=fault_of(method, code=code, message=message), code=code, message=message)


class OpenWallet:
    """The state in memory; only `write_keys` and `write_cache` make anything of it last."""

    def __init__(self, name: str, *, keys: KeysFile, cache: CacheFile, chain: SimChain, folder: SimFolder) -> None:
        self.name, self.keys, self.experimental = name, keys, keys.experimental
        self.outputs: dict[OneTimeKey, KnownOutput] = {each.one_time_key: each for each in cache.outputs}
        self.height = cache.height
        self._tip_hash, self._reorg_noticed = cache.tip_hash, False
        # The cache stays encrypted with what the wallet was opened with, whatever a key exchange wrote into `.keys`.
        self._password = cache.password
        self._chain, self._folder = chain, folder

    @property
    def signer(self) -> str:
        """This seat's public name in the group."""
        return signer_of(self.keys.seed)

    @property
    def group(self) -> str:
        """The name of the group once made; seats that were given other messages are in another group."""
        return digest("group/" + "/".join(self.keys.group))[:32]

    @property
    def identity(self) -> Identity:
        """The keys behind its address."""
        return identity_of(self.group if self.keys.stage is not Stage.ORDINARY else self.keys.seed)

    @property
    def behind(self) -> bool:
        """Whether the chain has gone on, or another way, since the last refresh."""
        return self.height != self._chain.height or self._tip_hash != self._chain.top_hash

    def write_keys(self, keys: KeysFile) -> None:
        """Rewrites `.keys`."""
        self.keys = self._folder.keys[self.name] = keys

    def write_cache(self) -> None:
        """Writes the cache: everything learned and every nonce, as they are now."""
        self._folder.caches[self.name] = CacheFile(
            password=self._password,
            stage=self.keys.stage,
            height=self.height,
            tip_hash=self._tip_hash,
            outputs=tuple(self.outputs.values()),
        )

    def refresh(self) -> int:
        """Reads the chain. After a reorganisation the first refresh answers 0 and moves nothing (recorded)."""
        if not self._chain.online:
            raise refuse("refresh", code=-38, message="no connection to daemon")
        if self._reorganised() and not self._reorg_noticed:
            self._reorg_noticed = True
            return 0
        fetched = max(self._chain.height - self.height, 0)
        if self._reorg_noticed:
            self._detach()
        self._scan()
        self._settle_spent()
        self.height, self._tip_hash, self._reorg_noticed = self._chain.height, self._chain.top_hash, False
        return fetched

    def wipe(self) -> None:
        """Forgets outputs and nonces; a refresh finds the outputs again, never the nonces."""
        self.outputs.clear()
        self.height, self._tip_hash = 1, ""

    def listed(self) -> tuple[WalletOutput, ...]:
        """Returns every output as it stood at the last refresh."""
        return tuple(self._listed(each) for each in self.outputs.values())

    def unlocked(self, output: KnownOutput) -> bool:
        """Says whether an output may be spent by now."""
        if output.height + UNLOCK_AFTER > self.height:
            return False
        return self._chain.passed(output.unlock_time)

    def settle_imported(self) -> None:
        """Asks the daemon about the outputs whose key images are known, waiting spends included."""
        for key, output in self.outputs.items():
            if output.key_image is not None:
                spent = self._chain.status(key) is not KeyImageStatus.UNSPENT
                self.outputs[key] = replace(output, spent=spent)

    def _listed(self, output: KnownOutput) -> WalletOutput:
        return WalletOutput(
            one_time_key=output.one_time_key,
            tx_hash=output.tx_hash,
            amount=output.amount,
            key_image=output.key_image,
            unlocked=self.unlocked(output),
            spent=output.spent,
            height=output.height,
        )

    def _reorganised(self) -> bool:
        if not self._tip_hash:
            return False
        tip = self._chain.block_at(self.height - 1)
        return tip is None or tip.hash != self._tip_hash

    def _detach(self) -> None:
        # Found again, an output is a new one to the wallet: key image, imports and nonces are gone (recorded).
        self.outputs = {key: each for key, each in self.outputs.items() if self._still_there(each)}
        self.height = 1

    def _still_there(self, output: KnownOutput) -> bool:
        block = self._chain.block_at(output.height)
        return block is not None and block.hash == output.block_hash

    def _scan(self) -> None:
        start = max(self.height if self._tip_hash else 1, self.keys.restore_height)
        if self._reorg_noticed:
            start = self.keys.restore_height
        for paid in self._chain.paid_to(self.identity.address, since=start):
            self.outputs.setdefault(paid.output.one_time_key, self._known(paid))

    def _known(self, paid: Paid) -> KnownOutput:
        block = self._chain.block_at(paid.height)
        assert block is not None
        return KnownOutput(
            one_time_key=paid.output.one_time_key,
            tx_hash=paid.tx.hash,
            amount=paid.output.amount,
            height=paid.height,
            block_hash=block.hash,
            unlock_time=paid.tx.unlock_time,
        )

    def _settle_spent(self) -> None:
        for key, output in self.outputs.items():
            status = self._chain.status(key)
            mined = status is KeyImageStatus.IN_CHAIN and (output.key_image is not None or output.spent)
            waiting = status is KeyImageStatus.IN_POOL and output.spent
            if output.spent != (mined or waiting):
                self.outputs[key] = replace(output, spent=mined or waiting)


def signer_of(seed: str) -> str:
    """Returns the public name of a wallet in key exchanges."""
    return digest(f"signer/{seed}")[:32]


def require_ready(method: str, wallet: OpenWallet) -> None:
    """Refuses what only a finished multisig wallet can do; the refusal's kind is `NOT_MULTISIG` or `DISABLED`."""
    if wallet.keys.stage is Stage.ORDINARY:
        raise refuse(method, code=-31, message="This wallet is not multisig")
    if wallet.keys.stage is not Stage.READY:
        raise refuse(method, code=-31, message="This wallet is multisig, but not yet finalized")
    if not wallet.experimental:
        raise refuse(method, code=-48, message="This wallet is multisig, and multisig is disabled.")
