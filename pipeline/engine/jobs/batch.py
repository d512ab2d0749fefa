"""Batch prediction: JSON lines from the bucket through a model worker and back, in constant memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from pipeline.engine.backends.access import belongs_to_engine
from pipeline.engine.runtimes import find_runtime
from pipeline.engine.serving.artifacts import check_model_files, fetch_model
from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.messages import RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.serving.pool import WorkerPool
from pipeline.engine.serving.router import Router
from pipeline.engine.v1.resources import VERSION_PATH, PredictionInput
from pipeline.engine.v1.responses import PredictionOutput
from pipeline.errors import FailedPrecondition, InvalidArgument
from pipeline.storage import Storage

FRAME_BYTES = 8_000_000  # a frame is cut here even when it has fewer lines than the batch size
GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE_BYTES, MAX_INPUT_BYTES = 64_000_000, 20_000_000_000  # a small gzip may hide any amount
SHARD_BYTES = 64_000_000  # a file of results ends after the frame that passes this
MAX_ERRORS = 100_000  # lines that fail are named one by one up to here, and counted beyond
RESULTS, ERRORS = "prediction.results-{:05d}-of-{:05d}", "prediction.errors_stats-00000-of-00001"


Predictor: TypeAlias = Callable[[WorkerRequest], Awaitable[WorkerReply]]


def check_prediction_input(
    value: PredictionInput, project: str, workspace: str, *, aliases: Mapping[str, str] | None = None
) -> None:
    """Check the fields that depend on each other.

    Raises:
        InvalidArgument: naming the field.
    """
    where = "prediction_input"
    targets = [name for name in ("model_name", "version_name", "uri") if getattr(value, name)]
    if len(targets) != 1:
        text = f"Exactly one of model_name, version_name and uri must be set. Received: {targets or 'none'}"
        raise InvalidArgument(text, field=where)
    find_runtime(value.runtime_version, None, where=where, aliases=aliases)
    if belongs_to_engine(value.output_path, workspace):
        raise InvalidArgument(
            f"Jobs write below {workspace} only where no folder of the engine's is, {workspace}/jobs/ID for "
            f"instance. Received: {value.output_path!r}",
            field=f"{where}.output_path",
        )
    if not value.uri:
        split_version(value, project)


def split_version(value: PredictionInput, project: str) -> tuple[str, str | None]:
    """Return the model and the version that a job names by their full names.

    Raises:
        InvalidArgument: if the name is not one of this project's.
    """
    field = "version_name" if value.version_name else "model_name"
    name = value.version_name or value.model_name or ""
    match = VERSION_PATH.fullmatch(name)
    if match is None or match[1] != project or bool(match[3]) != bool(value.version_name):
        tail = "/versions/VERSION" if value.version_name else ""
        raise InvalidArgument(
            f"Expected projects/{project}/models/MODEL{tail}. Received: {name!r}",
            field=f"prediction_input.{field}",
        )
    return match[2], match[3]


def expand_paths(storage: Storage, paths: list[str]) -> list[str]:
    """Return the URIs of the input objects; a path may end in `*`.

    Raises:
        FailedPrecondition: if a path matches no object.
    """
    inputs: list[str] = []
    for path in paths:
        uris = storage.list_uris(path[:-1]) if path.endswith("*") else [path] if storage.exists(path) else []
        if not uris:
            raise FailedPrecondition(f"No input file matches {path}.", field="prediction_input.input_paths")
        inputs += uris
    return list(dict.fromkeys(inputs))


def _open_lines(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC  # no JSON begins so
    return cast(BinaryIO, gzip.open(path)) if is_gzip else path.open("rb")


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    size = 0
    try:
        while line := file.readline(MAX_LINE_BYTES + 1):
            size += len(line)
            if len(line) > MAX_LINE_BYTES or size > MAX_INPUT_BYTES:
                raise FailedPrecondition(
                    f"A line of batch input has {MAX_LINE_BYTES} bytes at most, a file {MAX_INPUT_BYTES}, "
                    "unpacked. Split it.",
                    field="prediction_input.input_paths",
                )
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FailedPrecondition(
            f"The gzipped input is damaged: {error}", field="prediction_input.input_paths"
        ) from error


def frames_of(path: Path, batch_size: int) -> Iterator[list[tuple[int, bytes]]]:
    """Cut a file of JSON lines, gzipped or not, into batches of numbered lines; blank lines do not count.

    Raises:
        FailedPrecondition: if a line is too long, or what is gzipped is damaged or too large.
    """
    batch: list[tuple[int, bytes]] = []
    size = 0
    with _open_lines(path) as file:
        for number, line in enumerate(_bounded_lines(file), start=1):
            line = line.strip().replace(b"\r", b" ")
            if not line:
                continue
            if batch and (len(batch) == batch_size or size + len(line) > FRAME_BYTES):
                yield batch
                batch, size = [], 0
            batch.append((number, line))
            size += len(line)
    if batch:
        yield batch


class Results:
    """The results of a batch, in local files until it is complete.

    Args:
        directory: The directory of the files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shards = [directory / "results-0"]
        self._shards[0].touch()
        self._errors = directory / "errors"
        self._errors.touch()
        self.num_predictions = 0
        self.num_errors = 0

    def add(self, lines: bytes, count: int, errors: list[str]) -> None:
        """Add the predictions of one frame, and the errors of its other lines."""
        if self._shards[-1].stat().st_size > SHARD_BYTES:
            self._shards.append(self._directory / f"results-{len(self._shards)}")
        with self._shards[-1].open("ab") as file:
            file.write(lines)
        shown = errors[: max(0, MAX_ERRORS - self.num_errors)]
        with self._errors.open("a") as text:
            text.writelines(json.dumps({"error": error, "count": 1}) + "\n" for error in shown)
        self.num_predictions += count
        self.num_errors += len(errors)

    def upload(self, storage: Storage, output_path: str) -> None:
        """Write the files of v1 into the bucket, the errors first: results imply complete output."""
        folder, unnamed = output_path.rstrip("/"), self.num_errors - MAX_ERRORS
        rest = {"error": "Further lines failed; they are not named.", "count": unnamed}
        last = json.dumps(rest) + "\n" if unnamed > 0 else ""
        storage.write_bytes(f"{folder}/{ERRORS}", self._errors.read_bytes() + last.encode())
        for index, shard in enumerate(self._shards):
            name = RESULTS.format(index, len(self._shards))
            storage.write_bytes(f"{folder}/{name}", shard.read_bytes())


class BatchPredictor:
    """Runs batch prediction jobs; a restarted job begins again.

    Args:
        storage: Where lines are read and results written.
        router: Finds the deployment of a version.
        pool: Loads the temporary worker of a job that names a `uri`.
        project: The project in resource names.
        scratch: Directory for unfinished files.
        limits: The limits of the temporary worker.
    """

    def __init__(
        self,
        storage: Storage,
        router: Router,
        pool: WorkerPool,
        *,
        project: str,
        scratch: Path,
        limits: RequestLimits,
    ) -> None:
        self._storage = storage
        self._router = router
        self._pool = pool
        self._project = project
        self._scratch = scratch
        self._limits = limits

    def clean(self) -> None:
        """Remove the unfinished files of an engine that was killed."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def run(self, job_id: str, value: PredictionInput) -> PredictionOutput:
        """Run one job and return its `predictionOutput`."""
        started = time.monotonic()
        uris = await asyncio.to_thread(expand_paths, self._storage, value.input_paths)
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            results = Results(Path(directory))
            async with self._predictor(job_id, value, Path(directory)) as predictor:
                for uri in uris:
                    await self._predict_file(uri, value, predictor, results)
            await asyncio.to_thread(results.upload, self._storage, value.output_path)
        return PredictionOutput(
            output_path=value.output_path,
            prediction_count=str(results.num_predictions),
            error_count=str(results.num_errors),
            node_hours=round((time.monotonic() - started) / 3600, 6),
        )

    @asynccontextmanager
    async def _predictor(
        self, job_id: str, value: PredictionInput, directory: Path
    ) -> AsyncIterator[Predictor]:
        if not value.uri:
            yield self._router.find(*split_version(value, self._project)).ask
            return
        field = "prediction_input.uri"
        await asyncio.to_thread(check_model_files, self._storage, value.uri, field=field)
        copy = directory / "model"
        await asyncio.to_thread(fetch_model, self._storage, value.uri, copy)

        async def fetch() -> Path:
            return copy

        deployment = Deployment(f"job {job_id}", fetch, self._pool, limits=self._limits)
        await deployment.start()
        try:
            yield deployment.ask
        finally:
            await deployment.close()

    async def _predict_file(
        self, uri: str, value: PredictionInput, predictor: Predictor, results: Results
    ) -> None:
        path = await asyncio.to_thread(self._storage.local_path, uri)
        batches = frames_of(path, value.batch_size)
        while batch := await asyncio.to_thread(next, batches, None):
            payload = b"\n".join(line for _, line in batch)
            request = WorkerRequest(
                kind=RequestKind.BATCH, payload=payload, signature_name=value.signature_name
            )
            reply = await predictor(request)
            errors = [f"{uri}:{batch[item.line][0]}: {item.error}" for item in reply.line_errors]
            await asyncio.to_thread(results.add, reply.payload, reply.count, errors)
