"""`features`: what lies behind one prediction, as plain data and as a figure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.deploy.trace import read_lineage
from pipeline.errors import ObjectNotFound, PlatformError, SourceNotFound
from pipeline.types import JsonDict, JsonValue

if TYPE_CHECKING:
    from pipeline.artifacts.dataset import ManifestRow
    from pipeline.explain.feature_search import CachedFeatures
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.storage import Storage

NUM_CHANNELS = 5
NUM_PICTURES = 3
NUM_NEIGHBOURS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What lies behind one prediction.

    Args:
        classifier: Whose version answered.
        version: Which one.
        file: The picture.
        label: The most probable class.
        score: Its probability.
        outputs: Probability of each class.
        values: The pooled features as shares of the strongest one, 0 to 1.
        channels: The strongest ones: `channel`, `value`, and the training `pictures` that light it most.
        neighbours: The training pictures most like it: `id`, `label`, `cosine`, `source`.
        activation: The class-activation map, rows of columns: how much each place spoke for the class.
    """

    classifier: str
    version: str
    file: str
    label: str
    score: float
    outputs: dict[str, float]
    values: list[float]
    channels: list[JsonDict]
    neighbours: list[JsonDict]
    activation: list[list[float]]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)


def features(
    name: str,
    file: str | Path,
    *,
    engine: MLEngine,
    storage: Storage,
    workspace: str,
    version: str | None = None,
) -> Features:
    """Ask a served version about a picture, and find the training pictures that explain its answer.

    Args:
        name: The classifier.
        file: The picture.
        engine: Where it is served.
        storage: The buckets.
        workspace: URI of the bucket of datasets and models.
        version: The version to ask; the one that serves unless given.

    Raises:
        SourceNotFound: if the file is not there.
        PlatformError: if there is no such version, it cannot explain itself, or the picture is refused.
    """
    path = Path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceNotFound(f"{file} cannot be read: {error.strerror}. Name a picture file.") from error
    return explain_picture(
        name, str(file), data, engine=engine, storage=storage, workspace=workspace, version=version
    )


def explain_picture(
    name: str,
    file: str,
    data: bytes,
    *,
    engine: MLEngine,
    storage: Storage,
    workspace: str,
    version: str | None = None,
) -> Features:
    """Return the same for the bytes of a picture."""
    found, _, lineage = read_lineage(engine, storage, workspace, name, version)
    instance: list[JsonValue] = [{"key": file, "inputs": {"b64": base64.b64encode(data).decode()}}]
    try:
        answer: Any = engine.predict(name, instance, version=found, signature_name="explained")[0]
    except PlatformError as error:
        raise PlatformError(f"{file}: {error}", **error.details) from error
    values = np.asarray(answer["features"], np.float32) / 255
    rows = _training_rows(storage, lineage)
    cached = _cached_features(storage, lineage, rows)
    return Features(
        classifier=name,
        version=found,
        file=file,
        label=answer["label"],
        score=float(answer["score"]),
        outputs=dict(zip(lineage["training"]["classes"], map(float, answer["outputs"]), strict=True)),
        values=[round(float(value), 4) for value in values],
        channels=_strongest_channels(values, cached, rows),
        neighbours=_neighbours(values, cached, rows),
        activation=answer["activation"],
    )


def _training_rows(storage: Storage, lineage: Mapping[str, Any]) -> dict[str, ManifestRow]:
    from pipeline.artifacts.dataset import iterate_manifest

    rows = iterate_manifest(f"{lineage['dataset']['uri']}/manifest.jsonl", storage)
    return {row.id: row for row in rows if row.split == "train" and row.id is not None}


def _cached_features(
    storage: Storage, lineage: Mapping[str, Any], rows: Mapping[str, ManifestRow]
) -> CachedFeatures | None:
    from pipeline.explain.feature_search import read_features

    job_dir = str(lineage["training"]["model_uri"]).removesuffix("/model")
    try:
        uris = storage.read_json(f"{job_dir}/training.json")["features"]
    except ObjectNotFound:
        return None
    return read_features(storage, uris, wanted=rows)


def _strongest_channels(
    values: Any, cached: CachedFeatures | None, rows: Mapping[str, ManifestRow]
) -> list[JsonDict]:
    from pipeline.explain.feature_search import brightest_pictures, strongest_channels

    def pictures(channel: int) -> list[JsonDict]:
        found = brightest_pictures(cached, channel, NUM_PICTURES) if cached else []
        return [{**_place(rows[id]), "value": value} for id, value in found]

    return [
        {"channel": channel, "value": round(value, 4), "pictures": pictures(channel)}
        for channel, value in strongest_channels(values, NUM_CHANNELS)
    ]


def _neighbours(
    values: Any, cached: CachedFeatures | None, rows: Mapping[str, ManifestRow]
) -> list[JsonDict]:
    from pipeline.explain.feature_search import nearest_pictures

    if cached is None:
        return []
    near = nearest_pictures(cached, {"it": values}, NUM_NEIGHBOURS)["it"]
    return [{**_place(rows[id]), "cosine": cosine} for id, cosine in near]


def _place(row: ManifestRow) -> JsonDict:
    return {"id": row.id, "blob": row.blob, "label": row.label, "source": row.source_url}
