"""How the classes of a dataset version differ from those of an earlier one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artifacts.record import Record

MAIN_SHARE = 0.5  # of the pictures that both versions have: what more than this share has, a class has


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassChanges(Record):
    """How the classes differ from the champion's.

    Args:
        added: Classes that the champion does not know.
        removed: Classes that only the champion knows.
        renamed: Added classes by the removed one whose pictures they have.
        merged: Classes by the removed one whose pictures they have beside those of others.
        reused: Classes of both whose pictures had another label: the same name for something else.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    reused: tuple[str, ...] = ()

    @classmethod
    def between(
        cls, before: Collection[str], after: Collection[str], moves: Iterable[tuple[str, str]]
    ) -> ClassChanges:
        """Return how classes changed.

        A removed class became the one that most of its pictures have now. It was renamed if it alone became
        an added class, and merged if others have that name too. A class that was split became none.

        Args:
            before: The classes that there were.
            after: The classes that there are.
            moves: Label before and after of each picture that both have.
        """
        there_are = frozenset(after)
        went: dict[str, Counter[str]] = defaultdict(Counter)
        came: dict[str, Counter[str]] = defaultdict(Counter)
        for old, new in moves:
            if new in there_are:
                went[old][new] += 1
                came[new][old] += 1
        added = tuple(label for label in after if label not in before)
        removed = tuple(label for label in before if label not in after)
        became = _find_successors(went, came, removed, added)
        sharers = Counter(became.values())
        renamed = {old: new for old, new in became.items() if new in added and sharers[new] == 1}
        return cls(
            added=added,
            removed=removed,
            renamed=renamed,
            merged={old: new for old, new in became.items() if old not in renamed},
            reused=tuple(
                label
                for label in after
                if _is_reused(label, came[label], became)
                and (label in sharers if label in added else _is_gone(label, went[label]))
            ),
        )

    @property
    def successors(self) -> dict[str, str]:
        """What the champion's classes that were renamed or merged are called now."""
        return {**self.renamed, **self.merged}

    def comparable(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return which of the candidate's classes the champion knows, under whatever name."""
        unknown = {*self.added} - {*self.successors.values()} | {*self.reused}
        return tuple(label for label in classes if label not in unknown)

    @property
    def text(self) -> str:
        """The changes in words; empty if there is none."""
        successors = self.successors
        added = [label for label in self.added if label not in successors.values()]
        removed = [label for label in self.removed if label not in successors]
        renamed = [f"{old} to {new}" for old, new in self.renamed.items()]
        merged = [f"{old} into {new}" for old, new in self.merged.items()]
        lists = (
            ("added", added),
            ("removed", removed),
            ("renamed", renamed),
            ("merged", merged),
            ("reused the names", self.reused),
        )
        return "; ".join(f"{verb} {', '.join(labels)}" for verb, labels in lists if labels)


def _find_successors(
    went: Mapping[str, Counter[str]],
    came: Mapping[str, Counter[str]],
    removed: Sequence[str],
    added: Sequence[str],
) -> dict[str, str]:
    """Return the class that each removed one became, for those that became one.

    Args:
        went: Labels now of the pictures of each class that there was.
        came: Labels before of the pictures of each class that there is.
        removed: Classes that there are no more.
        added: Classes that there were not.
    """
    targets = {old: _main(labels) for old, labels in went.items()}
    parts = Counter(_main(came[new]) for new in added if new in came)
    return {
        old: new
        for old in removed
        if (new := targets.get(old)) is not None
        and parts[old] <= 1  # else it was split
        and (new in added or targets.get(new) in (None, new))  # else that name went to something else
    }


def _main(labels: Counter[str]) -> str | None:
    """Return the label that more than half have, if one does."""
    total = labels.total()
    return next((label for label, count in labels.items() if count > MAIN_SHARE * total), None)


def _is_gone(label: str, now: Counter[str]) -> bool:
    """Whether half or more of the pictures that a class had are now in another class."""
    return bool(now) and now[label] <= MAIN_SHARE * now.total()


def _is_reused(label: str, before: Counter[str], became: Mapping[str, str]) -> bool:
    """Whether more than half of a class's pictures belonged to another class."""
    others = sum(count for old, count in before.items() if became.get(old, old) != label)
    return others > MAIN_SHARE * before.total()
