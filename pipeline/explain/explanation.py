"""The explanation of one prediction: the page, the command and the notebook all show the same."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from pipeline.artifacts.folders import DatasetVersionFolder, JobDirectory, ModelDirectory
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.model_record import Lineage
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.payload import find_pixel_spec, fit_pictures
from pipeline.deploy.version import find_lineage
from pipeline.errors import ObjectNotFound, PlatformError, SourceNotFound
from pipeline.explain.activation import ActivationMap
from pipeline.explain.features import TrainingPictures, read_taken_down, read_training_pictures
from pipeline.explain.neighbours import brightest_pictures, nearest_pictures, strongest_channels
from pipeline.ml_engine.protocol import MLEngine, default_version
from pipeline.types import Float32Features, JsonDict, JsonValue

logger = logging.getLogger(__name__)

NUM_CHANNELS = 5
NUM_PICTURES = 3
NUM_NEIGHBOURS = 6

TrainingReader: TypeAlias = Callable[[DatasetVersionFolder, JobDirectory], TrainingPictures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A training picture, and the cosine between its features and those of the explained picture."""

    row: ManifestRow
    cosine: float

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {**_describe(self.row), "cosine": self.cosine}


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A strong channel of the pooled features.

    Args:
        number: Which one.
        share: Its value as a share of the strongest one, 0 to 1.
        pictures: The training pictures with the highest values of it, each with its value.
    """

    number: int
    share: float
    pictures: tuple[tuple[ManifestRow, float], ...]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        pictures = [{**_describe(row), "value": value} for row, value in self.pictures]
        return {"channel": self.number, "value": self.share, "pictures": pictures}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The explanation of one prediction.

    Args:
        classifier: Whose version answered.
        version: Which one.
        file: The picture.
        label: The most probable class.
        score: Its probability.
        outputs: Probability of each class.
        values: The pooled features as shares of the strongest one, 0 to 1.
        channels: The strongest ones.
        neighbours: The training pictures most like it, the nearest first.
        activation: The class-activation map: how much each place spoke for the class.
        dataset: The dataset version that it was trained on; None if the version has no lineage.
        novelty: How unlike the training pictures it is, 0 to 1; None if the version cannot tell.
        rejected_below: The score below which applications get no class; 0 for none.
        rejected_unlike: The novelty above which applications get no class; 0 for none.
        milliseconds: From the question to the answer.
    """

    classifier: str
    version: str
    file: str
    label: str
    score: float
    outputs: dict[str, float]
    values: tuple[float, ...]
    channels: tuple[Channel, ...]
    neighbours: tuple[Neighbour, ...]
    activation: ActivationMap
    dataset: DatasetVersionFolder | None
    novelty: float | None
    rejected_below: float
    rejected_unlike: float
    milliseconds: float

    @property
    def is_rejected(self) -> bool:
        """Whether an application gets "none of these"."""
        return self.score < self.rejected_below or self.is_unlike

    @property
    def is_unlike(self) -> bool:
        """Whether that is because it is unlike the training pictures."""
        return bool(self.rejected_unlike) and self.novelty is not None and self.novelty > self.rejected_unlike

    def __str__(self) -> str:
        return f"{self.file}: {self.label} ({self.score:.4f}) by {self.classifier} {self.version}"

    def to_dict(self) -> JsonDict:
        """Return what `graft features --json` prints."""
        return {
            "classifier": self.classifier,
            "version": self.version,
            "file": self.file,
            "label": self.label,
            "score": self.score,
            "novelty": self.novelty,
            "outputs": self.outputs,
            "values": list(self.values),
            "channels": [channel.to_dict() for channel in self.channels],
            "neighbours": [neighbour.to_dict() for neighbour in self.neighbours],
            "activation": [list(row) for row in self.activation],
        }


def _describe(row: ManifestRow) -> JsonDict:
    return {"id": row.id, "blob": row.blob, "label": row.label, "source": row.source_url}


def explain(
    workspace: Workspace,
    engine: MLEngine,
    name: str,
    data: bytes,
    *,
    file: str = "the picture",
    version: str | None = None,
    read_training: TrainingReader = read_training_pictures,
) -> Explanation:
    """Ask a served version about a picture, and find the training pictures that explain its answer.

    Pictures that were taken down since are left out.

    Args:
        workspace: Where datasets and models are.
        engine: Where the classifier is served.
        name: The classifier.
        data: The picture, encoded.
        file: What the picture is called in messages.
        version: The version to ask; the one that serves by default.
        read_training: Reads what the version was trained on; pages cache it.

    Raises:
        PlatformError: if there is no such version, it cannot explain itself, or the picture is refused.
    """
    version = version or _find_default(engine, name)
    answer, milliseconds = _ask(workspace, engine, name, version, file, data)
    values = np.asarray(answer["features"], np.float32) / np.float32(255)
    lineage = find_lineage(workspace, engine, name, version)
    dataset, training = _read_training(workspace, lineage, read_training)
    search = _Search(training, read_taken_down(workspace, name))
    return Explanation(
        classifier=name,
        version=version,
        file=file,
        label=answer["label"],
        score=float(answer["score"]),
        outputs=_name_outputs(workspace.model(name, version), list(map(float, answer["outputs"]))),
        values=tuple(round(float(value), 4) for value in values),
        channels=search.channels(values),
        neighbours=search.neighbours(values),
        activation=answer["activation"],
        dataset=dataset,
        novelty=None if answer.get("novelty") is None else float(answer["novelty"]),
        rejected_below=lineage.reject_below(answer["label"]) if lineage else 0.0,
        rejected_unlike=lineage.reject_unlike if lineage else 0.0,
        milliseconds=milliseconds,
    )


def explain_file(
    workspace: Workspace, engine: MLEngine, name: str, file: str | Path, *, version: str | None = None
) -> Explanation:
    """Ask a served version about a picture file; see `explain`.

    Raises:
        SourceNotFound: if the file cannot be read.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise SourceNotFound(f"{file} cannot be read: {error.strerror}. Name a picture file.") from error
    return explain(workspace, engine, name, data, file=str(file), version=version)


def _find_default(engine: MLEngine, name: str) -> str:
    version = default_version(engine.get_model(name))
    if version is None:
        raise PlatformError(
            f"The model {name!r} has no version that serves. Start a run; `graft versions {name}` lists them."
        )
    return version


def _read_training(
    workspace: Workspace, lineage: Lineage | None, read: TrainingReader
) -> tuple[DatasetVersionFolder | None, TrainingPictures]:
    if lineage is None:
        return None, TrainingPictures(rows={}, cached=None)
    dataset = DatasetVersionFolder(workspace.storage, lineage.dataset.uri)
    return dataset, read(dataset, ModelDirectory(workspace.storage, lineage.training.model_uri).job)


def _name_outputs(model: ModelDirectory, outputs: Sequence[float]) -> dict[str, float]:
    try:
        labels = model.storage.read_json(model.labels)
    except ObjectNotFound:
        labels = [f"class {number}" for number in range(len(outputs))]
    return dict(zip(map(str, labels), outputs, strict=True))


def _ask(
    workspace: Workspace, engine: MLEngine, name: str, version: str, file: str, data: bytes
) -> tuple[JsonDict, float]:
    """Return the engine's answer and how many milliseconds it took."""
    find_spec = partial(find_pixel_spec, workspace, engine, name, version)
    picture = fit_pictures({file: data}, find_spec, logger.info)[file]
    instance: dict[str, JsonValue] = {"key": file, "inputs": {"b64": base64.b64encode(picture).decode()}}
    began = time.perf_counter()
    try:
        [answer] = engine.predict(name, [instance], version=version, signature_name="explained")
    except PlatformError as error:
        raise PlatformError(f"{file}: {error}", **error.details) from error
    milliseconds = (time.perf_counter() - began) * 1000
    if not isinstance(answer, dict):
        raise PlatformError(f"{file}: version {version} of {name} answered with {type(answer).__name__}.")
    return answer, milliseconds


class _Search:
    """Finds training pictures by their features.

    Args:
        training: The pictures.
        taken_down: Ids and digests of those that are not shown.
    """

    def __init__(self, training: TrainingPictures, taken_down: frozenset[str]) -> None:
        self._cached, self._taken_down = training.cached, taken_down
        self._rows = training.rows

    def channels(self, values: Float32Features) -> tuple[Channel, ...]:
        """Return the strongest channels of a picture's features."""
        return tuple(
            Channel(number=number, share=round(value, 4), pictures=self._brightest(number))
            for number, value in strongest_channels(values, NUM_CHANNELS)
        )

    def _brightest(self, channel: int) -> tuple[tuple[ManifestRow, float], ...]:
        if self._cached is None:
            return ()
        brightest = brightest_pictures(self._cached, channel, NUM_PICTURES + len(self._taken_down))
        return tuple(self._shown(brightest))[:NUM_PICTURES]

    def neighbours(self, values: Float32Features) -> tuple[Neighbour, ...]:
        """Return the training pictures that resemble a picture most."""
        if self._cached is None:
            return ()
        number = NUM_NEIGHBOURS + len(self._taken_down)
        nearest = nearest_pictures(self._cached, {"asked": values}, number)["asked"]
        shown = self._shown(nearest)
        return tuple(Neighbour(row=row, cosine=cosine) for row, cosine in shown)[:NUM_NEIGHBOURS]

    def _shown(self, ids: Iterable[tuple[str, float]]) -> Iterable[tuple[ManifestRow, float]]:
        for id, value in ids:
            row = self._rows[id]
            if id not in self._taken_down and row.blob not in self._taken_down:
                yield row, value
