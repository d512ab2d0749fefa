"""The limits of fetching, and which private places a user has opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pipeline import __version__
from pipeline.config import FetchConfig, Settings
from pipeline.errors import ConfigError

MAX_REDIRECTS = 5
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What a fetch may do.

    Args:
        allowed: Host and port of the places that are reached whatever their address and port are.
        contact: An address of mail or a page that the User-Agent carries.
        config: The `dataset.fetch` section.
        num_tasks: How many tasks share the pace that one host bears.
        connect_seconds: Patience for a connection.
        read_seconds: Patience for the next bytes.
        header_seconds: Patience for all headers of an answer.
        grace_seconds: How long a slow start is borne.
        retry_after_cap: Longest pause, in seconds, that a server may ask for.
        attempts: Tries of one request, when it may work later.
    """

    allowed: frozenset[tuple[str, int]] = frozenset()
    contact: str = ""
    config: FetchConfig = FetchConfig()
    num_tasks: int = 1
    connect_seconds: float = 10.0
    read_seconds: float = 15.0
    header_seconds: float = 30.0
    grace_seconds: float = 5.0
    retry_after_cap: float = 60.0
    attempts: int = 3

    @classmethod
    def from_environment(cls, config: FetchConfig | None = None, *, num_tasks: int = 1) -> FetchPolicy:
        """Make the policy of `GRAFT_FETCH_ALLOW`, `GRAFT_FETCH_CONTACT` and a `dataset.fetch` section."""
        settings = Settings()
        return cls(
            allowed=parse_allowed(settings.fetch_allow),
            contact=settings.fetch_contact,
            config=config or FetchConfig(),
            num_tasks=num_tasks,
        )

    def naming(self, url: str) -> FetchPolicy:
        """Return the policy for an address that the user wrote: its host and port are open to it."""
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        return replace(self, allowed=self.allowed | {((parts.hostname or "").lower(), port)})

    @property
    def user_agent(self) -> str:
        """Who asks, and how to reach them."""
        contact = re.sub(r"[^\x20-\x7e]|[()]", "", self.contact)
        return f"graft/{__version__}" + (f" (+{contact})" if contact else "")


def parse_allowed(text: str) -> frozenset[tuple[str, int]]:
    """Read `GRAFT_FETCH_ALLOW`: `host:port` pairs separated by commas.

    Raises:
        ConfigError: if a part is not `host:port`.
    """
    allowed = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        host, _, port = part.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"GRAFT_FETCH_ALLOW wants host:port pairs separated by commas. Received: {part!r}"
            )
        allowed.add((host.strip("[]").lower(), int(port)))
    return frozenset(allowed)
