"""What a version answers for pictures: an answer or a reason for each, whatever the others are."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PlatformError
from pipeline.types import JsonDict, JsonValue

if TYPE_CHECKING:
    from pipeline.ml_engine.protocol import MLEngine

MAX_REQUEST_BYTES = 1_100_000  # of pictures, which are four bytes for three in base64: v1 takes 1.5 MB
MAX_REQUEST_PICTURES = 256  # what is around a picture counts too
REFUSED = (200, 400)  # v1 answers a bad instance with 200 and `{"error": ...}`
FIRST_INSTANCE = "instance 0: "  # what v1 says before the reason, of a request with one picture


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePrediction:
    """A version's answer for one picture, or why there is none.

    Args:
        file: The picture.
        version: The version that was asked.
        classifier: Its classifier, where several were asked.
        label: The class; None if the version rejects the picture, or did not answer.
        score: Probability of the most probable class.
        outputs: Probability of each class.
        error: Why there is no answer; None if there is one.
    """

    file: str
    version: str
    classifier: str | None = None
    label: str | None = None
    score: float | None = None
    novelty: float | None = None
    outputs: tuple[float, ...] = ()
    error: str | None = None

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        asked = {"classifier": self.classifier} if self.classifier else {}
        if self.error is not None:
            return {"file": self.file, **asked, "error": self.error, "version": self.version}
        return {
            "file": self.file,
            **asked,
            "label": self.label,
            "score": self.score,
            "novelty": self.novelty,
            "outputs": list(self.outputs),
            "version": self.version,
        }


def find_version(engine: MLEngine, name: str) -> str:
    """Return the default version of a model.

    Raises:
        PlatformError: if it has none.
    """
    from pipeline.ml_engine.protocol import default_version

    version = default_version(engine.get_model(name))
    if version is None:
        raise PlatformError(f"The model {name!r} has no version to ask. Make one with `graft run {name}`.")
    return version


def predict_pictures(
    engine: MLEngine, name: str, pictures: Mapping[str, bytes], *, version: str | None = None
) -> list[PicturePrediction]:
    """Return an answer or an error for each picture, all from one version.

    Args:
        engine: Where the model is served.
        name: The model.
        pictures: Encoded pictures by name.
        version: The version to ask; the default one if None.

    Raises:
        PlatformError: if there is no such model or version, or the engine does not answer.
    """
    version = version or find_version(engine, name)
    return [answer for batch in _batches(pictures) for answer in _predict_batch(engine, name, version, batch)]


def _predict_batch(
    engine: MLEngine, name: str, version: str, batch: Mapping[str, bytes]
) -> Iterator[PicturePrediction]:
    instances: list[JsonValue] = [
        {"key": file, "inputs": {"b64": base64.b64encode(data).decode()}} for file, data in batch.items()
    ]
    try:
        answers = engine.predict(name, instances, version=version, signature_name="keyed")
    except PlatformError as error:
        if error.details.get("status") not in REFUSED:
            raise
        yield from _refused(engine, name, version, batch, error)
        return
    by_key = {str(answer["key"]): answer for answer in answers if isinstance(answer, dict)}
    for file in batch:
        yield read_answer(by_key[file], file, version)


def read_answer(
    value: JsonValue, file: str, version: str, classifier: str | None = None
) -> PicturePrediction:
    """Return an answer of the signature `keyed`."""
    answer: JsonDict = dict(value) if isinstance(value, Mapping) else {}
    return PicturePrediction(
        file=file,
        version=version,
        classifier=classifier,
        label=answer["label"] or None,  # a SavedModel can only say "": none of these
        score=answer["score"],
        novelty=answer.get("novelty"),  # models of early releases have none
        outputs=tuple(answer["outputs"]),
    )


def _refused(
    engine: MLEngine, name: str, version: str, batch: Mapping[str, bytes], error: PlatformError
) -> Iterator[PicturePrediction]:
    """Ask for each half of a refused request again, so that one bad picture costs no other its answer."""
    files = list(batch)
    if len(files) == 1:
        yield PicturePrediction(
            file=files[0], version=version, error=error.message.rpartition(FIRST_INSTANCE)[2]
        )
        return
    middle = len(files) // 2
    for half in (files[:middle], files[middle:]):
        yield from _predict_batch(engine, name, version, {file: batch[file] for file in half})


def _batches(pictures: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    batch: dict[str, bytes] = {}
    num_bytes = 0
    for file, data in pictures.items():
        is_full = num_bytes + len(data) > MAX_REQUEST_BYTES or len(batch) == MAX_REQUEST_PICTURES
        if batch and is_full:
            yield batch
            batch, num_bytes = {}, 0
        batch[file] = data
        num_bytes += len(data)
    if batch:
        yield batch
