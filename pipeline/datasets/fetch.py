"""Fetch: bring the sources' pictures into the bucket, reading only what is new or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from pipeline.artifacts.fetch_index import FetchedRow, FetchHead, RowSpool, write_index
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.steps import FetchResult
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier, SourceConfig
from pipeline.config.labels import normalize_label
from pipeline.datasets.download import Downloads, Outcome, utc_now
from pipeline.datasets.fetcher import FetchPolicy, HttpClient, PictureFetcher
from pipeline.datasets.fetcher.robots import Robots
from pipeline.datasets.journal import Journal, JournalLine, open_journal
from pipeline.datasets.last_run import BlobStore, LastRun, read_last_run
from pipeline.datasets.progress import Progress
from pipeline.datasets.sources.registry import open_source
from pipeline.datasets.sources.secrets import find_secret
from pipeline.datasets.sources.source import ImageSource, SourceContext, SourceEntry
from pipeline.errors import FetchRefused
from pipeline.pixels.conversion import convert_picture, find_highest_level
from pipeline.types import JsonObject

POSITIONS = 1_000_000_000  # of each source: the second one's first entry is at this position


def fetch_pictures(
    workspace: Workspace,
    classifier: Classifier,
    *,
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
        workspace: Where blobs and index go.
        classifier: Where the pictures are.
        chunk: Which part to fetch, 0 to num_chunks - 1.
        num_chunks: How many parts there are.
        policy: How the network may be used; by default as the environment and `dataset.fetch` set it.
        find_secret: Returns the key that a connection holds.

    Returns:
        The index's URI; pictures of the chunk; files transferred from the sources; pictures not read again;
        those that a source names but does not give, by reason; requests for pictures.

    Raises:
        DatasetError: if a source cannot give a dataset; nothing is written then.
        StorageError: if reading or writing failed; transient.
    """
    policy = policy or FetchPolicy.from_environment(classifier.dataset.fetch, num_tasks=num_chunks)
    with open_chunk(workspace, classifier, chunk, num_chunks, policy, find_secret) as chunk_fetch:
        for number, section in enumerate(classifier.dataset.all_sources):
            chunk_fetch.fetch_source(number, section)
        return chunk_fetch.finish()


@contextmanager
def open_chunk(
    workspace: Workspace,
    classifier: Classifier,
    chunk: int,
    num_chunks: int,
    policy: FetchPolicy,
    find_secret: Callable[[str], str],
) -> Iterator[ChunkFetch]:
    """Open what fetching a chunk needs, and close it: the journal, the connections, and the rows' file."""
    dataset = workspace.dataset(classifier.name)
    blobs = BlobStore(workspace)
    last_run = read_last_run(dataset, blobs)
    scratch = workspace.storage.scratch_path(dataset.journal)
    with (
        closing(open_journal(dataset, chunk, num_chunks)) as journal,
        closing(HttpClient(policy)) as client,
        closing(RowSpool()) as rows,
    ):
        fetcher = PictureFetcher(
            client, keep=blobs.keep, parts=scratch / "parts", check_robots=Robots(client).check
        )
        yield ChunkFetch(
            workspace=workspace,
            classifier=classifier,
            chunk=chunk,
            num_chunks=num_chunks,
            policy=policy,
            find_secret=find_secret,
            blobs=blobs,
            last_run=last_run,
            journal=journal,
            downloads=Downloads(
                fetcher,
                journal,
                last_run.downloads,
                has_blob=blobs.has,
                concurrency=policy.config.concurrency,
            ),
            progress=Progress(f"{classifier.name}, chunk {chunk + 1} of {num_chunks}"),
            rows=rows,
        )


@dataclass(kw_only=True)
class ChunkFetch:
    """One chunk's work: what it uses, and its rows so far.

    Args:
        workspace: Where the index goes.
        classifier: Where the pictures are.
        chunk: Which part this is.
        num_chunks: How many parts there are.
        policy: How the network may be used.
        find_secret: Returns the key that a connection holds.
        blobs: Keeps picture files.
        last_run: What the last run of every chunk left.
        journal: What was done before this process was started.
        downloads: Gets the pictures of network sources.
        progress: Counts.
        rows: The chunk's rows.
        statements: What the sources want a reader of the dataset card to know.
        notes: Their own state for the next run.
        transferred: Files read from the sources.
        requests: HTTP requests for pictures.
        converted: Files of formats that the served models do not read, by format.
    """

    workspace: Workspace
    classifier: Classifier
    chunk: int
    num_chunks: int
    policy: FetchPolicy
    find_secret: Callable[[str], str]
    blobs: BlobStore
    last_run: LastRun
    journal: Journal
    downloads: Downloads
    progress: Progress
    rows: RowSpool
    statements: list[str] = field(default_factory=list)
    notes: dict[str, JsonObject] = field(default_factory=dict)
    transferred: int = 0
    requests: int = 0
    converted: Counter[str] = field(default_factory=Counter)

    def finish(self) -> FetchResult:
        """Replace the chunk's index; what the journal says is in it."""
        dataset = self.workspace.dataset(self.classifier.name)
        uri = dataset.fetch_index(self.chunk)
        head = FetchHead(
            notes=self.notes,
            statements=self.statements,
            requests=self.requests,
            converted=self.converted,
        )
        write_index(self.workspace.storage, uri, head, self.rows)
        self.journal.drop()
        _drop_indexes_beyond(dataset, self.num_chunks)
        self.progress.log()
        refused = dict(sorted(self.progress.failures.items()))
        return FetchResult(
            index=uri,
            found=len(self.rows) - sum(refused.values()),
            downloaded=self.transferred,
            reused=self.progress.reused,
            refused=refused,
            requests=self.requests,
        )

    def fetch_source(self, number: int, section: SourceConfig) -> None:
        """Fetch this chunk's part of one source.

        Args:
            number: The source's place in the dataset.
            section: Its section.
        """
        self.downloads.begin(getattr(section, "limit_per_class", None))
        source = self._open(number, section)
        # A source that is one file gives everything in chunk 0: several of them share the chunks.
        entries = source.entries((self.chunk - number) % self.num_chunks, self.num_chunks)
        first = number * POSITIONS
        if section.is_network:
            before = self.progress.transferred
            for outcome in self.downloads.run(self._without_files(entries, first, section.type)):
                self._add_download(outcome, first, section.type)
            source.transferred = self.progress.transferred - before
        else:
            for entry in entries:
                self._add_file(entry, first, section.type)
        self.transferred += source.transferred
        self.statements += source.statements
        if source.notes:
            self.notes[str(number)] = source.notes

    def _open(self, number: int, section: SourceConfig) -> ImageSource:
        context = SourceContext(
            storage=self.workspace.storage,
            previous=self.last_run.notes.get(str(number), {}),
            policy=self.policy,
            is_alone=self.classifier.dataset.has_one_source,
            may_descend=self.classifier.dataset.has_one_layout,
            uploads=self.workspace.uploads(self.classifier.name),
            feedback=self.workspace.feedback(self.classifier.name),
            is_full=self.downloads.is_full,
            find_secret=self.find_secret,
        )
        return open_source(section, context)

    def _without_files(
        self, entries: Iterator[SourceEntry], first: int, source_type: str
    ) -> Iterator[SourceEntry]:
        """Yield what is to be downloaded; read the files that a list names, up to the limit of a class."""
        for entry in entries:
            if entry.read is None:
                yield entry
            elif not self.downloads.is_full(entry.label):
                if self._add_file(entry, first, source_type):
                    self.downloads.count(entry.label)

    def _add_download(self, outcome: Outcome, first: int, source_type: str) -> None:
        line = outcome.line
        self.requests += line.requests
        self.progress.note(reason=line.reason, is_new=outcome.num_bytes > 0, num_bytes=outcome.num_bytes)
        self.rows.add(_row(outcome.entry, line, first, source_type, network=True))

    def _add_file(self, entry: SourceEntry, first: int, source_type: str) -> bool:
        """Read a file unless the last run did; return True if it gave a picture."""
        old = self.last_run.files.get((entry.source_url, entry.validator))
        if entry.refused is not None:
            line = JournalLine(url=entry.source_url, reason=str(entry.refused))
        elif old is not None:
            line = JournalLine(
                url=entry.source_url, blob=old.blob, retrieved_at=old.retrieved_at, levels=old.levels
            )
        else:
            line = self._read(entry)
        self.progress.note(reason=line.reason, is_new=old is None)
        self.rows.add(_row(entry, line, first, source_type, network=False))
        return line.blob is not None

    def _read(self, entry: SourceEntry) -> JournalLine:
        try:
            data = entry.read() if entry.read is not None else b""
        except FetchRefused as error:
            return JournalLine(url=entry.source_url, reason=str(error.reason))
        conversion = convert_picture(data)
        if conversion is not None:
            data = conversion.data
            more = " (the first of several pages or frames)" if conversion.has_more else ""
            self.converted[f"{conversion.format}{more}"] += 1
        return JournalLine(
            url=entry.source_url,
            blob=self.blobs.keep(data),
            retrieved_at=utc_now(),
            levels=find_highest_level(data),
        )


def _drop_indexes_beyond(dataset: DatasetFolder, num_chunks: int) -> None:
    for uri in dataset.storage.list_uris(dataset.fetch_indexes):
        if uri >= dataset.fetch_index(num_chunks):
            dataset.storage.delete(uri)


def _row(entry: SourceEntry, line: JournalLine, first: int, source_type: str, *, network: bool) -> FetchedRow:
    return FetchedRow(
        position=first + entry.position,
        label=normalize_label(entry.label),
        provenance=entry.provenance,
        validator=entry.validator,
        blob=line.blob or "",
        retrieved_at=line.retrieved_at,
        group=entry.group,
        given_split=entry.split,
        etag=line.etag,
        last_modified=line.last_modified,
        source_type=source_type,
        network=network,
        reason=line.reason,
        levels=line.levels,
    )
