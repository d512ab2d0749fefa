"""Which addresses may be asked: the guard against requests to private places (SSRF).

A host name proves nothing, because its owner decides what it resolves to, and may change it between a check
and the connection. So a name is resolved once, every answer is checked, and the connection goes to a
checked answer.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from pipeline.datasets.fetcher.policy import DEFAULT_PORTS, FetchPolicy
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.errors import FetchRefused

MAX_URL_LENGTH = 4096
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# The only range of which IANA assigns public IPv6 addresses; ::ffff:0:a.b.c.d of IPv4 translation, local and
# multicast addresses lie outside. Mapped IPv4 and NAT64 do too, but the address that they carry is checked.
_UNICAST = ipaddress.ip_network("2000::/3")
# Multicast, and IANA's registries of special-purpose addresses (RFC 6890 and its updates, as of November
# 2026). `ipaddress` of Python 3.11 takes several of them for public.
SPECIAL_PURPOSE = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]


def resolve_host(host: str, port: int) -> list[str]:
    """Return every address of a host."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


def is_public(text: str) -> bool:
    """Return True if an address belongs to the public internet, whatever it is wrapped in."""
    try:
        address = _carried(ipaddress.ip_address(text))
    except ValueError:  # an address with a scope, such as fe80::1%eth0
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or _is_isatap(address)):
        return False
    return address.is_global and not any(address in network for network in SPECIAL_PURPOSE)


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    """Return True if an interface of ISATAP (RFC 5214) tunnels to the IPv4 address that it carries."""
    return (int(address) >> 32) & 0xFDFFFFFF == 0x00005EFE


def _carried(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def split_url(url: str) -> SplitResult:
    """Return the parts of an `http(s)` address.

    Raises:
        FetchRefused: `bad_url`, if it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    bad = any(character <= " " or character in "\\\x7f" for character in url)
    if (
        bad
        or len(url) > MAX_URL_LENGTH
        or parts.scheme not in DEFAULT_PORTS
        or not parts.hostname
        or port == 0
    ):
        raise FetchRefused(f"{url[:200]!r} is no http(s) address.", reason=FetchReason.BAD_URL)
    try:
        if not parts.hostname.isascii():
            parts.hostname.encode("idna")
    except UnicodeError:
        raise FetchRefused(f"{url[:200]!r} names no possible host.", reason=FetchReason.BAD_URL) from None
    return parts


def check_port(parts: SplitResult, policy: FetchPolicy) -> None:
    """Refuse every port but the usual ones, unless it was opened.

    Raises:
        FetchRefused: `port_not_allowed`.
    """
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    if port not in DEFAULT_PORTS.values() and not is_opened(parts.hostname or "", port, policy):
        raise FetchRefused(
            f"{parts.hostname}:{port} is not asked: only ports 80 and 443 are, unless GRAFT_FETCH_ALLOW "
            "opens another.",
            reason=FetchReason.PORT_NOT_ALLOWED,
        )


def is_opened(host: str, port: int, policy: FetchPolicy) -> bool:
    """Return True if the user opened exactly this host and port."""
    return (host.lower(), port) in policy.allowed


def find_addresses(host: str, port: int, policy: FetchPolicy, resolve: Resolver = resolve_host) -> list[str]:
    """Resolve a host once and return its addresses, all of them checked.

    Raises:
        FetchRefused: `unknown_host`, or `private_address` if any answer is not public.
    """
    try:
        addresses = resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise FetchRefused(f"{host} cannot be resolved: {error}.", reason=FetchReason.UNKNOWN_HOST) from error
    private = [address for address in addresses if not is_public(address)]
    if (private or not addresses) and not is_opened(host, port, policy):
        raise FetchRefused(
            f"{host}:{port} is at {', '.join(private)}, which is no public address; GRAFT_FETCH_ALLOW can "
            "open it.",
            reason=FetchReason.PRIVATE_ADDRESS,
        )
    return addresses
