"""*Try it*: the served version's answer for a picture, and the training pictures that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.ml_engine.protocol import MLEngine
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture

if TYPE_CHECKING:
    from pipeline.explain import Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourView:
    """A training picture that the given one resembles, with the cosine between their features."""

    picture: Picture
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelView:
    """A strong channel: its share of the strongest one, and the training pictures that light it most."""

    number: int
    share: float
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionView:
    """The explanation of one prediction as its page shows it.

    Args:
        explanation: All of it.
        bars: Every class with its probability, the most probable first.
        picture: The picture, small, as a data URI.
        heated: Likewise, in orange what spoke for the class.
        dataset_version: Whose pages show the training pictures; None if none do.
        neighbours: Training pictures most like it, nearest first.
        channels: Its strongest channels.
    """

    explanation: Explanation
    bars: Sequence[tuple[str, float]]
    picture: str
    heated: str
    dataset_version: str | None
    neighbours: Sequence[NeighbourView]
    channels: Sequence[ChannelView]


def predict_picture(cache: ArtifactCache, engine: MLEngine, name: str, data: bytes) -> PredictionView:
    """Ask the serving version of a model what is on a picture, and why.

    Raises:
        UndecodableImage: if it is no picture that models take, with the reason.
        PlatformError: if the model has no version, or the engine refuses.
    """
    from pipeline.explain import explain
    from pipeline.explain.activation import overlay_activation
    from pipeline.explain.thumbnails import data_uri, shrink_picture

    small = shrink_picture(data)
    explanation = explain(cache.workspace, engine, name, data, read_training=cache.training_pictures)
    dataset = _find_pages(cache, explanation)
    return PredictionView(
        explanation=explanation,
        bars=sorted(explanation.outputs.items(), key=lambda bar: -bar[1]),
        picture=data_uri(small),
        heated=data_uri(overlay_activation(small, explanation.activation)),
        dataset_version=dataset,
        neighbours=_show_neighbours(explanation) if dataset else (),
        channels=_show_channels(explanation) if dataset else (),
    )


def _find_pages(cache: ArtifactCache, explanation: Explanation) -> str | None:
    """Return the dataset version whose pages show the training pictures: one of this workspace."""
    folder = explanation.dataset
    if folder is None:
        return None
    own = cache.workspace.dataset(explanation.classifier).version(folder.name)
    return folder.name if own.uri == folder.uri else None


def _show_neighbours(explanation: Explanation) -> list[NeighbourView]:
    return [NeighbourView(picture=Picture(near.row), cosine=near.cosine) for near in explanation.neighbours]


def _show_channels(explanation: Explanation) -> list[ChannelView]:
    return [
        ChannelView(
            number=channel.number,
            share=channel.share,
            pictures=[Picture(row) for row, _ in channel.pictures],
        )
        for channel in explanation.channels
    ]
