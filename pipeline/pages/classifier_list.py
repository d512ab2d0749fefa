"""Which classifiers a page of the list shows, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipeline.artifacts.history import withdrawn_versions
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.overview import TREND, find_accuracy
from pipeline.pages.run_status import read_run_status
from pipeline.pages.schedule import Scheduled

PAGE_SIZE = 50
NAME = "name"
STATES = (  # what needs somebody first
    *("failed", "refused", "waiting", "running", "queued", "rejected", "rolled back", "superseded"),
    *("skipped", "ended", "deployed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order of the list.

    Args:
        column: `NAME`, or a key of `COLUMNS`.
        is_descending: Whether the largest comes first.
    """

    column: str = NAME
    is_descending: bool = False

    @classmethod
    def parse(cls, text: str) -> Order:
        """Return what an address says: a column, after `-` if it is descending; by name for any other."""
        column = text.removeprefix("-")
        if column not in (NAME, *COLUMNS):
            return cls()
        return cls(column=column, is_descending=text.startswith("-"))

    def __str__(self) -> str:
        """Return what an address says of it."""
        return f"-{self.column}" if self.is_descending else self.column

    def aria(self, column: str) -> str:
        """Return the value of `aria-sort` for a column."""
        if column != self.column:
            return "none"
        return "descending" if self.is_descending else "ascending"

    def after(self, column: str) -> str:
        """Return the order that a heading leads to: the other one if it is sorted by already."""
        is_descending = not self.is_descending if column == self.column else column in NEWEST_FIRST
        return str(Order(column=column, is_descending=is_descending))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierPage:
    """Some of the classifiers.

    Args:
        shown: Those of this page.
        total: How many are like what is looked for.
        page: Which page, from 1.
        pages: How many there are.
    """

    shown: list[Scheduled]
    total: int
    page: int
    pages: int


def choose_classifiers(
    cache: ArtifactCache,
    classifiers: Iterable[Scheduled],
    serving: Mapping[str, str],
    *,
    text: str = "",
    page: int = 1,
    order: Order | None = None,
) -> ClassifierPage:
    """Return a page of the classifiers whose name or description has a text; the last page for one beyond.

    Args:
        cache: The bucket.
        classifiers: What the scheduler has.
        serving: Default version by model.
        text: What is looked for; empty for all.
        page: Which page, from 1.
        order: Of all pages; by name without one. Those without a value come last either way.
    """
    wanted = text.strip().lower()
    matching = [each for each in classifiers if wanted in f"{each.name} {each.description}".lower()]
    matching = _sort(cache, matching, serving, order or Order())
    pages = max(1, -(-len(matching) // PAGE_SIZE))
    page = min(max(page, 1), pages)
    shown = matching[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return ClassifierPage(shown=shown, total=len(matching), page=page, pages=pages)


def _sort(
    cache: ArtifactCache, classifiers: list[Scheduled], serving: Mapping[str, str], order: Order
) -> list[Scheduled]:
    by_name = sorted(classifiers, key=lambda each: each.name)
    if order.column == NAME:
        return by_name[::-1] if order.is_descending else by_name
    value_of = COLUMNS[order.column]
    values = [(value_of(cache, each, serving.get(each.name)), each) for each in by_name]
    sortable = [(value, each) for value, each in values if value is not None]
    sortable.sort(key=lambda pair: pair[0], reverse=order.is_descending)
    return [each for _, each in sortable] + [each for value, each in values if value is None]


def _state(cache: ArtifactCache, scheduled: Scheduled, serving: str | None) -> int | None:
    name, run = scheduled.name, scheduled.last_run
    if run is None:
        return None
    word = read_run_status(cache, name, run, withdrawn_versions(cache.history(name, TREND))).word
    return STATES.index(word) if word in STATES else len(STATES)


def _accuracy(cache: ArtifactCache, scheduled: Scheduled, serving: str | None) -> float | None:
    history = cache.history(scheduled.name, TREND) if serving else ()
    return find_accuracy(cache, scheduled.name, serving, history)


def _last_run(cache: ArtifactCache, scheduled: Scheduled, serving: str | None) -> float | None:
    run = scheduled.last_run
    time = (run.ended or run.started) if run else None
    return time.timestamp() if time else None


def _next_run(cache: ArtifactCache, scheduled: Scheduled, serving: str | None) -> float | None:
    time = None if scheduled.is_paused else scheduled.next_run
    return time.timestamp() if time else None


COLUMNS: dict[str, Callable[[ArtifactCache, Scheduled, str | None], float | None]] = {
    "accuracy": _accuracy,
    "state": _state,
    "last_run": _last_run,
    "next_run": _next_run,
}
NEWEST_FIRST = ("last_run",)  # when they are sorted by first
