"""The wallet processes that an operator names: read from the settings or a file, each the slot of one role."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from actors.given_slot import GivenHost, is_loopback
from actors.jsonrpc import Access
from actors.slots import Slot
from actors.wallet_files import FolderFiles
from actors.wallet_rpc import Observer
from domain.roles import THREE, Role
from service.setting_values import BadValue, url
from service.settings import Settings

ENTRIES_MAX = 3_000
FILE_MAX_BYTES = 4 * 1_048_576
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{64}")


class GivenSlotsWrong(Exception):
    """The configured wallet processes cannot be used; each mistake is one sentence, without anything secret."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)


class GivenSlot(msgspec.Struct, frozen=True, kw_only=True):
    """One wallet process and whose slot it is."""

    url: str
    role: Role
    access: Access
    wallet_dir: Path

    @property
    def name(self) -> str:
        """Names the process, not its place in the list: leases go by it, and the list may change its order."""
        mark = hashlib.sha256(_place(self.url).encode()).hexdigest()[:8]
        return f"rpc-{urlsplit(self.url).port}-{mark}"


def given_slots(settings: Settings) -> tuple[GivenSlot, ...]:
    """Reads what is configured now, none for a service that runs its own; raises `GivenSlotsWrong`."""
    if settings.monero_rpc_file is not None:
        entries = _from_file(settings.monero_rpc_file)
    elif settings.monero_rpc_urls:
        entries = _from_urls(settings)
    else:
        return ()
    mistakes = list(_mistakes(entries))
    if mistakes:
        raise GivenSlotsWrong(mistakes)
    return tuple(
        GivenSlot(
            url=entry.url,
            role=THREE[number % len(THREE)],
            access=_access(entry),
            wallet_dir=Path(entry.wallet_dir),
        )
        for number, entry in enumerate(entries)
    )


def slot_of(given: GivenSlot, *, call_max_s: float, observer: Observer | None = None) -> Slot:
    """Makes the slot of a process that somebody else runs."""
    files = FolderFiles(given.wallet_dir)
    host = GivenHost(given.url, access=given.access, files=files, call_max_s=call_max_s, observer=observer)
    return Slot(name=given.name, role=given.role, files=files, host=host, given=True)


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    user: str | None = None
    password: str | None = None
    fingerprint: str | None = None
    wallet_dir: str = ""


def _from_urls(settings: Settings) -> tuple[_Entry, ...]:
    folder = settings.monero_rpc_wallet_dir
    return tuple(
        _Entry(
            url=entry,
            user=settings.monero_rpc_user,
            password=settings.monero_rpc_password,
            wallet_dir=str(folder / THREE[number % len(THREE)].value) if folder else "",
        )
        for number, entry in enumerate(settings.monero_rpc_urls)
    )


def _from_file(path: Path) -> tuple[_Entry, ...]:
    try:
        return msgspec.json.decode(_own(path), type=tuple[_Entry, ...])
    except OSError as broken:
        raise GivenSlotsWrong([f"{path} cannot be read: {broken.strerror}"]) from None
    except msgspec.ValidationError as wrong:  # names the place and the kind of value, never the value
        raise GivenSlotsWrong([f"{path}: {wrong}"]) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise GivenSlotsWrong([f"{path}: not valid JSON"]) from None


def _own(path: Path) -> bytes:
    """Reads a file with logins, which its owner alone may read."""
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        if stat.S_IMODE(about.st_mode) & 0o077 or about.st_uid != os.geteuid():
            raise GivenSlotsWrong([f"{path} holds logins: expected it to be this user's own, with mode 0600"])
        if about.st_size > FILE_MAX_BYTES:
            raise GivenSlotsWrong([f"{path}: expected at most {FILE_MAX_BYTES} bytes"])
        return file.read(FILE_MAX_BYTES)


def _mistakes(entries: Sequence[_Entry]) -> Iterator[str]:
    if not len(THREE) <= len(entries) <= ENTRIES_MAX:
        yield f"expected {len(THREE)} to {ENTRIES_MAX} wallet processes, one at least for each of the three roles"
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries, start=1):
        wrong = list(_wrong_with(entry))
        yield from (f"entry {number}: {each}" for each in wrong)
        first = (number - 1) % len(THREE)
        if not wrong and not _same_folder(entry.wallet_dir, entries[first].wallet_dir):
            yield f"entry {number}: wallet_dir: expected the folder of entry {first + 1}, which has the same role"
        place = _place(entry.url) if not wrong else ""
        if place and seen.setdefault(place, number) != number:
            yield f"entry {number}: the same process as entry {seen[place]}"


def _wrong_with(entry: _Entry) -> Iterator[str]:
    try:
        url(entry.url)
    except BadValue as bad:
        yield f"url: {bad}"
        return
    secure = urlsplit(entry.url).scheme == "https"
    if not secure and not is_loopback(entry.url):
        yield "url: expected https to another machine, because wallets' passwords are sent"
    if secure and not _fingerprint(entry):
        yield "fingerprint: expected the SHA-256 of the certificate, 64 hex digits, with an https address"
    if entry.fingerprint and not secure:
        yield "fingerprint: expected only with an https address"
    if (entry.user is None) != (entry.password is None):
        yield "user, password: expected both or none"
    if not entry.wallet_dir:
        yield (
            "wallet_dir: expected the folder of its wallet files as this machine reaches it (MONERO_RPC_WALLET_DIR for "
            "MONERO_RPC_URLS); without it a round of a set-up whose answer is lost has no way back"
        )
    elif not os.access(entry.wallet_dir, os.R_OK | os.W_OK | os.X_OK) or not Path(entry.wallet_dir).is_dir():
        yield "wallet_dir: expected a folder that this user may read and write"


def _same_folder(one: str, other: str) -> bool:
    """Says whether two names lead to one folder: a seat's wallet has to be found from every slot of its role."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return True  # there is no such folder, which is said of its own entry


def _place(address: str) -> str:
    parts = urlsplit(address)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return f"{host}:{parts.port}"


def _fingerprint(entry: _Entry) -> bytes | None:
    text = (entry.fingerprint or "").replace(":", "")
    return bytes.fromhex(text) if _FINGERPRINT.fullmatch(text) else None


def _access(entry: _Entry) -> Access:
    return Access(user=entry.user, password=entry.password, fingerprint=_fingerprint(entry))
