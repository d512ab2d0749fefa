"""*Try it*: the served version's answer for a picture, what explains it, and what other classifiers say."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.payload import fit_for_versions
from pipeline.deploy.version import default_versions
from pipeline.errors import PlatformError
from pipeline.ml_engine.protocol import MLEngine
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture
from pipeline.types import JsonDict, JsonValue

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
class OtherAnswer:
    """What another classifier says of the picture.

    Args:
        classifier: Its name.
        label: The class; None if it rejects the picture, or did not answer.
        score: The probability of the most probable class.
        error: Why it did not answer; None if it did.
    """

    classifier: str
    label: str | None = None
    score: float | None = None
    error: str | None = None


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
        others: What the other classifiers say, by name.
        encoded: The picture as base64, for "this answer is wrong"; a large one is smaller than it was sent.
    """

    explanation: Explanation
    bars: Sequence[tuple[str, float]]
    picture: str
    heated: str
    dataset_version: str | None
    neighbours: Sequence[NeighbourView]
    channels: Sequence[ChannelView]
    others: Sequence[OtherAnswer] = ()
    encoded: str = ""


def predict_picture(
    cache: ArtifactCache,
    engine: MLEngine,
    name: str,
    data: bytes,
    *,
    may_ask: Callable[[str], bool] = lambda name: False,
) -> PredictionView:
    """Ask the serving version of a model what is on a picture, and why; and other classifiers.

    Args:
        cache: Reads the workspace.
        engine: Where the models are served.
        name: The model.
        data: The encoded picture.
        may_ask: Returns whether another classifier may be asked.

    Raises:
        UndecodableImage: if it is no picture that models take, with the reason.
        PlatformError: if the model has no version, or the engine refuses.
    """
    from pipeline.explain import explain
    from pipeline.explain.activation import overlay_activation
    from pipeline.explain.thumbnails import bound_picture, data_uri, shrink_picture

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
        others=ask_others(cache.workspace, engine, name, data, may_ask=may_ask),
        encoded=base64.b64encode(bound_picture(data)).decode(),
    )


def ask_others(
    workspace: Workspace, engine: MLEngine, name: str, data: bytes, *, may_ask: Callable[[str], bool]
) -> list[OtherAnswer]:
    """Return what the default versions of the other classifiers say of a picture, by name.

    They are asked in one request, or in one for each size of their networks if the picture is too large.
    """
    versions = {
        other: version
        for other, version in default_versions(engine).items()
        if other != name and may_ask(other)
    }
    answers = [
        answer
        for group, fitting in fit_for_versions(workspace, engine, versions, data)
        for answer in _ask_together(engine, group, fitting)
    ]
    return sorted(answers, key=lambda answer: answer.classifier)


def _ask_together(engine: MLEngine, versions: Mapping[str, str], data: bytes) -> list[OtherAnswer]:
    targets = {f"{model}/versions/{version}": model for model, version in versions.items()}
    if not targets:
        return []
    instance: JsonValue = {"key": "picture", "inputs": {"b64": base64.b64encode(data).decode()}}
    try:
        results = engine.predict_many(list(targets), [instance], signature_name="keyed")
    except PlatformError as error:  # the classifier itself has answered
        return [OtherAnswer(classifier=other, error=error.message) for other in targets.values()]
    return [_other_answer(other, results[target]) for target, other in targets.items()]


def _other_answer(name: str, result: Sequence[JsonValue] | PlatformError) -> OtherAnswer:
    if isinstance(result, PlatformError):
        return OtherAnswer(classifier=name, error=result.message)
    answer: JsonDict = dict(result[0]) if isinstance(result[0], Mapping) else {}
    return OtherAnswer(classifier=name, label=answer.get("label") or None, score=answer.get("score"))


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
