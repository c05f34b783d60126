"""Certificates of a test, signed by a CA of its own."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)


class Authority:
    """A CA that writes its certificate, and those that it signs, to a folder."""

    def __init__(self, folder, name="ca"):
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        made = self._build(self._name, self._key).add_extension(basic, critical=True)
        self.file = self._write(name, made, self._key)[0]

    def sign(self, name, *hosts):
        """Return the files of a new certificate and its key, for hosts or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._build(subject, key)
        if hosts:
            names = [
                x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
                for host in hosts
            ]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return self._write(name, made, key)

    def _build(self, subject, key):
        now, own = datetime.now(UTC), self._key.public_key()
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), False)
        )

    def _write(self, name, made, key):
        signed = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        for file, content in zip(files, (signed, plain), strict=True):
            file.write_bytes(content)
            file.chmod(0o600)
        return files
