"""Looking for secrets: every form in which a text or some bytes could lie in a file, and where to look for them."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from actors.sealed import EscrowSecrets, epoch_place, message_place
from domain import events as e
from domain.events import AnyEvent
from domain.ids import Sealed
from eventstore.embedded_os import programs
from schemas.sealing import SealedKind

LEAST = 12
"""Characters of a secret that are looked for at the least: shorter ones are found everywhere."""


def forms(secret: str | bytes) -> Iterator[bytes]:
    """Yields a secret as it is, in hex, in base64 at each offset it can have in a longer text, and in UTF-16."""
    plain = secret.encode() if isinstance(secret, str) else secret
    assert len(plain) >= LEAST, "too short to be told from chance"
    yield plain
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for offset in range(3):
        # The ends depend on what stands beside it: only what is the secret's alone is looked for.
        coded = base64.b64encode(bytes(offset) + plain)
        inner = coded[-(-offset * 4 // 3) + (1 if offset else 0) : len(coded) - 4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
    if isinstance(secret, str):
        yield secret.encode("utf-16-le")


def found(canaries: Mapping[str, str | bytes], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Names each secret that is found anywhere, with the place."""
    wanted = {name: set(forms(secret)) for name, secret in canaries.items()}
    return [
        (name, place)
        for place, text in places.items()
        for name, patterns in wanted.items()
        if any(pattern in text for pattern in patterns)
    ]


async def opened(events: Sequence[AnyEvent], sealing: EscrowSecrets) -> Mapping[str, str]:
    """Opens every sealed field of a life, by event and number."""
    texts: dict[str, str] = {}
    for number, event in enumerate(events, start=1):
        for kind, place, sealed in _sealed(event):
            texts[f"{kind} of event {number}"] = await sealing.open(kind, place, sealed)
    return texts


def _sealed(event: AnyEvent) -> Iterator[tuple[SealedKind, str, Sealed]]:
    match event:
        case e.PayoutAddressSet():
            yield SealedKind.PAYOUT_ADDRESS, event.role, event.address
        case e.WalletClaimed():
            yield SealedKind.WALLET, event.role, event.secrets
        case e.SetupMessageGiven():
            yield SealedKind.SETUP_MESSAGE, message_place(event.role, event.round), event.message
        case e.AddressConfirmed():
            yield SealedKind.VIEW_KEY, event.role, event.view_key
        case e.ExportGiven():
            yield SealedKind.EXPORT, event.role, event.export
        case e.PayoutProposed():
            yield SealedKind.TX_SET, epoch_place(event.payout, event.epoch), event.tx_set
        case e.PayoutSigned():
            yield SealedKind.SIGNED_TX, epoch_place(event.payout, event.epoch), event.signed
        case e.DisputeOpened() | e.DisputeClaimAdded():
            yield SealedKind.CLAIM, event.by, event.claim
        case e.EvidenceAdded():
            yield SealedKind.PICTURE_DESCRIPTION, event.photo_id, event.description
        case e.DisputeMessageAdded():
            yield SealedKind.MESSAGE, event.by, event.message
        case e.DisputeDecided():
            yield SealedKind.DECISION_REASON, "arbiter", event.reason
            if event.reason_salt is not None:
                yield SealedKind.REASON_SALT, "arbiter", event.reason_salt
        case e.RecoveryActionTaken():
            yield SealedKind.ADMIN_NOTES, "", event.notes
        case _:
            return


# -- where a database keeps things ---------------------------------------------------------------------------


async def tables(connection: Any) -> bytes:
    """Writes every column of every row of every table; bytes as hex."""
    names = await connection.fetch(
        "select c.oid::regclass::text from pg_class c where relkind in ('r', 'm')"
        " and relnamespace = 'public'::regnamespace"
    )
    rows = [row[0] async for (name,) in _each(names) for row in await connection.fetch(f"select t::text from {name} t")]
    return "\n".join(rows).encode()


async def _each(rows: Sequence[Any]) -> AsyncIterator[Any]:
    for row in rows:
        yield row


async def dump(dsn: str) -> bytes:
    """Writes the database as `pg_dump` does, in plain text."""
    process = await asyncio.create_subprocess_exec(
        *(str(programs() / "pg_dump"), f"--dbname={dsn}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out


async def keep_wal(connection: Any) -> int:
    """Keeps the write-ahead log from here on, for as long as the connection; returns where it ends, in bytes."""
    slot = f"canary_{secrets.token_hex(6)}"
    await connection.execute(f"select pg_create_physical_replication_slot('{slot}', true, true)")
    return await _wal_end(connection)


async def wal(connection: Any, *, since: int) -> bytes:
    """Reads the files of the write-ahead log from a position on, as they lie on disk."""
    size = await connection.fetchval("select setting::bigint from pg_settings where name = 'wal_segment_size'")
    until, parts = await _wal_end(connection), []
    for start in range(since - since % size, until, size):
        name = await connection.fetchval("select pg_walfile_name('0/0'::pg_lsn + $1::numeric)", start + 1)
        skipped = max(since - start, 0)
        part = await connection.fetchval(
            "select pg_read_binary_file('pg_wal/' || $1, $2, $3)", name, skipped, min(until - start, size) - skipped
        )
        parts.append(part)
    return b"".join(parts)


async def _wal_end(connection: Any) -> int:
    return int(await connection.fetchval("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


async def server_log(connection: Any) -> bytes:
    """Reads the server's own log; a server of somebody else's may keep it where it cannot be read."""
    try:
        return bytes(await connection.fetchval("select pg_read_binary_file('server.log')"))
    except asyncpg.UndefinedFileError:
        return b""
