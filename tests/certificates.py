"""Certificates and keys, as files in PEM."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

LIFETIME = timedelta(days=30)
# Short enough to be over, whenever the tests run.
EXPIRED = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))


def make_certificate(directory: Path, name: str, *, issuer: str | None = None, san: str = "IP:127.0.0.1") -> None:
    """Write NAME.pem and NAME.key, signed by the issuer in the same directory or by itself."""
    now = datetime.now(UTC)
    _make(directory, name, issuer=issuer, san=san, validity=(now - timedelta(minutes=1), now + LIFETIME))


def make_expired_certificate(directory: Path, name: str, *, issuer: str) -> None:
    """Write NAME.pem and NAME.key, good for one day of 2020."""
    _make(directory, name, issuer=issuer, san="IP:127.0.0.1", validity=EXPIRED)


def lock_key(directory: Path, name: str, *, password: str, into: str) -> None:
    """Write the key NAME.key once more, encrypted with the password, as INTO.key."""
    key = load_pem_private_key((directory / f"{name}.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    _write_key(directory / f"{into}.key", key, BestAvailableEncryption(password.encode()))


def _make(directory: Path, name: str, *, issuer: str | None, san: str, validity: tuple[datetime, datetime]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string(f"CN={name}")
    signer, signed_by = key, subject
    if issuer:
        loaded = load_pem_private_key((directory / f"{issuer}.key").read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
        signed_by = x509.load_pem_x509_certificate((directory / f"{issuer}.pem").read_bytes()).subject
    usage = dict.fromkeys(
        (
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
            "key_cert_sign crl_sign encipher_only decipher_only"
        ).split(),
        False,
    )
    usage["digital_signature" if issuer else "key_cert_sign"] = True
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=False)
        .add_extension(x509.SubjectAlternativeName([_san(each) for each in san.split(",")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, SHA256())
    )
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    _write_key(directory / f"{name}.key", key, NoEncryption())


def _san(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    return x509.IPAddress(ip_address(value)) if kind == "IP" else x509.DNSName(value)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
