"""*Try it*: what the served version says of a picture, what spoke for it, and what the picture resembles."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.dataset import version_uri
from pipeline.errors import PlatformError
from pipeline.ml_engine.protocol import MLEngine, default_version
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture, read_pictures
from pipeline.types import JsonValue

if TYPE_CHECKING:
    from pipeline.explain.feature_search import CachedFeatures

NEIGHBOURS = 6
CHANNELS = 5
BRIGHTEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A training picture that the given one resembles.

    Args:
        picture: The picture.
        cosine: Of the angle between their features; 1 is the same direction.
    """

    picture: Picture
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel of the pooled features that the picture lights strongly.

    Args:
        number: Which one.
        share: Its value, as a share of the picture's strongest one.
        pictures: The training pictures that light it most.
    """

    number: int
    share: float
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resemblance:
    """What of the training pictures the given one resembles.

    Args:
        dataset_version: Where they are from; None if their features are not at hand.
        neighbours: Those most like it, nearest first.
        channels: Its strongest channels, and who else lights them.
    """

    dataset_version: str | None = None
    neighbours: Sequence[Neighbour] = ()
    channels: Sequence[Channel] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePrediction:
    """The answer to one picture.

    Args:
        version: The version that answered.
        label: The most probable class.
        score: Its probability.
        rejected_below: The threshold below which applications get no class; 0 for none.
        bars: Every class with its probability, the most probable first.
        milliseconds: From the question to the answer.
        picture: The picture, small, as an address that holds it.
        heated: In orange what spoke for the class, likewise.
        resembles: Training pictures that explain the answer.
    """

    version: str
    label: str
    score: float
    rejected_below: float
    bars: Sequence[tuple[str, float]]
    milliseconds: float
    picture: str
    heated: str
    resembles: Resemblance

    @property
    def is_rejected(self) -> bool:
        """Whether an application would be told "none of these"."""
        return self.score < self.rejected_below


def predict_picture(cache: ArtifactCache, engine: MLEngine, name: str, data: bytes) -> PicturePrediction:
    """Ask the serving version of a model what is on a picture, and why.

    Raises:
        UndecodableImage: if it is no picture that models take, with the reason.
        PlatformError: if the model has no version, or the engine refuses.
    """
    from pipeline.explain.thumbnails import data_uri, overlay_activation, shrink_picture

    small = shrink_picture(data)
    version = default_version(engine.get_model(name))
    if version is None:
        raise PlatformError(f"{name} has no version to ask yet. Start a run; its first version serves.")
    instances: list[JsonValue] = [{"key": "it", "inputs": {"b64": base64.b64encode(data).decode()}}]
    began = time.perf_counter()
    [answer] = engine.predict(name, instances, version=version, signature_name="explained")
    milliseconds = (time.perf_counter() - began) * 1000
    said: Mapping[str, Any] = answer  # type: ignore[assignment]
    lineage = cache.beside_model(name, version, "lineage.json") or {}
    return PicturePrediction(
        version=version,
        label=said["label"],
        score=said["score"],
        rejected_below=float((lineage.get("classifier", {}).get("serving") or {}).get("reject_below", 0)),
        bars=_bars(cache.beside_model(name, version, "labels.json"), said["outputs"]),
        milliseconds=milliseconds,
        picture=data_uri(small),
        heated=data_uri(overlay_activation(small, said["activation"])),
        resembles=_find_resemblance(cache, name, lineage, said["features"]),
    )


def _bars(labels: Sequence[str] | None, outputs: Sequence[float]) -> list[tuple[str, float]]:
    names = labels or [f"class {number}" for number in range(len(outputs))]
    return sorted(zip(names, outputs, strict=True), key=lambda bar: -bar[1])


def _find_resemblance(
    cache: ArtifactCache, name: str, lineage: Mapping[str, Any], direction: Sequence[float]
) -> Resemblance:
    from pipeline.explain.feature_search import nearest_pictures, read_features

    training, dataset = lineage.get("training"), lineage.get("dataset")
    if training is None or dataset is None:
        return Resemblance()
    record = cache.fixed(f"{training['model_uri'].removesuffix('/model')}/training.json") or {}
    version = dataset["version"]
    if dataset["uri"] != version_uri(cache.workspace, name, version) or not record.get("features"):
        return Resemblance()
    pictures = read_pictures(cache, name, version)
    wanted = {id: picture for id, picture in pictures.by_id.items() if picture.split == "train"}
    uris = tuple(record["features"])
    cached = cache.features.get(
        (name, version, uris), lambda: read_features(cache.storage, uris, wanted=wanted)
    )
    if cached is None:
        return Resemblance()
    near = nearest_pictures(cached, {"it": direction}, NEIGHBOURS)["it"]
    return Resemblance(
        dataset_version=version,
        neighbours=[Neighbour(picture=wanted[id], cosine=cosine) for id, cosine in near if id in wanted],
        channels=_find_channels(cached, wanted, direction),
    )


def _find_channels(
    cached: CachedFeatures, wanted: Mapping[str, Picture], direction: Sequence[float]
) -> list[Channel]:
    from pipeline.explain.feature_search import brightest_pictures, strongest_channels

    strongest = strongest_channels(direction, CHANNELS)
    most = max(strongest[0][1], 1e-12)
    return [
        Channel(
            number=number,
            share=value / most,
            pictures=[wanted[id] for id, _ in brightest_pictures(cached, number, BRIGHTEST) if id in wanted],
        )
        for number, value in strongest
    ]
