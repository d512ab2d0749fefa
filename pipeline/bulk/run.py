"""Asks one version for many pictures, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.bulk.answers import PicturePrediction, predict_pictures
from pipeline.bulk.pictures import BulkPicture
from pipeline.errors import PipelineError
from pipeline.ml_engine.protocol import MLEngine

CHUNK_PICTURES = 64
CHUNK_BYTES = 16_000_000

Fit = Callable[[dict[str, bytes]], dict[str, bytes]]


@dataclass(kw_only=True)
class BulkCounts:
    """How far it is.

    Args:
        answered: Pictures that were answered.
        failed: Pictures that could not be read or answered.
    """

    answered: int = 0
    failed: int = 0

    def add(self, answers: Iterable[PicturePrediction]) -> None:
        """Count answers."""
        for each in answers:
            self.failed += each.error is not None
            self.answered += each.error is None


def predict_bulk(
    engine: MLEngine, name: str, version: str, pictures: Iterable[BulkPicture], fit: Fit
) -> Iterator[list[PicturePrediction]]:
    """Yield answers for some pictures at a time, in the order of the pictures.

    Args:
        engine: Where the model is served.
        name: The model.
        version: The version that is asked.
        pictures: What is asked about; one that cannot be read is an answer with the reason.
        fit: Returns pictures that a request may hold.

    Raises:
        PlatformError: if there is no such version, or the engine does not answer.
    """
    for names, read, unread in _chunks(pictures):
        answers = {each.file: each for each in predict_pictures(engine, name, fit(read), version=version)}
        for file, reason in unread.items():
            answers[file] = PicturePrediction(file=file, version=version, error=reason)
        yield [answers[file] for file in names]


def _chunks(
    pictures: Iterable[BulkPicture],
) -> Iterator[tuple[list[str], dict[str, bytes], Mapping[str, str]]]:
    names: list[str] = []
    read: dict[str, bytes] = {}
    unread: dict[str, str] = {}
    num_bytes = 0
    for picture in pictures:
        names.append(picture.name)
        try:
            read[picture.name] = data = picture.read()
            num_bytes += len(data)
        except OSError as error:
            unread[picture.name] = f"cannot be read: {error.strerror or error}"
        except PipelineError as error:
            unread[picture.name] = error.message
        if len(names) == CHUNK_PICTURES or num_bytes > CHUNK_BYTES:
            yield names, read, unread
            names, read, unread, num_bytes = [], {}, {}, 0
    if names:
        yield names, read, unread
