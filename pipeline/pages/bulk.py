"""Many pictures that a person sends, and the rows that come back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bulk.answers import PicturePrediction
from pipeline.bulk.pictures import list_uploads
from pipeline.bulk.results import COLUMNS, format_answers, format_rows
from pipeline.bulk.run import predict_bulk
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.deploy.payload import find_pixel_spec, fit_pictures
from pipeline.errors import PipelineError
from pipeline.ml_engine.protocol import MLEngine
from pipeline.pages.artifact_cache import ArtifactCache


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFiles:
    """Files that were sent.

    Args:
        directory: Where their bytes are; deleted when they are answered for.
        paths: The name of each, as the sender has it, and its path in the directory.
    """

    directory: tempfile.TemporaryDirectory[str]
    paths: list[tuple[str, Path]] = field(default_factory=list)


def predict_files(
    cache: ArtifactCache, engine: MLEngine, name: str, version: str, files: UploadedFiles
) -> Iterator[str]:
    """Yield the CSV of `graft predict --out` for files that were sent, a few rows at a time.

    An engine that stops answering is told in a last row, whose file is empty: what was sent before stays.
    """
    yield format_rows([COLUMNS])

    def fit(pictures: dict[str, bytes]) -> dict[str, bytes]:
        find_spec = lambda: find_pixel_spec(cache.workspace, engine, name, version)  # noqa: E731
        return fit_pictures(pictures, find_spec, lambda text: None)

    with files.directory, closing(list_uploads(files.paths, FetchPolicy.from_environment())) as pictures:
        try:
            for answers in predict_bulk(engine, name, version, pictures, fit):
                yield format_answers(answers, name)
        except PipelineError as error:
            yield format_answers([PicturePrediction(file="", version=version, error=error.message)], name)
