"""TLS to a wallet process: the certificate whose fingerprint is configured, and no other, sees a login."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actors.jsonrpc import Access
from actors.ports import WalletUnknown
from actors.simulation import SimChain, SimFolder, SimWallet
from actors.wallet_rpc import HttpWallet
from tests.wallet_server import served

LOGIN = ("u", "correct-horse")


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, bytes]:
    """Makes a certificate nobody has signed but itself, as operators do; returns a server's context and its SHA-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, made.fingerprint(hashes.SHA256())


def wallet() -> SimWallet:
    return SimWallet(chain=SimChain(), folder=SimFolder())


def access(fingerprint: bytes | None) -> Access:
    return Access(user=LOGIN[0], password=LOGIN[1], fingerprint=fingerprint)


async def test_the_pinned_certificate_is_enough_although_nobody_signed_it(tmp_path: Path) -> None:
    context, fingerprint = certificate(tmp_path, "ours")
    async with served(wallet(), login=LOGIN, tls=context) as server:
        client = HttpWallet(server.url, access=lambda: access(fingerprint))
        await client.create_wallet("w", password="pw")
        await client.close_wallet()
        await client.aclose()
        assert server.calls == ["create_wallet", "close_wallet"]


@pytest.mark.parametrize("pinned", [True, False])
async def test_another_certificate_is_refused_before_anything_is_sent(tmp_path: Path, pinned: bool) -> None:
    _, expected = certificate(tmp_path, "ours")
    theirs, _ = certificate(tmp_path, "theirs")
    async with served(wallet(), login=LOGIN, tls=theirs) as server:
        # Without a fingerprint the certificate has to be one that this machine trusts, and it is nobody's.
        client = HttpWallet(server.url, access=lambda: access(expected if pinned else None))
        with pytest.raises(WalletUnknown, match="other certificate"):
            await client.open_wallet("w", password="pw")
        await client.aclose()
        assert server.asked == []


async def test_a_certificate_that_was_renewed_is_accepted_once_it_is_configured(tmp_path: Path) -> None:
    _, old = certificate(tmp_path, "old")
    context, new = certificate(tmp_path, "new")
    now = access(old)
    async with served(wallet(), login=LOGIN, tls=context) as server:
        client = HttpWallet(server.url, access=lambda: now)
        with pytest.raises(WalletUnknown):
            await client.get_version()
        now = access(new)
        await client.get_version()
        await client.aclose()
