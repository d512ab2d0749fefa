"""Reader tokens: each predicts with one model and does nothing else, until it is revoked.

`GRAFT_HOME/engine/reader_tokens.json` has their digests. The tokens of `tokens.json` are read once; these
come and go while the engine runs.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.engine.auth import token_digest
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


class ReaderTokens:
    """The reader tokens of an engine.

    Args:
        path: The file that keeps them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._tokens = _read(path)  # replaced as a whole: requests read it without the lock

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
        """Write the file as a whole, readable by its owner only; without room nothing changes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"format": FORMAT, "tokens": [asdict(each) for each in tokens]}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)
        self._tokens = tokens


def _read(path: Path) -> tuple[ReaderToken, ...]:
    try:
        value = json.loads(path.read_text())
        FormatTooNew.check(f"file {path}", value["format"], FORMAT)
        return tuple(ReaderToken(**row) for row in value["tokens"])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} is not readable: {error!r}. Restore it, or delete it: that revokes every reader token."
        ) from error
