"""Reader tokens: each predicts with one model and does nothing else, until it is revoked.

`GRAFT_HOME/engine/reader_tokens.json` has their digests, or the database if engines share one. The tokens of
`tokens.json` are read once; these come and go while the engine runs.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import delete, select

from pipeline.engine.auth import token_digest
from pipeline.engine.store import ReaderTokenRow, Store
from pipeline.errors import ConfigError, FormatTooNew, NotFound, ResourceExhausted

FORMAT = 1
MAX_TOKENS = 50  # of a model
_PREDICT = re.compile(r"/v1/(projects/[^/]+/models/[^/:]+)(?:/versions/[^/:]+)?:predict")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderToken:
    """What is kept of a token.

    Args:
        id: Names it in lists and when it is revoked.
        model: The full name of the model that it may ask.
        name: Who or what it is for.
        created: When, in ISO 8601.
        sha256: Digest of the token.
    """

    id: str
    model: str
    name: str
    created: str
    sha256: str


class TokenKeeper(Protocol):
    """Keeps what is known of tokens while no engine runs."""

    def read(self) -> tuple[ReaderToken, ...]:
        """Return all of them, the oldest first."""

    def write(self, before: Sequence[ReaderToken], after: Sequence[ReaderToken]) -> None:
        """Keep other tokens than before."""


class ReaderTokens:
    """The reader tokens of an engine.

    Args:
        keeper: Keeps them.
    """

    def __init__(self, keeper: TokenKeeper) -> None:
        self._keeper = keeper
        self._lock = threading.Lock()
        self._tokens = keeper.read()  # replaced as a whole: requests read it without the lock

    def refresh(self) -> None:
        """Read the tokens again: another engine may have changed them."""
        self._tokens = self._keeper.read()

    def allows(self, authorization: str, method: str, path: str) -> bool:
        """Return True if a request is a prediction, and its token is one of the model's."""
        request = _PREDICT.fullmatch(path) if method == "POST" else None
        scheme, _, token = authorization.partition(" ")
        if request is None or scheme.lower() != "bearer":
            return False
        sent = token_digest(token.strip())
        digests = [each.sha256 for each in self._tokens if each.model == request[1]]
        return any([hmac.compare_digest(sent, digest) for digest in digests])

    def of_model(self, model: str) -> list[ReaderToken]:
        """Return the tokens of a model, the oldest first."""
        return [each for each in self._tokens if each.model == model]

    def create(self, model: str, name: str) -> tuple[ReaderToken, str]:
        """Make a token; return what is kept of it, and the token, which is not.

        Raises:
            ResourceExhausted: if the model has too many.
        """
        token = secrets.token_urlsafe(32)
        kept = ReaderToken(
            id=secrets.token_hex(8),
            model=model,
            name=name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            sha256=token_digest(token),
        )
        with self._lock:
            if len(self.of_model(model)) >= MAX_TOKENS:
                raise ResourceExhausted(
                    f"{model} has {MAX_TOKENS} tokens, the most there can be; revoke one."
                )
            self._keep((*self._tokens, kept))
        return kept, token

    def revoke(self, model: str, id: str) -> None:
        """Refuse a token from now on.

        Raises:
            NotFound: if the model has no such token.
        """
        with self._lock:
            rest = tuple(each for each in self._tokens if (each.model, each.id) != (model, id))
            if len(rest) == len(self._tokens):
                raise NotFound(f"{model} has no token of that id.", field="id")
            self._keep(rest)

    def revoke_all(self, model: str) -> None:
        """Refuse every token of a model from now on; a later model of its name has none."""
        with self._lock:
            rest = tuple(each for each in self._tokens if each.model != model)
            if len(rest) < len(self._tokens):
                self._keep(rest)

    def _keep(self, tokens: tuple[ReaderToken, ...]) -> None:
        self._keeper.write(self._tokens, tokens)
        self._tokens = tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A file, readable by its owner only, that is written as a whole.

    Args:
        path: The file; its directory is made.
    """

    path: Path

    def read(self) -> tuple[ReaderToken, ...]:
        """Return the tokens; none without the file.

        Raises:
            ConfigError: if it is not readable.
            FormatTooNew: if a newer version of Graft wrote it.
        """
        try:
            value = json.loads(self.path.read_text())
            FormatTooNew.check(f"file {self.path}", value["format"], FORMAT)
            return tuple(ReaderToken(**row) for row in value["tokens"])
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{self.path} is not readable: {error!r}. Restore it, or delete it: that revokes every "
                "reader token."
            ) from error

    def write(self, before: Sequence[ReaderToken], after: Sequence[ReaderToken]) -> None:
        """Write the file; without room nothing changes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"format": FORMAT, "tokens": [asdict(each) for each in after]}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


class TokenTable:
    """The table of a database that engines share.

    Tokens change within transactions of models, which hold the lease, so these are transactions of their own.

    Args:
        store: The database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store.fenced(None)

    def read(self) -> tuple[ReaderToken, ...]:
        """Return the tokens."""
        with self._store.begin() as session:
            rows = session.scalars(select(ReaderTokenRow).order_by(ReaderTokenRow.seq))
            return tuple(
                ReaderToken(
                    id=row.token_id, model=row.model, name=row.name, created=row.created, sha256=row.sha256
                )
                for row in rows
            )

    def write(self, before: Sequence[ReaderToken], after: Sequence[ReaderToken]) -> None:
        """Insert the new ones, and delete those that are gone."""
        gone = {each.id for each in before} - {each.id for each in after}
        with self._store.begin() as session:
            session.execute(delete(ReaderTokenRow).where(ReaderTokenRow.token_id.in_(gone)))
            session.add_all(
                ReaderTokenRow(
                    token_id=each.id,
                    model=each.model,
                    name=each.name,
                    created=each.created,
                    sha256=each.sha256,
                )
                for each in after
                if each not in before
            )
