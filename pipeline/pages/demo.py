"""Demo pages: links that let anybody ask one classifier, without an account.

A key is `ID.SECRET`. The id finds the record of the link, the digest of the whole key is compared with it.
"""

from __future__ import annotations

import math
import re
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.artifacts.demo_link import DemoLink, key_digest
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache

MAX_LINKS = 20  # of a classifier
_ID = re.compile(r"[0-9a-f]{16}")
_KEY = re.compile(r"([0-9a-f]{16})\.[A-Za-z0-9_-]{43}")


def list_links(cache: ArtifactCache, name: str) -> list[DemoLink]:
    """Return the links of a classifier, the oldest first."""
    folder = cache.workspace.classifier(name).demo_links
    links = [DemoLink.find(cache.storage, uri) for uri in cache.storage.list_uris(folder)]
    return sorted((link for link in links if link), key=lambda link: (link.created, link.id))


def create_link(cache: ArtifactCache, name: str, label: str, *, by: str) -> tuple[DemoLink, str]:
    """Make a link; return what is kept of it, and its key, which is not.

    Args:
        cache: The bucket.
        name: The classifier.
        label: Who or what it is for.
        by: Who makes it.

    Raises:
        ConfigError: if the classifier has too many.
    """
    folder = cache.workspace.classifier(name)
    if len(cache.storage.list_uris(folder.demo_links)) >= MAX_LINKS:
        raise ConfigError(f"{name} has {MAX_LINKS} demo links, the most there can be. Revoke one first.")
    id = secrets.token_hex(8)
    key = f"{id}.{secrets.token_urlsafe(32)}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    link = DemoLink(id=id, name=label, by=by, created=now, key_sha256=key_digest(key))
    link.write(cache.storage, folder.demo_link(id))
    return link, key


def revoke_link(cache: ArtifactCache, name: str, id: str) -> None:
    """Refuse the key of a link from now on.

    Raises:
        ObjectNotFound: if the classifier has no such link.
    """
    uri = cache.workspace.classifier(name).demo_link(id)
    if not _ID.fullmatch(id) or not cache.storage.exists(uri):
        raise ObjectNotFound(f"{name} has no such demo link; it may be revoked already.")
    cache.storage.delete(uri)


def find_link(cache: ArtifactCache, name: str, key: str) -> DemoLink | None:
    """Return the link that a key opens; None if it opens none of this classifier."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    link = DemoLink.find(cache.storage, cache.workspace.classifier(name).demo_link(match[1]))
    return link if link and link.opens_with(key) else None


class LinkQuota:
    """Pictures that each link may ask about in a minute, counted in this process.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}  # how many are left, and when that was so

    def spend(self, id: str, per_minute: int) -> int:
        """Count a picture; return how many seconds to wait if that is one too many, else 0."""
        with self._lock:
            now = self._clock()
            before, since = self._left.get(id, (float(per_minute), now))
            left = min(float(per_minute), before + (now - since) * per_minute / 60)
            if left < 1:
                return math.ceil((1 - left) * 60 / per_minute)
            self._left[id] = (left - 1, now)
            return 0
