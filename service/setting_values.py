"""How single settings are read from text, without floats; each parser raises `BadValue` with what it expected."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from nacl.exceptions import CryptoError
from nacl.public import PublicKey, SealedBox

from domain.ids import UserId
from domain.roles import THREE, Role, SeatKind

PPM = 1_000_000
NAMES_MAX = 100
PORT_MAX = 65_535
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}")
_FRACTION = re.compile(r"(0|1)(?:\.([0-9]{1,6}))?")
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class BadValue(Exception):
    """What is wrong with a value; never the value itself, which may be a secret."""


def whole(*, least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number between two bounds, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) <= most:
            raise BadValue(f"expected a whole number from {least} to {most}")
        return int(text)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """Reads one of several words."""

    def parse(text: str) -> str:
        if text not in words:
            raise BadValue(f"expected one of {', '.join(words)}")
        return text

    return parse


def yes_no(text: str) -> bool:
    """Reads true or false, yes or no, 1 or 0."""
    if text.lower() not in _YES_NO:
        raise BadValue("expected true or false")
    return _YES_NO[text.lower()]


def ppm(text: str) -> int:
    """Reads a fraction such as 0.02 as parts per million (20,000), digit by digit."""
    found = _FRACTION.fullmatch(text)
    parts = int(found[1]) * PPM + int((found[2] or "").ljust(6, "0")) if found else PPM + 1
    if parts > PPM:
        raise BadValue("expected a fraction from 0 to 1 with at most six decimals, such as 0.02")
    return parts


def hex_bytes(text: str) -> bytes:
    """Reads 32 bytes as 64 hex digits."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise BadValue("expected 64 hex digits")
    return bytes.fromhex(text)


def backup_key(text: str) -> str:
    """Reads an X25519 public key as 64 hex digits; one that everybody could open is refused."""
    key = hex_bytes(text)
    try:
        SealedBox(PublicKey(key)).encrypt(b"")
    except CryptoError:
        raise BadValue("expected a public key as `thirdkey backup keygen` prints it") from None
    return key.hex()


def hex_keys(text: str) -> tuple[bytes, ...]:
    """Reads keys of 32 bytes between commas, each as 64 hex digits."""
    return tuple(hex_bytes(entry) for entry in text_list(text))


def text_list(text: str) -> tuple[str, ...]:
    """Reads entries between commas; none may be empty."""
    entries = tuple(entry.strip() for entry in text.split(","))
    if not all(entries) or len(entries) > NAMES_MAX:
        raise BadValue(f"expected 1 to {NAMES_MAX} entries between commas, none empty")
    return entries


def users(text: str) -> tuple[UserId, ...]:
    """Reads one user or several between commas."""
    entries = text_list(text)
    if not all(_NAME.fullmatch(entry) for entry in entries) or len(set(entries)) != len(entries):
        raise BadValue("expected different users, each of letters, digits and ._@:+-")
    return tuple(UserId(entry) for entry in entries)


def urls(text: str) -> tuple[str, ...]:
    """Reads http(s) addresses between commas, without a login in them."""
    entries = text_list(text)
    if not all(_is_url(entry) for entry in entries):
        raise BadValue("expected http:// or https:// addresses between commas, without a login in them")
    return entries


def url(text: str) -> str:
    """Reads one http(s) address with its port, without a login in it."""
    if not _is_url(text) or not re.fullmatch(r".+:[0-9]{1,5}/?", text.partition("://")[2]):
        raise BadValue("expected an http:// or https:// address with its port, without a login or a path in it")
    return text


def database(text: str) -> str:
    """Reads the address of a database, as its driver takes it: one host or several, each port a number."""
    try:
        parts = urlsplit(text)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
        ports += [port for given in parse_qs(parts.query).get("port", ()) for port in given.split(",")]
    except ValueError:
        ports = ["?"]
    if not text.startswith(("postgresql://", "postgres://")) or not all(map(_is_port, filter(None, ports))):
        raise BadValue("expected postgresql://USER:PASSWORD@HOST:PORT/NAME, the port a number up to 65535")
    return text


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) <= PORT_MAX


def origin(text: str) -> str:
    """Reads where a site is reached: https://, or http:// on loopback or an onion service, without a path."""
    if not _is_url(text) or not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+/?", text):
        raise BadValue("expected an http:// or https:// address without a login or a path in it")
    parts = urlsplit(text)
    if parts.scheme == "http" and not (is_loopback(parts.hostname or "") or (parts.hostname or "").endswith(".onion")):
        raise BadValue("expected https://, since a login crosses the network; http:// on loopback or an onion service")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Says whether a host is this machine itself, without asking anybody for its name."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def seconds_four(text: str) -> tuple[int, int, int, int]:
    """Reads four rising numbers of seconds."""
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9}){3}", text):
        raise BadValue("expected four numbers of seconds between commas")
    one, two, three, four = (int(entry) for entry in text.split(","))
    if not 0 < one < two < three < four:
        raise BadValue("expected four rising numbers of seconds")
    return one, two, three, four


def seat_kinds(text: str) -> dict[Role, SeatKind]:
    """Reads one kind for all three seats, or `buyer=…,vendor=…,arbiter=…`."""
    try:
        if "=" not in text:
            return dict.fromkeys(THREE, SeatKind(text))
        pairs = [entry.split("=") for entry in text_list(text)]
        kinds = {Role(role): SeatKind(kind) for role, kind in pairs}
    except ValueError:
        kinds = {}
    if set(kinds) != set(THREE):
        raise BadValue("expected relay, registered or pool, or one of them for each: buyer=…,vendor=…,arbiter=…")
    return kinds


def _is_url(entry: str) -> bool:
    try:
        parts = urlsplit(entry)
        in_range = parts.port is None or parts.port > 0  # reading it raises where it is not
        return in_range and parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
