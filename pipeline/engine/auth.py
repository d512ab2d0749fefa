"""Bearer tokens: only their SHA-256 is kept, and comparisons take the same time whatever they are given.

`GRAFT_HOME/engine/tokens.json` is `{"tokens": [{"sha256": "<hex>", "name": "..."}]}`. Without the file the
engine is open, and refuses to listen anywhere but on loopback.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from pipeline.errors import ConfigError, Unauthenticated


def token_file(home: Path) -> Path:
    """Return where an engine keeps its tokens."""
    return home / "engine" / "tokens.json"


def token_digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The tokens an engine takes; none at all means that it is open.

    Args:
        digests: SHA-256 of each token, in hex.
    """

    def __init__(self, digests: list[str]) -> None:
        self._digests = [digest.lower() for digest in digests]

    @property
    def is_open(self) -> bool:
        """Whether requests need no token."""
        return not self._digests

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a token file; a missing one means an open engine.

        Raises:
            ConfigError: if the file is there but holds no token.
        """
        try:
            digests = [row["sha256"] for row in json.loads(path.read_text())["tokens"]]
        except FileNotFoundError:
            return cls([])
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(_how_to(path, f"not readable: {error!r}")) from error
        if not digests or not all(isinstance(digest, str) and len(digest) == 64 for digest in digests):
            raise ConfigError(_how_to(path, "it has no SHA-256 digest"))
        return cls(digests)

    def check(self, authorization: str) -> None:
        """Check an `Authorization` header.

        Raises:
            Unauthenticated: if it carries none of the tokens.
        """
        if self.is_open:
            return
        scheme, _, token = authorization.partition(" ")
        given = token_digest(token.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Unauthenticated(
                "Request had invalid authentication credentials. Expected the header "
                "`Authorization: Bearer TOKEN` with a token of this engine."
            )


def _how_to(path: Path, problem: str) -> str:
    return f'{path}: {problem}; expected {{"tokens": [{{"sha256": "<64 hex digits>", "name": "..."}}]}}.'
