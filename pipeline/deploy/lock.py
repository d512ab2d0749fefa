"""Turns: one promotion of a classifier at a time, whichever machine it runs on.

v1's `setDefault` has no compare-and-set, so "look at the default, then set it" needs a lock. It is made of
what every bucket can do: create an object only if it is absent. Turn `n` belongs to whoever creates
`promotions/n.json`, which is possible once turn `n - 1` has an `n - 1.done` beside it. A holder that died
leaves its turn open; after `abandon_seconds` the next one may be taken. A holder that is slower than half of
that must not act any more, which `Turn.is_valid` says. Whoever gives a name takes its own open turn over at
once: the retry of a task that was killed need not wait, and the killed one, should it live on, sees that its
turn is another's.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.errors import StorageError
from pipeline.ml_engine.protocol import Clock, SystemClock
from pipeline.storage import Storage

log = logging.getLogger(__name__)

ABANDON_SECONDS = 600.0
POLL_SECONDS = 0.1
KEPT_LOCKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionLock:
    """The right to change what serves.

    Args:
        number: Its place in the order of promotions.
        began: When it was taken.
        clock: Tells how long ago that is.
        abandon_seconds: After which others may believe that the holder died.
        is_mine: Whether nobody of the same name has taken it over.
    """

    number: int
    began: float
    clock: Clock
    abandon_seconds: float
    is_mine: Callable[[], bool]

    @property
    def is_valid(self) -> bool:
        """Whether nobody else can have this turn or the next one yet."""
        return self.clock.now() - self.began < self.abandon_seconds / 2 and self.is_mine()


@contextmanager
def acquire_lock(
    storage: Storage,
    workspace: str,
    classifier: str,
    *,
    subject: str = "promotions",
    holder: str = "",
    clock: Clock | None = None,
    abandon_seconds: float = ABANDON_SECONDS,
) -> Iterator[PromotionLock]:
    """Wait for the right to change what a classifier serves, and give it back.

    Args:
        storage: Where turns are taken.
        workspace: The bucket of the classifier.
        classifier: Whose turn it is.
        subject: What is changed in turns: what serves, unless it names something else.
        holder: Name of the work, which its next try has too.
        clock: Paces the wait.
        abandon_seconds: After which another's open turn counts as abandoned.

    Raises:
        StorageError: if no turn came within twice the time after which one counts as abandoned.
    """
    clock = clock or SystemClock()
    folder = f"{workspace}/classifiers/{classifier}/{subject}"
    deadline = clock.now() + 2 * abandon_seconds
    claim = {"holder": holder or uuid.uuid4().hex, "try": uuid.uuid4().hex}
    while (number := _claim(storage, folder, claim, clock, abandon_seconds)) is None:
        if clock.now() > deadline:
            seconds = 2 * abandon_seconds
            raise StorageError(f"No turn for the {subject} of {classifier} within {seconds:.0f} s.")
        clock.sleep(POLL_SECONDS)
    uri = f"{folder}/{number:09d}.json"
    lock = PromotionLock(
        number=number,
        began=clock.now(),
        clock=clock,
        abandon_seconds=abandon_seconds,
        is_mine=lambda: bool(storage.read_json(uri)["try"] == claim["try"]),
    )
    try:
        yield lock
    finally:
        if lock.is_mine():
            storage.create_bytes(f"{folder}/{number:09d}.done", b"")
            _forget(storage, folder, number - KEPT_LOCKS)


def _claim(
    storage: Storage, folder: str, claim: Mapping[str, str], clock: Clock, abandon_seconds: float
) -> int | None:
    names = {uri.rpartition("/")[2] for uri in storage.list_uris(f"{folder}/")}
    last = max((int(name.partition(".")[0]) for name in names), default=0)
    stamped = {"at": clock.now(), **claim}
    if last and f"{last:09d}.done" not in names:
        taken = storage.read_json(f"{folder}/{last:09d}.json")
        if taken["holder"] == claim["holder"]:
            log.info("turn %d of %s is this work's own; an earlier try left it open", last, folder)
            storage.write_json(f"{folder}/{last:09d}.json", stamped)
            return last
        if clock.now() - taken["at"] < abandon_seconds:
            return None
        log.warning("turn %d of %s was abandoned by its holder", last, folder)
    won = storage.create_bytes(f"{folder}/{last + 1:09d}.json", json.dumps(stamped).encode())
    return last + 1 if won else None


def _forget(storage: Storage, folder: str, last: int) -> None:
    for uri in storage.list_uris(f"{folder}/"):
        if int(uri.rpartition("/")[2].partition(".")[0]) <= last:
            storage.delete(uri)
