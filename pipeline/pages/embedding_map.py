"""A map of a version's pictures: the two directions in which their features differ most."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.folders import JobDirectory
from pipeline.errors import ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture, read_pictures
from pipeline.pages.similar import find_serving

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.types import Float32Features

MAX_POINTS = 2000
MAX_LISTED = 30
NUM_COLOURS = 8  # of the pages; the classes with fewer pictures share one more
WIDTH, HEIGHT, MARGIN = 720, 480, 12
SEED = 0  # of the sample, and of the projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A picture on the map.

    Args:
        picture: The picture.
        x: From the left, in units of the drawing.
        y: From the top.
        colour: Which of the colours.
        taken_for: The class that the version answered a test picture with; empty for a training picture, and
            where there is no answer.
    """

    picture: Picture
    x: float
    y: float
    colour: int
    taken_for: str

    @property
    def kind(self) -> str:
        """`train`, `test`, or `wrong` for a test picture that was taken for another class."""
        if self.picture.split != "test":
            return "train"
        return "wrong" if self.taken_for not in ("", self.picture.label) else "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingMap:
    """A map of pictures.

    Args:
        version: The version whose network places them.
        run_id: The run that made it.
        dataset_version: Its pictures.
        points: The pictures, those with wrong answers last, so that they lie on top.
        total: How many pictures there are, drawn or not.
        share: How much of the variance of the features the two directions hold.
        legend: The label of each colour, with the number of its pictures on the map.
    """

    version: str
    run_id: str
    dataset_version: str
    points: Sequence[Point]
    total: int
    share: float
    legend: Sequence[tuple[str, int]]

    @property
    def wrong(self) -> list[Point]:
        """The pictures on the map that were taken for another class."""
        return [point for point in self.points if point.kind == "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Where pictures lie.

    Args:
        places: The two coordinates of each picture, from 0 to 1.
        total: How many pictures there were to choose from.
        share: How much of the variance the coordinates hold.
    """

    places: Mapping[str, tuple[float, float]]
    total: int
    share: float


def draw_map(cache: ArtifactCache, name: str) -> EmbeddingMap:
    """Return the map of the pictures of the version that serves.

    Raises:
        ObjectNotFound: if no version serves, or the features of its pictures are gone.
    """
    version, lineage = find_serving(cache, name)
    folder = cache.workspace.dataset(name).version(lineage.dataset.version)
    training, evaluation = (
        cache.workspace.job(job) for job in (lineage.training.job, lineage.evaluation_job)
    )

    def project() -> Projection:
        cached = cache.training_pictures(folder, training).cached
        if cached is None:
            raise ObjectNotFound("No features.", uri=training.uri)
        return project_features(
            dict(zip(cached.ids, cached.features, strict=True)), read_directions(evaluation)
        )

    projection = cache.fixed(f"{training.uri}#map", project)
    if projection is None:
        raise ObjectNotFound(f"The features of the pictures of {version} are not kept any more. Start a run.")
    pictures = read_pictures(cache, name, folder.name).by_id
    answers = cache.test_answers(evaluation, lineage.training.classes)
    shown = {id: place for id, place in projection.places.items() if id in pictures}
    colours = choose_colours([pictures[id].label for id in shown])
    points = [
        Point(
            picture=pictures[id],
            x=round(MARGIN + across * (WIDTH - 2 * MARGIN), 1),
            y=round(MARGIN + (1 - up) * (HEIGHT - 2 * MARGIN), 1),
            colour=colours[pictures[id].label],
            taken_for=answers[id].taken_for if id in answers and pictures[id].split == "test" else "",
        )
        for id, (across, up) in shown.items()
    ]
    points.sort(key=lambda point: (point.kind == "wrong", point.kind == "test"))
    return EmbeddingMap(
        version=version,
        run_id=lineage.run_id,
        dataset_version=folder.name,
        points=points,
        total=projection.total,
        share=projection.share,
        legend=_describe(points, colours),
    )


def choose_colours(labels: Sequence[str]) -> dict[str, int]:
    """Return a colour for each label, the most frequent first; those beyond the last colour share one."""
    order = sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))
    return {label: min(place, NUM_COLOURS) for place, (label, _) in enumerate(order)}


def _describe(points: Sequence[Point], colours: Mapping[str, int]) -> list[tuple[str, int]]:
    names: dict[int, list[str]] = {}
    for label, colour in colours.items():
        names.setdefault(colour, []).append(label)
    counts = Counter(point.colour for point in points)
    return [
        (labels[0] if len(labels) == 1 else f"{len(labels)} other classes", counts[colour])
        for colour, labels in sorted(names.items())
    ]


def read_directions(job: JobDirectory) -> dict[str, Sequence[int]]:
    """Return the features of test pictures, as directions, that batch prediction gave."""
    directions: dict[str, Sequence[int]] = {}
    for uri in job.storage.list_uris(f"{job.predictions}/prediction.results"):
        for line in job.storage.read_bytes(uri).splitlines():
            row = json.loads(line)
            if row.get("features"):
                directions[row["key"]] = row["features"]
    return directions


def project_features(
    training: Mapping[str, Float32Features], test: Mapping[str, Sequence[int]]
) -> Projection:
    """Return where pictures lie on the first two principal components of their features' directions.

    Args:
        training: Features of training pictures, by id.
        test: Directions of the features of test pictures, by id.
    """
    import numpy as np
    from sklearn.decomposition import PCA

    ids = [*sorted(training), *sorted(test.keys() - training.keys())]
    if len(ids) > MAX_POINTS:
        chosen = np.random.default_rng(SEED).choice(len(ids), MAX_POINTS, replace=False)
        rows = [ids[index] for index in sorted(chosen.tolist())]
    else:
        rows = ids
    features = np.array([training[id] if id in training else test[id] for id in rows], np.float32)
    units = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    pca = PCA(2, svd_solver="randomized", random_state=SEED)
    places = _scale(pca.fit_transform(units))
    return Projection(
        places=dict(zip(rows, map(tuple, places.tolist()), strict=True)),
        total=len(ids),
        share=float(np.nan_to_num(pca.explained_variance_ratio_).sum()),  # of equal pictures there is none
    )


def _scale(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return coordinates from 0 to 1; one unit is as long across as up in the drawing."""
    import numpy as np

    low, high = places.min(0), places.max(0)
    shape = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN], np.float32)
    scale = float((shape / np.maximum(high - low, 1e-6)).min())
    scaled: NDArray[np.float32] = (places - (low + high) / 2) * scale / shape + 0.5
    return scaled
