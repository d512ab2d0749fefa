"""Pictures of a dataset that resemble one of them, by the features that the serving version's job cached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.history import served_before
from pipeline.artifacts.model_record import Lineage
from pipeline.errors import ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture, Pictures, read_pictures
from pipeline.pages.prediction import NeighbourView

if TYPE_CHECKING:
    from pipeline.explain.features import CachedFeatures
    from pipeline.types import Float32Features

NUM_SIMILAR = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """A picture, and the training pictures that it resembles.

    Args:
        picture: The picture.
        version: The version whose network compares them.
        dataset_version: Its pictures.
        neighbours: Training pictures, the most similar first.
    """

    picture: Picture
    version: str
    dataset_version: str
    neighbours: Sequence[NeighbourView]

    @property
    def labelled_otherwise(self) -> int:
        """How many of them have another label."""
        return sum(near.picture.label != self.picture.label for near in self.neighbours)


def find_similar(cache: ArtifactCache, name: str, id: str) -> Similar:
    """Return the training pictures that a training or test picture of the serving version resembles.

    Raises:
        ObjectNotFound: if no version serves, it was made without this picture, or its features are gone.
    """
    from pipeline.explain.neighbours import nearest_pictures

    version, lineage = find_serving(cache, name)
    folder = cache.workspace.dataset(name).version(lineage.dataset.version)
    pictures = read_pictures(cache, name, folder.name)
    picture = pictures.by_id.get(id)
    if picture is None or not picture.split:
        raise ObjectNotFound(f"{version}, which serves, was made without the picture {id}.", id=id)
    cached = cache.training_pictures(folder, cache.workspace.job(lineage.training.job)).cached
    direction = _find_features(cached, cache.workspace.job(lineage.evaluation_job), id) if cached else None
    if cached is None or direction is None:
        raise ObjectNotFound(f"The features of the picture {id} are not kept any more.", id=id)
    near = nearest_pictures(cached, {id: direction}, NUM_SIMILAR + 1)[id]
    return Similar(
        picture=picture,
        version=version,
        dataset_version=folder.name,
        neighbours=_show(pictures, id, near)[:NUM_SIMILAR],
    )


def find_serving(cache: ArtifactCache, name: str) -> tuple[str, Lineage]:
    """Return the version that serves, and where it comes from.

    Raises:
        ObjectNotFound: if none serves, or it carries no lineage.
    """
    served = served_before(cache.history(name))
    lineage = cache.lineage(name, served[-1]) if served else None
    if lineage is None:
        raise ObjectNotFound(f"No version of {name} serves that could compare pictures. Start a run.")
    return served[-1], lineage


def _find_features(
    cached: CachedFeatures, evaluation: JobDirectory, id: str
) -> Sequence[float] | Float32Features | None:
    """Return the features of a training picture, or of a test picture as batch prediction gave them."""
    if id in cached.ids:
        features: Float32Features = cached.features[cached.ids.index(id)]
        return features
    for uri in evaluation.storage.list_uris(f"{evaluation.predictions}/prediction.results"):
        for line in evaluation.storage.read_bytes(uri).splitlines():
            if id.encode() in line and (row := json.loads(line))["key"] == id:
                features_of_test: Sequence[float] | None = row.get("features")
                return features_of_test
    return None


def _show(pictures: Pictures, id: str, near: Sequence[tuple[str, float]]) -> list[NeighbourView]:
    return [
        NeighbourView(picture=pictures.by_id[other], cosine=cosine)
        for other, cosine in near
        if other != id and other in pictures.by_id
    ]
