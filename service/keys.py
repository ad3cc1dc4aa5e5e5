"""Keys that the embedded defaults make for themselves: files in the data folder that only their owner reads."""

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from eventstore.heads import key_id_of
from service.settings import Settings

KEY_BYTES = 32
ENCRYPTION_FILE, ISSUER_FILE, HEAD_FILE = "encryption.key", "token_issuer.key", "head_signing.key"
OLD_ENCRYPTION_FILE = "encryption.old.key"
HEAD_KEYS_FILE = "head_keys.txt"
"""Public: every key with which this data folder's service signed heads, one a line."""


class KeyFileWrong(Exception):
    """A key file does not hold 64 hex digits or may be read by others."""

    def __init__(self, *, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def encryption_key(settings: Settings) -> bytes:
    """Returns the key that wraps the escrows' keys (32 bytes), made at the first start; raises `KeyFileWrong`."""
    return settings.encryption_key or _kept(settings.thirdkey_home / ENCRYPTION_FILE)


def has_encryption_key(settings: Settings) -> bool:
    """Says whether there is a key that wraps the escrows' keys, without making one."""
    return settings.encryption_key is not None or (settings.thirdkey_home / ENCRYPTION_FILE).exists()


def other_keys(settings: Settings) -> tuple[bytes, ...]:
    """Returns the keys that open beside `encryption_key`: those before it, and the next; raises `KeyFileWrong`.

    Beside the key in the data folder the one before it may lie, as `encryption.old.key`.
    """
    kept = settings.thirdkey_home / OLD_ENCRYPTION_FILE
    old = (_kept(kept),) if settings.encryption_key is None and kept.exists() else ()
    new = (settings.encryption_key_next,) if settings.encryption_key_next else ()
    return (*settings.encryption_key_old, *old, *new)


def issuer_key(settings: Settings) -> Ed25519PrivateKey:
    """Returns the embedded token issuer's key, made when first used; raises `KeyFileWrong`."""
    return Ed25519PrivateKey.from_private_bytes(_kept(settings.thirdkey_home / ISSUER_FILE))


def trusted_issuer(settings: Settings) -> Ed25519PublicKey:
    """Returns the key that tokens must be signed with; raises `KeyFileWrong`."""
    if settings.issuer_public_key is not None:
        return Ed25519PublicKey.from_public_bytes(settings.issuer_public_key)
    return issuer_key(settings).public_key()


def head_key(settings: Settings) -> Ed25519PrivateKey:
    """Returns the key that signs heads, made when first used, and notes its public key; raises `KeyFileWrong`."""
    key = Ed25519PrivateKey.from_private_bytes(settings.head_signing_key or _kept(settings.thirdkey_home / HEAD_FILE))
    public, known = key_id_of(key.public_key()), known_head_keys(settings)
    if public not in known:
        settings.thirdkey_home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (settings.thirdkey_home / HEAD_KEYS_FILE).open("a") as file:
            file.write(f"{public}\n")
    return key


def has_head_key(settings: Settings) -> bool:
    """Says whether there is a key to sign heads with, without making one."""
    return settings.head_signing_key is not None or (settings.thirdkey_home / HEAD_FILE).exists()


def known_head_keys(settings: Settings) -> list[str]:
    """Names the public keys (64 hex digits) that the data folder's service signed heads with."""
    path = settings.thirdkey_home / HEAD_KEYS_FILE
    return path.read_text().split() if path.exists() else []


def _kept(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        make_key(path)
    return key_in(path)


def key_in(path: Path) -> bytes:
    """Reads the key (32 bytes) in a file that only its owner reads; raises `KeyFileWrong`, `OSError`."""
    if path.stat().st_mode & 0o077:
        raise KeyFileWrong(path=path, reason="readable by others; expected mode 0600")
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileWrong(path=path, reason="expected 64 hex digits")
    return key


def make_key(path: Path) -> None:
    """Writes a new key into a file that only its owner reads, unless another process was first; raises `OSError`."""
    # Written whole under another name first: two processes that start at once must end with one key, a crash with none.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
