"""Brings the keys to what the log says of them: what is shredded there is blanked, as often as it takes."""

import structlog

from actors.ports import Clock
from eventstore.api import LogUnavailable, Vault

log = structlog.get_logger(__name__)


class KeyShredder:
    """Applies every `key_shredded` event once more, each `look_s` seconds: after a crash between event and key, and
    after a restore that brought a key back."""

    def __init__(self, vault: Vault, *, clock: Clock, look_s: float = 60.0) -> None:
        self._vault, self._clock, self._look_s = vault, clock, look_s

    async def run(self) -> None:
        """Shreds until cancelled."""
        while True:
            await self._clock.sleep(self._look_s)
            try:
                await self.apply()
            except LogUnavailable as away:
                log.warning("shredding_waits", error=type(away).__name__)

    async def apply(self) -> None:
        """Shreds what the log says is shredded; raises `LogUnavailable`."""
        gone = await self._vault.shred()
        if gone:
            log.info("keys_shredded", count=len(gone))
