"""The promotion lock: one promotion of a classifier at a time, whichever machine it runs on.

v1's `setDefault` has no compare-and-set, so "look at the default, then set it" needs a lock. It is made of
what every bucket can do: create an object only if it is absent. Lock `n` belongs to whoever creates
`promotions/n.json`, which is possible once lock `n - 1` is released: `n - 1.done` lies beside it. A holder
that died leaves its lock open; after `abandon_seconds` the next one may be taken. A holder that is slower
than half of that must not act any more: `PromotionLock.is_valid`. A holder with a name takes its own open
lock over at once: the retry of a task that was killed need not wait, and the killed one, should it live on,
sees that its lock is another's.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.artifacts.codec import strip_format
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import StorageError
from pipeline.patience import Clock, SystemClock
from pipeline.storage import Storage
from pipeline.types import JsonDict

log = logging.getLogger(__name__)

FORMAT = 1  # of a claim
ABANDON_SECONDS = 600.0
POLL_SECONDS = 0.1
KEPT_LOCKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionLock:
    """The right to change what serves.

    Args:
        number: Its place in the order of promotions.
        began: When it was taken.
        clock: Measures how long ago that is.
        abandon_seconds: After which others may believe that the holder died.
        is_mine: Whether no other try of the same holder has taken it over.
    """

    number: int
    began: float
    clock: Clock
    abandon_seconds: float
    is_mine: Callable[[], bool]

    @property
    def is_valid(self) -> bool:
        """Whether nobody else can hold this lock or the next one yet."""
        return self.clock.now() - self.began < self.abandon_seconds / 2 and self.is_mine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who holds a lock.

    Args:
        at: When it was taken, seconds since the epoch.
        holder: Name of the work, which its next try has too.
        attempt: This try of it.
    """

    at: float
    holder: str
    attempt: str

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {"format": FORMAT, "at": self.at, "holder": self.holder, "try": self.attempt}

    @classmethod
    def read(cls, storage: Storage, uri: str) -> Claim:
        """Read what `to_dict` wrote."""
        value = storage.read_json(uri)
        strip_format(value, FORMAT, cls)
        return cls(at=value["at"], holder=value["holder"], attempt=value["try"])


@contextmanager
def acquire_lock(
    workspace: Workspace,
    classifier: str,
    *,
    subject: str = "promotions",
    holder: str = "",
    clock: Clock | None = None,
    abandon_seconds: float = ABANDON_SECONDS,
) -> Iterator[PromotionLock]:
    """Wait for the right to change what a classifier serves, and release it.

    Args:
        workspace: Where the lock is.
        classifier: Whose lock it is.
        subject: What is changed under the lock: what serves, unless it names something else.
        holder: Name of the work, which its next try has too.
        clock: Paces the wait.
        abandon_seconds: After which another's open lock counts as abandoned.

    Raises:
        StorageError: if it was not acquired within twice the time after which one counts as abandoned.
    """
    clock = clock or SystemClock()
    folder, storage = workspace.classifier(classifier).lock(subject), workspace.storage
    deadline = clock.now() + 2 * abandon_seconds
    holder, attempt = holder or uuid.uuid4().hex, uuid.uuid4().hex
    while True:
        claim = Claim(at=clock.now(), holder=holder, attempt=attempt)
        number = _claim(storage, folder, claim, abandon_seconds)
        if number is not None:
            break
        if clock.now() > deadline:
            seconds = 2 * abandon_seconds
            raise StorageError(f"The {subject} of {classifier} stayed locked for {seconds:.0f} s.")
        clock.sleep(POLL_SECONDS)
    uri = f"{folder}/{number:09d}.json"
    lock = PromotionLock(
        number=number,
        began=clock.now(),
        clock=clock,
        abandon_seconds=abandon_seconds,
        is_mine=lambda: Claim.read(storage, uri).attempt == attempt,
    )
    try:
        yield lock
    finally:
        if lock.is_mine():
            storage.create_bytes(f"{folder}/{number:09d}.done", b"")
            _forget(storage, folder, number - KEPT_LOCKS)


def _claim(storage: Storage, folder: str, claim: Claim, abandon_seconds: float) -> int | None:
    names = {uri.rpartition("/")[2] for uri in storage.list_uris(f"{folder}/")}
    last = max((int(name.partition(".")[0]) for name in names), default=0)
    if last and f"{last:09d}.done" not in names:
        held = Claim.read(storage, f"{folder}/{last:09d}.json")
        if held.holder == claim.holder:
            log.info("lock %d of %s is this work's own; an earlier try left it open", last, folder)
            storage.write_json(f"{folder}/{last:09d}.json", claim.to_dict())
            return last
        if claim.at - held.at < abandon_seconds:
            return None
        log.warning("lock %d of %s was abandoned by its holder", last, folder)
    content = json.dumps(claim.to_dict()).encode()
    return last + 1 if storage.create_bytes(f"{folder}/{last + 1:09d}.json", content) else None


def _forget(storage: Storage, folder: str, last: int) -> None:
    for uri in storage.list_uris(f"{folder}/"):
        if int(uri.rpartition("/")[2].partition(".")[0]) <= last:
            storage.delete(uri)
