"""Bearer tokens: only their SHA-256 is kept, and comparisons take constant time.

`GRAFT_HOME/engine/tokens.json` is `{"tokens": [{"sha256": "<hex>", "name": "...", "role": "reader"}]}`.
Each role may do what the one before it may; without `role` a token is a deployer's. Without the file the
engine is open, and refuses to listen anywhere but on loopback.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pipeline.errors import ConfigError, FormatTooNew, PermissionDenied, Unauthenticated

FORMAT = 1  # of tokens.json
DIGEST = re.compile(r"[0-9a-fA-F]{64}")
PREDICTIONS = (":predict", ":predictMany", ":explain")
TOKEN_LIST = re.compile(r"/v1/projects/[^/]+/models/[^/]+/tokens/?")
JOBS = re.compile(r"/v1/projects/[^/]+/jobs(?:$|[/:])")


class Role(StrEnum):
    """Who may do what, from the least to the most."""

    READER = "reader"  # read everything, predict
    TRAINER = "trainer"  # and create, change and cancel jobs
    DEPLOYER = "deployer"  # and change models and versions

    def includes(self, other: Role) -> bool:
        """Return True if this role may do all that the other may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


def role_for(method: str, path: str) -> Role:
    """Return the least role that may send a request; unknown requests are the deployer's."""
    if TOKEN_LIST.fullmatch(path):
        return Role.DEPLOYER
    if method in ("GET", "HEAD", "OPTIONS") or (method == "POST" and path.endswith(PREDICTIONS)):
        return Role.READER
    is_feedback = method == "POST" and path.endswith(":feedback")
    return Role.TRAINER if JOBS.match(path) or is_feedback else Role.DEPLOYER


def token_file(home: Path) -> Path:
    """Return where an engine keeps its tokens."""
    return home / "engine" / "tokens.json"


def token_digest(token: str) -> str:
    """Return the digest that is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The tokens that an engine accepts; without any it is open.

    Args:
        roles: The role of each token, by its SHA-256 in hex.
        names: Likewise whose each token is, where that is known.
    """

    def __init__(self, roles: Mapping[str, Role], names: Mapping[str, str] | None = None) -> None:
        self._roles = {digest.lower(): role for digest, role in roles.items()}
        self._names = {digest.lower(): name for digest, name in (names or {}).items()}

    @property
    def is_open(self) -> bool:
        """Whether requests need no token."""
        return not self._roles

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a token file; a missing one means an open engine.

        Raises:
            ConfigError: if the file is there but holds no token, or an unknown role.
            FormatTooNew: if a newer version of Graft wrote it.
        """
        try:
            value = json.loads(path.read_text())
            FormatTooNew.check(f"file {path}", value.get("format", 0), FORMAT)
            rows = value["tokens"]
            roles = {row["sha256"]: Role(row.get("role", Role.DEPLOYER)) for row in rows}
            names = {row["sha256"]: str(row.get("name", "")) for row in rows}
        except FileNotFoundError:
            return cls({})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(_how_to(path, f"not readable: {error!r}")) from error
        if not roles or not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in roles):
            raise ConfigError(_how_to(path, "it has no SHA-256 digest"))
        return cls(roles, names)

    def name_of(self, authorization: str) -> str:
        """Return whose token an `Authorization` header carries; empty if that is not known."""
        return self._names.get(token_digest(authorization.partition(" ")[2].strip()), "")

    def check(self, authorization: str, needed: Role = Role.READER) -> None:
        """Check an `Authorization` header.

        Raises:
            Unauthenticated: if it carries none of the tokens.
            PermissionDenied: if its token's role is not enough.
        """
        if self.is_open:
            return
        scheme, _, token = authorization.partition(" ")
        sent = token_digest(token.strip())
        matches = [role for digest, role in self._roles.items() if hmac.compare_digest(sent, digest)]
        if scheme.lower() != "bearer" or not matches:
            raise Unauthenticated(
                "Request had invalid authentication credentials. Expected the header "
                "`Authorization: Bearer TOKEN` with a token of this engine."
            )
        if not matches[0].includes(needed):
            raise PermissionDenied(f"This needs a token of role {needed}; the one given is a {matches[0]}'s.")


def _how_to(path: Path, problem: str) -> str:
    return (
        f'{path}: {problem}; expected {{"tokens": [{{"sha256": "<64 hex digits>", "name": "...", '
        f'"role": "{"|".join(Role)}"}}]}}.'
    )
