"""Sealed fields of one escrow, opened and made by name."""

import hashlib

import msgspec

from domain.ids import Address, EscrowId, Sealed
from domain.roles import Role
from domain.states import Escrow
from domain.steps import Round
from eventstore.api import Vault
from schemas.sealing import SealedKind, key_of


class WalletSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What a hosted seat keeps sealed: its wallet's file name and password, and the seed of its identity key."""

    file: str
    password: str
    identity_seed: str

    def __repr__(self) -> str:
        return "WalletSecrets(…)"


class EscrowSecrets:
    """Opens and seals the fields of one escrow."""

    def __init__(self, vault: Vault, escrow_id: EscrowId) -> None:
        self._vault, self._id = vault, escrow_id

    async def seal(self, kind: SealedKind, qualifier: str, plain: str) -> Sealed:
        """Seals a text."""
        stream = key_of(self._id, kind)
        return Sealed(await self._vault.seal(stream, event=kind, field=qualifier, plain=plain.encode()))

    async def open(self, kind: SealedKind, qualifier: str, sealed: Sealed) -> str:
        """Opens a text; raises `SealBroken`, `Shredded` among them."""
        stream = key_of(self._id, kind)
        return (await self._vault.open(stream, event=kind, field=qualifier, sealed=sealed)).decode()

    async def seal_bytes(self, kind: SealedKind, qualifier: str, plain: bytes) -> bytes:
        """Seals what is no text, and is stored as it is."""
        return await self._vault.seal_bytes(key_of(self._id, kind), event=kind, field=qualifier, plain=plain)

    async def open_bytes(self, kind: SealedKind, qualifier: str, sealed: bytes) -> bytes:
        """Opens it; raises `SealBroken`, `Shredded` among them."""
        return await self._vault.open_bytes(key_of(self._id, kind), event=kind, field=qualifier, sealed=sealed)

    async def tag(self, kind: SealedKind, plain: str) -> str:
        """Fingerprints a text, keyed by the escrow."""
        return await self._vault.tag(key_of(self._id, kind), field=kind, plain=plain.encode())

    async def wallet(self, state: Escrow, role: Role) -> WalletSecrets:
        """Opens a hosted seat's wallet secrets."""
        sealed = state.core.seats[role].secrets
        assert sealed is not None
        return msgspec.json.decode(await self.open(SealedKind.WALLET, role, sealed), type=WalletSecrets)

    async def seal_wallet(self, role: Role, secrets: WalletSecrets) -> Sealed:
        """Seals a hosted seat's wallet secrets."""
        return await self.seal(SealedKind.WALLET, role, msgspec.json.encode(secrets).decode())

    async def payout_addresses(self, state: Escrow) -> dict[Role, Address]:
        """Opens the payout addresses that are set."""
        return {
            role: Address(await self.open(SealedKind.PAYOUT_ADDRESS, role, address.sealed))
            for role, address in state.core.addresses.items()
        }


def message_place(role: Role, round_: Round) -> str:
    """Names the place a set-up message is sealed for."""
    return f"{role.value}/{round_.value}"


def epoch_place(payout: int, epoch: int) -> str:
    """Names the place a transaction is sealed for."""
    return f"{payout}/{epoch}"


def digest_of(text: str) -> str:
    """Hashes a text; sha256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()
