"""Certificates made with openssl."""

import subprocess
from pathlib import Path

# What `openssl ca` wants, which alone can make a certificate whose time is over.
_CA = """
[ca]
default_ca = own
[own]
database = expired.index
new_certs_dir = .
default_md = sha256
rand_serial = yes
copy_extensions = copy
policy = any
[any]
commonName = supplied
"""


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def make_certificate(directory: Path, name: str, *, issuer: str | None = None, san: str = "IP:127.0.0.1") -> None:
    """NAME.pem and NAME.key in the directory, signed by the issuer or by itself."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
    use = "digitalSignature" if issuer else "keyCertSign"
    extensions = ["-addext", f"subjectAltName={san}", "-addext", f"keyUsage={use}"]
    about = ["-subj", f"/CN={name}", "-days", "30", *extensions]
    openssl("req", "-x509", *key, *signed, *about, "-out", f"{name}.pem", cwd=directory)


def make_expired_certificate(directory: Path, name: str, *, issuer: str) -> None:
    """NAME.pem and NAME.key, good for one day of 2020."""
    (directory / "expired.index").touch()
    (directory / "expired.cnf").write_text(_CA)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    about = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl("req", *key, *about, "-out", f"{name}.csr", cwd=directory)
    signed = ["-cert", f"{issuer}.pem", "-keyfile", f"{issuer}.key", "-in", f"{name}.csr", "-out", f"{name}.pem"]
    days = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
    openssl("ca", "-batch", "-notext", "-config", "expired.cnf", *signed, *days, cwd=directory)
