"""Fetch: bring the sources' pictures into the bucket, reading only what is new or changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack

from pipeline.artifacts.fetch_index import (
    FetchedRow,
    FetchIndex,
    RowSpool,
    index_uri,
    read_previous_index,
    write_index,
)
from pipeline.artifacts.steps import FetchResult
from pipeline.config import Classifier, SourceConfig
from pipeline.datasets.download import Downloads, Outcome, utc_now
from pipeline.datasets.fetcher import FetchPolicy, HttpClient, PictureFetcher
from pipeline.datasets.fetcher.robots import Robots
from pipeline.datasets.journal import Journal, JournalLine
from pipeline.datasets.progress import Progress
from pipeline.datasets.sources.registry import open_source
from pipeline.datasets.sources.secrets import find_secret
from pipeline.datasets.sources.source import ImageSource, SourceContext, SourceEntry
from pipeline.errors import FetchRefused
from pipeline.storage import Storage
from pipeline.types import JsonDict

POSITIONS = 1_000_000_000  # of each source: the second one's first entry is at this position


def fetch_pictures(
    classifier: Classifier,
    *,
    storage: Storage,
    workspace: str,
    chunk: int = 0,
    num_chunks: int = 1,
    policy: FetchPolicy | None = None,
    find_secret: Callable[[str], str] = find_secret,
) -> FetchResult:
    """Bring one chunk of a classifier's pictures into `blobs/` and write the chunk's fetch index.

    A file whose address and validator are those of the last run is not read again, and a picture of the
    network is asked for changes only. Blobs are created if absent, downloads are noted in a journal one by
    one, and the index is replaced at the very end: a killed fetch goes on where it was when it is run again.

    Args:
        classifier: Says where the pictures are.
        storage: Where blobs and index go.
        workspace: `gs://bucket` of both.
        chunk: Which part to fetch, 0 to num_chunks - 1.
        num_chunks: How many parts there are.
        policy: How the network may be used; as the environment and `dataset.fetch` say if None.
        find_secret: Returns the key that a connection holds.

    Returns:
        The index's URI; pictures found; files transferred from the sources; pictures not read again; those
        that a source names but does not give, by reason; requests for pictures.

    Raises:
        DatasetError: if a source cannot give a dataset; nothing is written then.
        StorageError: if reading or writing failed; transient.
    """
    policy = policy or FetchPolicy.from_environment(classifier.dataset.fetch, num_tasks=num_chunks)
    with ExitStack() as stack:
        chunk_fetch = _ChunkFetch(
            classifier, storage, workspace, chunk, num_chunks, policy, find_secret, stack
        )
        return chunk_fetch.run()


class _ChunkFetch:
    """One chunk's work: its parts and the rows so far."""

    def __init__(
        self,
        classifier: Classifier,
        storage: Storage,
        workspace: str,
        chunk: int,
        num_chunks: int,
        policy: FetchPolicy,
        find_secret: Callable[[str], str],
        stack: ExitStack,
    ) -> None:
        self._classifier = classifier
        self._storage = storage
        self._workspace = workspace
        self._chunk = chunk
        self._num_chunks = num_chunks
        self._policy = policy
        self._find_secret = find_secret
        name = classifier.name
        previous = read_previous_index(workspace, name, storage)
        known = [row for row in previous.rows if row.blob and self._has_blob(row.blob)]
        is_whole = len(known) == sum(bool(row.blob) for row in previous.rows)
        refused = [
            row for row in previous.rows if row.network and row.reason and (row.etag or row.last_modified)
        ]
        self._notes = previous.notes if is_whole else {}
        self._known = {(row.source_url, row.validator): row for row in known if not row.network}
        scratch = storage.scratch_path(f"{workspace}/datasets/{name}/journal")
        self._journal = Journal(scratch / f"{chunk:05d}-of-{num_chunks:05d}.jsonl")
        stack.callback(self._journal.close)
        self._client = HttpClient(policy)
        stack.callback(self._client.close)
        self._downloads = Downloads(
            PictureFetcher(
                self._client,
                keep=self._keep,
                parts=scratch / "parts",
                check_robots=Robots(self._client).check,
            ),
            self._journal,
            {row.source_url: row for row in (*known, *refused) if row.network},
            has_blob=self._has_blob,
            concurrency=policy.config.concurrency,
        )
        self._progress = Progress(f"{name}, chunk {chunk + 1} of {num_chunks}")
        self._rows = RowSpool()
        stack.callback(self._rows.close)
        self._statements: list[str] = []
        self._new_notes: JsonDict = {}
        self._transferred = 0
        self._requests = 0

    def run(self) -> FetchResult:
        for number, section in enumerate(self._classifier.dataset.all_sources):
            self._fetch_source(number, section)
        name, storage = self._classifier.name, self._storage
        uri = index_uri(self._workspace, name, self._chunk)
        head = FetchIndex(notes=self._new_notes, statements=self._statements, requests=self._requests)
        write_index(head, uri, storage, lines=self._rows.lines())
        self._journal.drop()
        _drop_indexes_beyond(self._num_chunks, storage, self._workspace, name)
        self._progress.say()
        refused = dict(sorted(self._progress.failures.items()))
        return FetchResult(
            index=uri,
            found=len(self._rows) - sum(refused.values()),
            downloaded=self._transferred,
            reused=self._progress.reused,
            refused=refused,
            requests=self._requests,
        )

    def _fetch_source(self, number: int, section: SourceConfig) -> None:
        self._downloads.begin(getattr(section, "limit_per_class", None))
        source = self._open(number, section)
        # A source that is one file gives everything in chunk 0: several of them share the chunks.
        entries = source.entries((self._chunk - number) % self._num_chunks, self._num_chunks)
        first = number * POSITIONS
        if section.is_network:
            before = self._progress.transferred
            for outcome in self._downloads.run(entries):
                self._add_download(outcome, first, section.type)
            source.transferred = self._progress.transferred - before
        else:
            for entry in entries:
                self._add_file(entry, first, section.type)
        self._transferred += source.transferred
        self._statements += source.statements
        if source.notes:
            self._new_notes[str(number)] = source.notes

    def _open(self, number: int, section: SourceConfig) -> ImageSource:
        previous = self._notes.get(str(number), {})
        context = SourceContext(
            storage=self._storage,
            previous=previous,
            policy=self._policy,
            is_alone=len(self._classifier.dataset.all_sources) == 1,
            is_full=self._downloads.is_full,
            find_secret=self._find_secret,
        )
        return open_source(section, context)

    def _add_download(self, outcome: Outcome, first: int, source_type: str) -> None:
        line = outcome.line
        self._requests += line.requests
        self._progress.note(reason=line.reason, is_new=outcome.num_bytes > 0, num_bytes=outcome.num_bytes)
        self._rows.add(_row(outcome.entry, line, first, source_type, network=True))

    def _add_file(self, entry: SourceEntry, first: int, source_type: str) -> None:
        old = self._known.get((entry.source_url, entry.validator))
        if entry.refused is not None:
            line = JournalLine(url=entry.source_url, reason=str(entry.refused))
        elif old is not None:
            line = JournalLine(url=entry.source_url, blob=old.blob, retrieved_at=old.retrieved_at)
        else:
            line = self._read(entry)
        self._progress.note(reason=line.reason, is_new=old is None)
        self._rows.add(_row(entry, line, first, source_type, network=False))

    def _read(self, entry: SourceEntry) -> JournalLine:
        try:
            data = entry.read() if entry.read is not None else b""
        except FetchRefused as error:
            return JournalLine(url=entry.source_url, reason=str(error.reason))
        return JournalLine(url=entry.source_url, blob=self._keep(data), retrieved_at=utc_now())

    def _keep(self, data: bytes) -> str:
        blob = hashlib.sha256(data).hexdigest()
        self._storage.create_bytes(f"{self._workspace}/blobs/{blob}", data)
        return blob

    def _has_blob(self, blob: str) -> bool:
        return self._storage.exists(f"{self._workspace}/blobs/{blob}")


def _drop_indexes_beyond(num_chunks: int, storage: Storage, workspace: str, name: str) -> None:
    for uri in storage.list_uris(f"{workspace}/datasets/{name}/fetched/"):
        if uri >= index_uri(workspace, name, num_chunks):
            storage.delete(uri)


def _row(entry: SourceEntry, line: JournalLine, first: int, source_type: str, *, network: bool) -> FetchedRow:
    return FetchedRow(
        position=first + entry.position,
        label=entry.label,
        source_url=entry.source_url,
        validator=entry.validator,
        blob=line.blob or "",
        retrieved_at=line.retrieved_at,
        group=entry.group,
        page_url=entry.page_url,
        creator=entry.creator,
        license=entry.license,
        license_url=entry.license_url,
        attribution=entry.attribution,
        etag=line.etag,
        last_modified=line.last_modified,
        source_type=source_type,
        network=network,
        reason=line.reason,
    )
