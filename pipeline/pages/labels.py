"""Suspected labels of the newest evaluated run, without those that a person decided on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture, pending_decisions, read_pictures
from pipeline.pages.schedule import Run

MAX_SHOWN = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A training picture whose label is in doubt.

    Args:
        picture: The picture.
        predicted: What the others make of it.
        own: Probability of its own label, by a model that has not seen it.
    """

    picture: Picture
    predicted: str
    own: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What a run doubts.

    Args:
        run_id: The run.
        version: Its dataset version.
        examined: Training pictures that were looked at.
        count: How many are in doubt.
        decided: On how many of them somebody decided since.
        shown: The first of the others, the least confident label first.
    """

    run_id: str
    version: str
    examined: int
    count: int
    decided: int
    shown: Sequence[Suspect]


def find_suspects(cache: ArtifactCache, name: str, runs: Iterable[Run]) -> Suspects | None:
    """Return what the newest of these runs that was evaluated doubts; None where none was.

    Args:
        cache: The bucket.
        name: The classifier.
        runs: Its runs, newest first.
    """
    for run in runs:
        evaluated = cache.evaluated(name, run.run_id)
        if evaluated is None or evaluated.label_issues is None:
            continue
        issues, version = evaluated.label_issues, evaluated.dataset.version
        pictures, decided = read_pictures(cache, name, version).by_id, pending_decisions(cache, name)
        left = [issue for issue in issues.found if issue.id in pictures and issue.id not in decided]
        shown = [
            Suspect(picture=pictures[issue.id], predicted=issue.predicted, own=issue.self_confidence)
            for issue in left[:MAX_SHOWN]
        ]
        return Suspects(
            run_id=run.run_id,
            version=version,
            examined=issues.examined,
            count=issues.count,
            decided=sum(issue.id in decided for issue in issues.found),
            shown=shown,
        )
    return None
