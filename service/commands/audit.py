"""`thirdkey audit`: the whole log checked, one escrow's bundle made, and a bundle checked far from any log."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from actors.clock import SystemClock
from domain.events import DisputeDecided
from domain.ids import Micros
from eventstore.api import LogUnavailable
from eventstore.embedded_os import EmbeddedFailed
from eventstore.grouped import LogLimits
from eventstore.leaf_tree import TreeShort
from projections.differences import differences
from projections.opening import on_pool
from schemas.answers import moment
from schemas.codec import UnknownEvent, decode
from service.audit import HeadSources, Verified
from service.audit_processes import verify_together
from service.bundle import SINCE_MAX, BundleMaker, BundleTooLong
from service.bundle_check import BundleChecked, check_bundle
from service.evidence_told import evidence_told
from service.head_checks import Outside
from service.head_signer import HeadSigner
from service.heads_file import HeadsUnreadable, own_heads_files, read_heads
from service.keys import KeyFileWrong, has_head_key, head_key, known_head_keys
from service.read_log import NoLog, Read, reading_at
from service.reading import database, reading_heads
from service.replay import story
from service.settings import Settings
from service.spread import ProcessFailed

FINDINGS_SHOWN = 20
DECIDED = "dispute_decided"
BUNDLE_BYTES_MAX = 256 << 20
KEY_SHOWN = 16
"""Hex digits of a key that a line shows."""


class KeyUnreadable(Exception):
    """What was given as a key is neither 64 hex digits nor a file of such lines."""


_WRONG = (NoLog, LogUnavailable, EmbeddedFailed, HeadsUnreadable, KeyUnreadable, KeyFileWrong, ProcessFailed, OSError)
"""What an auditor can mend."""


# -- the whole log -------------------------------------------------------------------------------------------


async def verify(
    settings: Settings, *, heads: Path | None = None, keys: Sequence[str] = (), processes: int | None = None
) -> int:
    """Prints what was checked; returns 1 when anything is wrong, with the first findings and their count."""
    try:
        outside = _outside(*([heads] if heads else own_heads_files(settings)))
        trusted, trust = _trust(settings, keys)
        async with AsyncExitStack() as stack:
            dsn = await database(stack, settings)
            read = await stack.enter_async_context(reading_at(dsn))
            sources = HeadSources(stored=read.heads, outside=outside, trusted=trusted)
            verified = await verify_together(
                read,
                sources,
                dsn=dsn,
                processes=processes,
                progress=_progress("events checked"),
                comparing=_progress("draws compared"),
            )
            models, _ = on_pool(read.pool, partitions=read.log.partitions, limits=LogLimits())
            differ = await differences(read.log, models, told=_progress("events folded"))
    except _WRONG as wrong:
        return _failed(wrong)
    print(told(verified))
    print(_heads_told(verified, outside), trust, *_draws_told(verified), sep="\n")
    for finding in verified.findings[:FINDINGS_SHOWN]:
        print(f"  {finding}")
    print(f"read models: {len(differ)} differences to the log" if differ else "read models: as the log makes them")
    for each in differ[:FINDINGS_SHOWN]:
        print(f"  {each.model}, partition {each.partition}, {each.subject}: {each.says}")
    return 1 if verified.count or differ else 0


def told(verified: Verified) -> str:
    """Says in a sentence what a check came to."""
    where = f"{verified.events} events of {verified.streams} streams ({verified.escrows} escrows)"
    where += f" in {verified.partitions} partitions"
    if not verified.count:
        return f"{where}: every leaf, chain, head and transition is right"
    return f"{where}: {verified.count} findings, the first: {verified.findings[0]}"


def _heads_told(verified: Verified, outside: Outside) -> str:
    against = f", with {outside.name} and its {len(outside.heads)}" if outside.name else ""
    says = f"signed heads: {verified.heads} checked{against}"
    if verified.uncovered:
        says += f"; the newest {verified.uncovered} events are not covered by one yet"
    return says if outside.name else f"{says}; no heads file: a tail cut off together with its heads would not show"


def _draws_told(verified: Verified) -> Iterator[str]:
    if verified.links or verified.draws:
        says = f"draws: {verified.draws} compared with the {verified.links} links that were taken"
        yield f"{says}; no escrow was created with {verified.unused} of them" if verified.unused else says


def _trust(settings: Settings, keys: Sequence[str]) -> tuple[frozenset[str] | None, str]:
    """Says whose heads are believed, and on whose word."""
    if keys:
        given = trusted_keys(keys)
        return given, f"keys: the {len(given)} given with --key"
    own = frozenset(known_head_keys(settings))
    if own:
        says = "keys: those of the service's own folder; whoever controls it could have put them there (see --key)"
        return own, says
    return None, "keys: none given and none in the data folder, so heads were taken from whatever key they name"


def trusted_keys(values: Sequence[str]) -> frozenset[str]:
    """Reads keys: each value 64 hex digits, or a file with one of them a line; raises `KeyUnreadable`, `OSError`."""
    found: set[str] = set()
    for value in values:
        words = [value] if re.fullmatch("[0-9a-fA-F]{64}", value) else Path(value).read_text().split()
        if not words or not all(re.fullmatch("[0-9a-fA-F]{64}", word) for word in words):
            raise KeyUnreadable("a key is 64 hex digits, or a file with one of them a line")
        found.update(word.lower() for word in words)
    return frozenset(found)


def _outside(*paths: Path) -> Outside:
    """Reads heads kept elsewhere; each counts once, however many nodes wrote it down."""
    heads = dict.fromkeys(head for path in paths for head in read_heads(path))
    return Outside(name=", ".join(dict.fromkeys(path.name for path in paths)), heads=tuple(heads))


# -- a bundle made -------------------------------------------------------------------------------------------


async def export(settings: Settings, escrow_id: str, *, out: Path | None = None, heads: Path | None = None) -> int:
    """Writes an escrow's bundle to a file, or to standard output, and returns 0; 1 when there is none to write.

    Its newest events are signed first where the key is here and no service has the duty. `heads` are earlier heads: the
    bundle then shows that the log only grew since each of the newest of them.
    """
    try:
        known = _outside(*([heads] if heads else [])).heads
        async with reading_heads(settings) as read:
            partition = read.log.partition_of(escrow_id)
            await _sign_first(settings, read, partition)
            since = sorted({head.position for head in known if head.partition == partition})[-SINCE_MAX:]
            bundle = await BundleMaker(read.log, read.heads, clock=SystemClock()).make(escrow_id, since=since)
    except (*_WRONG, BundleTooLong, TreeShort, UnicodeDecodeError) as wrong:
        return _failed(wrong)
    if bundle is None:
        print(f"there is nothing of {escrow_id} in the log", file=sys.stderr)
        return 1
    _write(msgspec.json.format(msgspec.json.encode(bundle), indent=1) + b"\n", out)
    uncovered = sum(event.path is None for event in bundle.events)
    if uncovered:
        print(f"the newest {uncovered} events are not covered by a signed head yet", file=sys.stderr)
    return 0


async def _sign_first(settings: Settings, read: Read, partition: int) -> None:
    if not has_head_key(settings):
        return
    signer = HeadSigner(read, head_key(settings), clock=SystemClock())
    for head in _outside(*own_heads_files(settings)).heads:
        signer.remember(head)
    end = next(end for end in await read.log.heads() if end.partition == partition)
    if end.position:
        await signer.sign(end)
        await signer.release()
    for reason in signer.alarms.values():
        print(f"not signed: {reason}", file=sys.stderr)


def _write(content: bytes, out: Path | None) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        return
    # Sealed fields are in it, and what the three agreed on: its owner decides who else reads it.
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


# -- a bundle checked ----------------------------------------------------------------------------------------


def check(bundle: Path, *, keys: Sequence[str] = (), heads: Path | None = None) -> int:
    """Tells what a bundle holds and whether it is right; returns 1 when anything is wrong. Asks nobody anything."""
    try:
        trusted = trusted_keys(keys) if keys else None
        outside = _outside(heads) if heads else None
        if bundle.stat().st_size > BUNDLE_BYTES_MAX:
            raise OSError(f"{bundle} is larger than {BUNDLE_BYTES_MAX} bytes")
        content = bundle.read_bytes()
    except _WRONG as wrong:
        return _failed(wrong)
    checked = check_bundle(content, trusted=trusted, outside=outside)
    for line in _story(checked):
        print(line)
    for line in _verdict(checked, outside, trusted=trusted):
        print(line)
    return 1 if checked.findings else 0


def _story(checked: BundleChecked) -> list[str]:
    try:
        return list(story(checked.events))
    except Exception as impossible:
        # Changed events make no life; what is wrong with them is among the findings.
        return [f"these events tell no story: {type(impossible).__name__}"]


def _verdict(checked: BundleChecked, outside: Outside | None, *, trusted: frozenset[str] | None) -> list[str]:
    head, lines = checked.proven_by, [""]
    if head is not None:
        signed = f"signed {moment(Micros(head.signed_at))} with key {head.key_id[:KEY_SHOWN]}…"
        lines.append(f"proven by the head of partition {head.partition} at position {head.position}, {signed}")
        if trusted is None:
            lines.append(
                "no key was given (--key): whoever made this bundle could have made that key as well; it is"
                f" {head.key_id}"
            )
    lines += _decisions(checked)
    lines += evidence_told(checked.events)
    if checked.uncovered:
        lines.append(f"the newest {checked.uncovered} events are not covered by a signed head yet: nothing proves them")
    if outside is not None:
        others = f"; of {checked.not_compared} others it says nothing" if checked.not_compared else ""
        lines.append(f"compared with {checked.compared} heads of {outside.name}{others}")
    lines.append("whether the escrow has later events that this bundle leaves out, no bundle can show")
    if not checked.findings:
        return [*lines, f"verdict: right, {len(checked.events)} events of {checked.escrow_id}"]
    found = [f"  {says}" for says in checked.findings]
    return [*lines, f"verdict: WRONG, {len(found)} findings", *found]


def _decisions(checked: BundleChecked) -> Iterator[str]:
    """Tells by whose key a decision is signed; whether rightly, the findings say."""
    for recorded in checked.events:
        if recorded.type == DECIDED:
            try:
                decided = decode(type=recorded.type, schema_version=recorded.schema_version, body=recorded.body)
            except UnknownEvent:
                continue  # that is among the findings
            if isinstance(decided, DisputeDecided) and decided.signed is not None:
                yield f"decision: {decided.verdict.value}, signed with the arbiter's key {decided.signed.key}"


# -- both ----------------------------------------------------------------------------------------------------


def _failed(wrong: BaseException) -> int:
    print(f"{type(wrong).__name__}: {wrong}", file=sys.stderr)
    return 1


def _progress(what: str) -> Callable[[int, int], None]:
    """Shows on a terminal how far a long check is; silent elsewhere."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r{done} of {total} {what}", end=end, file=sys.stderr, flush=True)

    return show
