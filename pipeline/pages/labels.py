"""Suspected labels of the newest evaluated run, and people's decisions about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.deploy.lock import acquire_lock
from pipeline.errors import ConfigError
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture, read_pictures
from pipeline.pages.schedule import Run
from pipeline.preprocess.decisions import Action, decide_picture

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
        shown: The first of them, the least confident label first.
    """

    run_id: str
    version: str
    examined: int
    count: int
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
        pictures = read_pictures(cache, name, version).by_id
        shown = [
            Suspect(picture=pictures[issue.id], predicted=issue.predicted, own=issue.self_confidence)
            for issue in issues.found
            if issue.id in pictures
        ]
        return Suspects(
            run_id=run.run_id,
            version=version,
            examined=issues.examined,
            count=issues.count,
            shown=shown[:MAX_SHOWN],
        )
    return None


def decide(
    cache: ArtifactCache, name: str, version: str, *, id: str, action: Action | None, label: str = ""
) -> None:
    """Write what a person decided about a picture; `None` takes the decision back.

    Raises:
        ConfigError: if the version has no such picture or the label is no class of it.
    """
    info = cache.dataset(name, version)
    if info is None or id not in read_pictures(cache, name, version).by_id:
        raise ConfigError(f"Dataset version {version!r} of {name} has no picture {id!r} to decide on.")
    if action == "relabel" and label not in info.classes:
        raise ConfigError(f"{label!r} is no class of {name}; the classes are {', '.join(info.classes)}.")
    with acquire_lock(cache.workspace, name, subject="decisions"):
        decide_picture(cache.workspace.dataset(name), id, action, label=label)
