"""The file that lets another machine join a team's stack, and how both ends of the connection use it.

It has a token and the certificate of the stack's gateway. The certificate is its own authority: a machine
trusts that one and no other, so it needs no name, and nothing is sent in the clear.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import socket
import ssl
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pipeline import __version__
from pipeline.errors import ConfigError
from pipeline.stack.servers import write_secret

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

DEFAULT_PORT = 8470
YEARS = 10  # of a certificate
LINE_BYTES = 2**24  # the classifiers of a stack are one line
# [IPv6], a bare one, or a name or IPv4; then perhaps a port.
_ADDRESS = re.compile(
    r"(?:\[([0-9a-fA-F:.%]+)\]|((?:[0-9a-fA-F]*:){2,}[0-9a-fA-F:.]*)|([^\s/@:\[\]]+))(?::(\d+))?"
)
# A host that has lost its power or its cable is noticed after 20 s.
SILENT_SECONDS = 20
_KEEPALIVE = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 1000 * SILENT_SECONDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFile:
    """What another machine needs besides the address.

    Args:
        token: Shows that a machine may join.
        certificate: Of the gateway, as PEM.
    """

    token: str = field(repr=False)
    certificate: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a join file.

        Raises:
            ConfigError: if it cannot be read, or is none.
        """
        where = "The stack's machine has it at $GRAFT_HOME/servers/join.json: copy it again, unchanged."
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return cls(token=str(value["token"]), certificate=str(value["certificate"]))
        except OSError as error:
            raise ConfigError(f"The join file {path} cannot be read: {error.strerror}. {where}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no join file. {where}") from error

    def write(self, path: Path) -> None:
        """Write it for its owner alone."""
        write_secret(path, json.dumps({"format": 1, **asdict(self)}))


def join_file(home: Path) -> Path:
    """Return where a home keeps its join file: its own, or that of the stack it has joined."""
    return home / "servers" / "join.json"


def key_file(home: Path) -> Path:
    """Return the file with the gateway's private key and its certificate."""
    return home / "servers" / "gateway.pem"


def ensure_join_file(home: Path) -> JoinFile:
    """Return the join file of a stack, made now if need be, together with the gateway's key."""
    path = join_file(home)
    if not path.exists() or not key_file(home).exists():
        certificate = make_key(key_file(home), "graft gateway")
        JoinFile(token=secrets.token_urlsafe(32), certificate=certificate).write(path)
    return JoinFile.read(path)


def make_key(path: Path, name: str, host: str = "") -> str:
    """Write a new private key and its self-signed certificate as PEM; return the certificate.

    Args:
        path: Of the file.
        name: What it is for, for people.
        host: Whose it is, where clients check that.
    """
    key, certificate = _make_certificate(name, host)
    write_secret(path, key + certificate)
    return certificate


def _make_certificate(common_name: str, host: str) -> tuple[str, str]:
    """Return a new private key and its self-signed certificate, both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def _general_name(host: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_context(home: Path) -> ssl.SSLContext:
    """Return the TLS settings of the gateway."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(key_file(home))
    return context


def client_context(file: JoinFile) -> ssl.SSLContext:
    """Return the TLS settings of a machine that joins: the one certificate, by whatever address.

    Raises:
        ConfigError: if the file has no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate is the gateway's own, and no other is trusted
    try:
        context.load_verify_locations(cadata=file.certificate)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("The join file has no certificate: copy it again, unchanged.") from error
    return context


def notice_silence(connection: socket.socket) -> None:
    """Let a connection end when the other host is silent, instead of hours later."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Read HOST, HOST:PORT or [IPV6]:PORT.

    Args:
        text: The address.
        default_port: Of an address that names none.

    Raises:
        ConfigError: if it is none of them.
    """
    match = _ADDRESS.fullmatch(text)
    host = (match[1] or match[2] or match[3]) if match else ""
    port = int(match[4] or default_port) if match else 0
    if not 0 < port < 2**16:
        raise ConfigError(
            f"An address is HOST or HOST:PORT, such as 10.0.0.5:{default_port}. Received: {text!r}"
        )
    return host, port


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_everywhere(host: str) -> bool:
    """Return True if a host stands for every address of a machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_listening(address: str) -> bool:
    """Return True if something takes connections at HOST:PORT."""
    host, port = parse_address(address)
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def own_versions() -> dict[str, str]:
    """Return the versions that both ends must have in common."""
    return {
        "graft": __version__,
        "airflow": version("apache-airflow-core"),
        "python": ".".join(map(str, sys.version_info[:2])),
    }
