"""Reads for pages: an object whose name never gets other content is read and parsed once."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from pipeline.artifacts.dataset import DatasetInfo, read_info, read_latest
from pipeline.artifacts.evaluated_run import EvaluatedRun
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder, JobDirectory
from pipeline.artifacts.history import HistoryEvent, number_versions
from pipeline.artifacts.manifest import COLUMNS, Manifest, ManifestRow
from pipeline.artifacts.metrics import Interval
from pipeline.artifacts.model_record import Lineage
from pipeline.artifacts.record import Record
from pipeline.artifacts.run_summary import RunSummary
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ObjectNotFound

if TYPE_CHECKING:
    from pipeline.explain.features import CachedFeatures, TrainingPictures

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Parsed = TypeVar("Parsed")
RecordType = TypeVar("RecordType", bound=Record)
# What finds near duplicates is most of a row, and no page shows it.
SHOWN = tuple(name for name in COLUMNS if name not in ("sketch", "phash", "colour"))
MAX_RECORDS = 20_000  # events and the like, about a kilobyte each


@dataclass(frozen=True, slots=True)
class TestAnswer:
    """A model's answer for a test picture: the most probable class and its probability."""

    __test__ = False

    taken_for: str
    score: float


class Cache(Generic[Key, Value]):
    """The values used last, by key; safe for several threads.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now if need be; two threads may both make it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        made = make()
        with self._lock:
            self._values[key] = made
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return made


class ArtifactCache:
    """What pages read of a workspace.

    Args:
        workspace: The bucket.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.storage = workspace, workspace.storage
        self.thumbnails: Cache[str, bytes] = Cache(4000)  # 5 kB each
        self._records: Cache[str, object] = Cache(MAX_RECORDS)
        self._manifests: Cache[str, tuple[ManifestRow, ...]] = Cache(4)  # a few megabytes each
        self._answers: Cache[str, Mapping[str, TestAnswer]] = Cache(4)  # 2 MB for ten thousand pictures
        self._features: Cache[str, CachedFeatures | None] = Cache(2)  # 50 MB for ten thousand pictures
        self.made: Cache[Hashable, object] = Cache(8)  # of these, by all that it was made of
        self._numbers: Cache[tuple[str, ...], Mapping[str, int]] = Cache(2000)  # by what a history holds

    def current(self, read: Callable[[], Parsed]) -> Parsed | None:
        """Return a record that may change, None where there is none."""
        try:
            return read()
        except ObjectNotFound:
            return None

    def fixed(self, uri: str, read: Callable[[], Parsed]) -> Parsed | None:
        """Return a record that is never written again, None where there is none yet."""
        try:
            return cast("Parsed", self._records.get(uri, read))
        except ObjectNotFound:
            return None

    def history(self, name: str, last: int | None = None) -> list[HistoryEvent]:
        """Return the events of a classifier, oldest first; the last ones alone if a number is given."""
        return self.numbered_history(name, last)[0]

    def numbered_history(
        self, name: str, last: int | None = None
    ) -> tuple[list[HistoryEvent], Mapping[str, int]]:
        """Return the events as `history` does, and the number of each version among all of them."""
        uris = tuple(self.storage.list_uris(self.workspace.classifier(name).history))
        first = 0 if last is None else max(0, len(uris) - last)
        events = (self._record(HistoryEvent, uri) for uri in uris[first:])
        numbers = self._numbers.get(uris, lambda: number_versions(uris))
        return [event for event in events if event is not None], numbers

    def has_comparison(self, name: str) -> bool:
        """Return whether models of a classifier were compared."""
        return self.storage.exists(self.workspace.classifier(name).comparison_page)

    def comparison_page(self, name: str) -> bytes | None:
        """Return the last model comparison as a page, None where there is none."""
        uri = self.workspace.classifier(name).comparison_page
        return self.current(lambda: self.storage.read_bytes(uri))

    def comparison_yaml(self, name: str) -> bytes | None:
        """Return the `model` section that the last comparison recommends, None if it is the present one."""
        uri = self.workspace.classifier(name).comparison_yaml
        return self.current(lambda: self.storage.read_bytes(uri))

    def _record(self, kind: type[RecordType], uri: str) -> RecordType | None:
        """Return a record that is never written again, None where there is none yet."""
        return self.fixed(uri, lambda: kind.read(self.storage, uri))

    def latest_dataset(self, name: str) -> DatasetInfo | None:
        """Return the last dataset version that the data gate let through."""
        version = read_latest(self.workspace.dataset(name)).version
        return self.dataset(name, version) if version else None

    def dataset(self, name: str, version: str) -> DatasetInfo | None:
        """Return a dataset version as a whole, None where there is none."""
        folder = self.workspace.dataset(name).version(version)
        return self.fixed(folder.info, lambda: read_info(folder))

    def manifest(self, dataset: DatasetVersionFolder) -> tuple[ManifestRow, ...]:
        """Return the rows of a dataset version without what finds near duplicates.

        Raises:
            ObjectNotFound: if there is no such version.
        """

        def read() -> tuple[ManifestRow, ...]:
            return tuple(Manifest(dataset).rows(columns=SHOWN))

        return self._manifests.get(dataset.uri, read)

    def training_pictures(self, dataset: DatasetVersionFolder, job: JobDirectory) -> TrainingPictures:
        """Return what a version was trained on; see `pipeline.explain.features`."""
        from pipeline.explain.features import TrainingPictures, feature_uris, read_features

        manifest = self.manifest(dataset)
        rows = {row.id: row for row in manifest if row.split == "train" and row.id is not None}
        cached = self._features.get(
            job.uri, lambda: read_features(job.storage, feature_uris(job), wanted=rows)
        )
        return TrainingPictures(rows=rows, cached=cached)

    def lineage(self, name: str, version: str) -> Lineage | None:
        """Return where a version comes from, None where it carries no lineage."""
        return self._record(Lineage, self.workspace.model(name, version).lineage)

    def evaluation(self, name: str, version: str) -> Evaluation | None:
        """Return the evaluation that a version carries, None where it carries none."""
        return self._record(Evaluation, self.workspace.model(name, version).evaluation)

    def accuracy_interval(self, name: str, version: str) -> Interval | None:
        """Return the interval of the accuracy in the evaluation that a version carries, None without one.

        A version is listed once its directory is complete, so what is missing then stays missing.
        """
        uri = self.workspace.model(name, version).evaluation

        def read() -> Interval | None:
            evaluation = Evaluation.find(self.storage, uri)
            return evaluation.candidate.accuracy_ci95 if evaluation else None

        return self.fixed(f"{uri}#accuracy_ci95", read)

    def test_answers(self, job: JobDirectory, classes: Sequence[str]) -> Mapping[str, TestAnswer]:
        """Return what a batch prediction job answered, by picture."""
        return self._answers.get(job.uri, lambda: dict(_read_answers(job, classes)))

    def summary(self, name: str, run_id: str, *, ended: datetime | None = None) -> RunSummary | None:
        """Return how a run ended, None while there is no summary.

        It is read once if the time is known at which the run ended: a run whose tasks are cleared ends anew.
        """
        uri = self.workspace.run(name, run_id).summary

        def read() -> RunSummary:
            return RunSummary.read(self.storage, uri)

        return self.fixed(f"{uri}#{ended.isoformat()}", read) if ended else self.current(read)

    def evaluated(self, name: str, run_id: str) -> EvaluatedRun | None:
        """Return where the report of a run is and what the gate decided, None until it is evaluated."""
        return EvaluatedRun.find(self.storage, self.workspace.run(name, run_id).evaluated)


def _read_answers(job: JobDirectory, classes: Sequence[str]) -> Iterator[tuple[str, TestAnswer]]:
    for uri in job.storage.list_uris(f"{job.predictions}/"):
        if uri.rpartition("/")[2].startswith("prediction.results"):
            for line in job.storage.read_bytes(uri).splitlines():
                row = json.loads(line)
                score = max(row["outputs"])
                yield row["key"], TestAnswer(classes[row["outputs"].index(score)], float(score))
